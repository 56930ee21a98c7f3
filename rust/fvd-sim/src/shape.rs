//! Geometries of images, drawn at random from the sizes that are hard to handle.

use std::fmt;

use fvd::format::{BaseUpdate, LayoutOptions};
use fvd::image::{CacheMode, CreateOptions, DetectZeroes};

use crate::medium::SECTOR;

/// Blocks whose bits lie on one page of the bitmap.
pub(crate) const BLOCKS_OF_PAGE: u64 = 4096 * 8;
/// Chunks whose entries lie on one page of the table.
pub(crate) const CHUNKS_OF_PAGE: u64 = 4096 / 4;
/// Pages that the engine reads at once: a segment of 64 KiB.
pub(crate) const SEGMENT_PAGES: u64 = 16;

/// Everything that is fixed when an image is created, and the options of its opens.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Shape {
    /// Size of the disk in bytes.
    pub virtual_size: u64,
    /// Size of the base in bytes, not necessarily a multiple of anything. `None`: no base.
    pub base_size: Option<u64>,
    /// Block size in bytes.
    pub block_size: u64,
    /// Whether the image has a table (compact).
    pub compact: bool,
    /// Chunk size in bytes.
    pub chunk_size: u64,
    /// Bytes by which the file of a compact image grows.
    pub grow_unit: u64,
    /// As the option `journal_size`: negative for none, 0 for the default.
    pub journal_size: i64,
    /// Whether the data is in a separate file.
    pub data_file: bool,
    /// Whether the data is on a device, which initially holds random bytes.
    pub device: bool,
    /// Length in bytes of the regions that are searched for zeros.
    pub detect_sparse_hole: Option<u64>,
    /// Whether copy-on-read is enabled.
    pub copy_on_read: bool,
    /// Whether prefetch is enabled.
    pub prefetch: bool,
    /// In which mode writes go to the base.
    pub updates: BaseUpdate,
    /// When writes become durable.
    pub cache: CacheMode,
    /// How writes of zeros are handled.
    pub detect_zeroes: DetectZeroes,
}

fn pick<T: Copy>(rng: &mut fastrand::Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())]
}

impl Shape {
    /// A plain image of 128 KiB with a small journal and no base: the default for tests.
    #[must_use]
    pub fn small() -> Self {
        Self {
            virtual_size: 128 << 10,
            base_size: None,
            block_size: 512,
            compact: false,
            chunk_size: 64 << 10,
            grow_unit: 64 << 10,
            journal_size: 4096,
            data_file: false,
            device: false,
            detect_sparse_hole: None,
            copy_on_read: false,
            prefetch: false,
            updates: BaseUpdate::No,
            cache: CacheMode::Writeback,
            detect_zeroes: DetectZeroes::Off,
        }
    }

    /// The range, widened to whole chunks, unless the image is not compact or the result exceeds `most`
    /// bytes.
    #[must_use]
    pub fn whole_chunks(&self, offset: u64, len: u64, most: u64) -> (u64, u64) {
        let start = offset / self.chunk_size * self.chunk_size;
        let end = (offset + len).next_multiple_of(self.chunk_size).min(self.virtual_size);
        if !self.compact || end - start > most {
            return (offset, len);
        }
        (start, end - start)
    }

    /// Offsets on the disk where one page of the bitmap or the table ends and the next one begins: the first
    /// two, the last one, and the first two between segments.
    #[must_use]
    pub fn metadata_edges(&self) -> Vec<u64> {
        let bitmap = (self.base_img_size(), self.block_size * BLOCKS_OF_PAGE);
        let table = (self.virtual_size, self.chunk_size * CHUNKS_OF_PAGE);
        let mut edges = Vec::new();
        for (end, page) in [bitmap].into_iter().chain(self.compact.then_some(table)) {
            // A region that ends exactly with a page has no edge there.
            let pages = end.saturating_sub(1) / page;
            let segments = (SEGMENT_PAGES..=pages).step_by(SEGMENT_PAGES as usize).take(2);
            let numbers = [1, 2, pages].into_iter().filter(|number| (1..=pages).contains(number));
            edges.extend(numbers.chain(segments).map(|number| number * page));
        }
        edges.sort_unstable();
        edges.dedup();
        edges
    }

    /// A random geometry.
    #[must_use]
    pub fn random(rng: &mut fastrand::Rng) -> Self {
        let compact = rng.u8(..10) < 6;
        let crowded = compact && rng.u8(..8) == 0;
        let (block_size, chunk_size) = if crowded {
            // Blocks that touch more chunks than one journal sector has room for.
            (pick(rng, &[512 << 10, 1 << 20, 500 << 10]), 4096)
        } else {
            let block = pick(rng, &[512, 1024, 7680, 15_872, 65_024, 65_536]);
            (block, pick(rng, &[4096, 8192, 12_288, 65_536, 1 << 20]))
        };
        let sizes: &[u64] = if crowded {
            &[1024, 1536]
        } else {
            &[64, 128, 200, 384, 512]
        };
        let virtual_size = pick(rng, sizes) * 1024 + rng.u64(..8) * SECTOR;
        let base_size = Self::base(rng, virtual_size, crowded);
        let sparse = base_size.is_some() && !compact && rng.u8(..4) == 0;
        Self {
            virtual_size,
            base_size,
            block_size,
            compact,
            chunk_size,
            grow_unit: chunk_size * pick(rng, &[1, 2, 5, 100]),
            journal_size: pick(rng, &[4096, 4096, 8192, 8192, 0, -1]),
            data_file: rng.u8(..3) == 0,
            device: rng.u8(..6) == 0,
            detect_sparse_hole: sparse.then(|| pick(rng, &[512, 4096, 65_536])),
            copy_on_read: base_size.is_some() && rng.bool(),
            prefetch: false,
            updates: BaseUpdate::No,
            cache: if rng.u8(..4) == 0 {
                CacheMode::Writethrough
            } else {
                CacheMode::Writeback
            },
            detect_zeroes: DetectZeroes::Off,
        }
        .with_updates(rng)
    }

    /// Makes some images write to their base, if they can.
    fn with_updates(self, rng: &fastrand::Rng) -> Self {
        // A generator of its own, so that the runs of other seeds do not change.
        let mut rng = fastrand::Rng::with_seed(rng.get_seed() ^ 0x5EED_BA5E);
        let can = self.base_size.is_some() && self.journal_size >= 0;
        if !can || rng.u8(..3) > 0 {
            return self;
        }
        let updates = pick(&mut rng, &BaseUpdate::ALL[1..]);
        Self { updates, ..self }
    }

    /// The same image with writes to the base in this mode, and with a base and a journal, which that
    /// requires.
    #[must_use]
    pub fn updating(self, updates: BaseUpdate) -> Self {
        Self {
            base_size: self.base_size.or(Some(self.virtual_size)),
            journal_size: self.journal_size.max(0),
            updates,
            ..self
        }
    }

    /// Whether writes go to the base, immediately or later.
    #[must_use]
    pub fn writes_base(&self) -> bool {
        self.updates != BaseUpdate::No
    }

    /// Bytes of the base that the image uses.
    #[must_use]
    pub fn base_img_size(&self) -> u64 {
        let size = self.base_size.unwrap_or(0).next_multiple_of(SECTOR);
        size.min(self.virtual_size)
    }

    fn base(rng: &mut fastrand::Rng, virtual_size: u64, crowded: bool) -> Option<u64> {
        match rng.u8(..8) {
            0 | 1 if !crowded => None,
            2 | 3 => Some(virtual_size),
            4 => Some(virtual_size + rng.u64(1..100_000)),
            // Shorter; the end may lie within a sector or a block.
            5 | 6 => Some(rng.u64(1..virtual_size)),
            _ => Some((rng.u64(1..virtual_size) / SECTOR * SECTOR).max(SECTOR)),
        }
    }

    /// The options for `fvd::image::create`.
    #[must_use]
    pub fn create_options(&self) -> CreateOptions {
        CreateOptions {
            layout: LayoutOptions {
                virtual_size: self.virtual_size,
                base_size: self.base_size,
                block_size: self.base_size.map(|_| self.block_size),
                compact: self.compact,
                chunk_size: self.compact.then_some(self.chunk_size),
                storage_grow_unit: self.compact.then_some(self.grow_unit),
                journal_size: Some(self.journal_size),
                prefetch_profile_size: self.base_size.map(|_| 4096),
            },
            base_img: self.base_size.map_or("", |_| "base").into(),
            base_img_fmt: self.base_size.map_or("", |_| "raw").into(),
            data_file: if self.data_file { "data".into() } else { "".into() },
            data_file_fmt: if self.data_file { "raw".into() } else { String::new() },
            detect_sparse_hole: self.detect_sparse_hole,
            generate_prefetch_profile: self.base_size.is_some(),
            write_updates_base_img: self.updates,
            ..CreateOptions::default()
        }
    }

    /// Size in bytes of a device with room for the data and, unless there is a data file, the metadata.
    #[must_use]
    pub fn device_size(&self) -> u64 {
        let metadata = if self.journal_size == 0 { 17 << 20 } else { 128 << 10 };
        let data = self.virtual_size.next_multiple_of(self.chunk_size.max(4096));
        metadata + data
    }

    /// Names of the features of the geometry, to count what the tests have covered.
    #[must_use]
    pub fn features(&self) -> Vec<String> {
        let mut names = vec![format!("block {}", self.block_size)];
        names.push(match self.base_size {
            None => "base none".into(),
            Some(size) if size < self.virtual_size => "base smaller".into(),
            Some(size) if size == self.virtual_size => "base equal".into(),
            Some(_) => "base larger".into(),
        });
        if self.base_size.is_some_and(|size| !size.is_multiple_of(SECTOR)) {
            names.push("base odd".into());
        }
        names.push(if self.compact {
            format!("chunk {}", self.chunk_size)
        } else {
            "not compact".into()
        });
        names.push(match self.journal_size {
            0 => "journal default".into(),
            size if size < 0 => "journal none".into(),
            size => format!("journal {size}"),
        });
        names.push(if self.data_file {
            "data file".into()
        } else {
            "data inside".into()
        });
        if self.device {
            names.push("device".into());
        }
        if self.detect_sparse_hole.is_some() {
            names.push("detect_sparse_hole".into());
        }
        if self.copy_on_read {
            names.push("copy_on_read".into());
        }
        if self.prefetch {
            names.push("prefetch".into());
        }
        if self.writes_base() {
            names.push(format!("base {}", self.updates.name()));
        }
        if self.detect_zeroes != DetectZeroes::Off {
            names.push(format!("detect_zeroes {:?}", self.detect_zeroes).to_lowercase());
        }
        names.push(format!("{:?}", self.cache).to_lowercase());
        names
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "size {}, {}", self.virtual_size, self.features().join(", "))?;
        if let Some(size) = self.base_size {
            write!(f, ", base size {size}")?;
        }
        Ok(())
    }
}
