//! The matrix: one value for each of fourteen dimensions, and the geometry that follows from them.

use std::fmt;

use fvd::format::BaseUpdate;
use fvd::image::{CacheMode, DetectZeroes};

use crate::medium::SECTOR;
use crate::shape::{BLOCKS_OF_PAGE, CHUNKS_OF_PAGE, SEGMENT_PAGES, Shape};

/// Names of the dimensions and of their values.
pub const DIMENSIONS: [(&str, &[&str]); 14] = [
    ("compact", &["off", "on"]),
    ("prefetch", &["off", "on"]),
    ("copy-on-read", &["off", "on"]),
    (
        "block",
        &["7680", "512", "1024", "15872", "65536", "65024", "1048576", "1048064"],
    ),
    (
        "chunk",
        &["5", "1", "2", "3", "7", "9", "12", "16", "33", "99", SMALL_CHUNK],
    ),
    ("base", &["none", "smaller", "equal", "larger"]),
    ("I/O", &["small", "5 chunks"]),
    ("data file", &["no", "yes"]),
    ("journal", &["tiny", "default", "none"]),
    ("updates", &["no", "writethrough", "writeback", "writenocache"]),
    ("metadata", &["a page", "pages", "segments"]),
    ("ends", &["mixed", "kills", "cuts"]),
    ("syncs", &["all", "some unsafe"]),
    ("distance", &["near", "far"]),
];

const COMPACT: usize = 0;
const PREFETCH: usize = 1;
const COPY_ON_READ: usize = 2;
const BLOCK: usize = 3;
const CHUNK: usize = 4;
const BASE: usize = 5;
const IO: usize = 6;
const DATA_FILE: usize = 7;
const JOURNAL: usize = 8;
const UPDATES: usize = 9;
const METADATA: usize = 10;
const ENDS: usize = 11;
const SYNCS: usize = 12;
const DISTANCE: usize = 13;

/// A chunk size that is not a number of blocks.
const SMALL_CHUNK: &str = "4 KiB";

/// The index of "no base".
const NO_BASE: usize = 0;
/// The index of "no journal".
const NO_JOURNAL: usize = 2;
/// Several pages of the bitmap or the table, or several segments of one of them. A segment is read at once.
const PAGES: usize = 1;
const SEGMENTS: usize = 2;
/// Maximum size of a disk in bytes. Most of a large disk is a hole.
const MOST: u64 = 1 << 29;

/// How most sessions end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// In any way.
    Mixed,
    /// The process dies, and a new process starts on the same machine.
    Kills,
    /// The power is cut.
    Cuts,
}

/// A point of the matrix: the index of a value in each dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case(pub [usize; DIMENSIONS.len()]);

impl Case {
    /// A random possible point. The values of a dimension are about equally likely.
    #[must_use]
    pub fn random(rng: &mut fastrand::Rng) -> Self {
        let mut case = Self([0; DIMENSIONS.len()]);
        for (value, (_, values)) in case.0[..UPDATES].iter_mut().zip(DIMENSIONS) {
            *value = rng.usize(..values.len());
        }
        if case.0[BASE] == NO_BASE {
            // Without a base, half of the matrix has no effect, so make that less likely.
            case.0[BASE] = rng.usize(..DIMENSIONS[BASE].1.len());
        }
        if case.chunk() == SMALL_CHUNK && rng.bool() {
            // Such chunks are meant for large blocks.
            case.0[BLOCK] = DIMENSIONS[BLOCK].1.len() - 1 - rng.usize(..2);
        }
        if case.0[BASE] == NO_BASE {
            case.0[PREFETCH] = 0;
            case.0[COPY_ON_READ] = 0;
        }
        case.0[ENDS] = rng.usize(..DIMENSIONS[ENDS].1.len());
        case.0[SYNCS] = usize::from(rng.u8(..4) == 0);
        case.0[DISTANCE] = usize::from(case.0[BASE] != NO_BASE && rng.u8(..3) == 0);
        case.with_metadata(rng).with_updates(rng)
    }

    /// How most sessions end.
    #[must_use]
    pub fn ends(&self) -> Ends {
        [Ends::Mixed, Ends::Kills, Ends::Cuts][self.0[ENDS]]
    }

    /// Whether some sessions do not sync.
    #[must_use]
    pub fn has_unsafe_sessions(&self) -> bool {
        self.0[SYNCS] == 1
    }

    /// Whether the base is remote: each read of it is slow, and other operations continue meanwhile.
    #[must_use]
    pub fn is_far(&self) -> bool {
        self.0[DISTANCE] == 1
    }

    /// Makes one disk in four large, with small blocks or chunks: more than a page of metadata.
    fn with_metadata(mut self, rng: &mut fastrand::Rng) -> Self {
        if rng.u8(..4) > 0 {
            return self;
        }
        self.0[METADATA] = [PAGES, PAGES, SEGMENTS][rng.usize(..3)];
        while !self.has_metadata() {
            match rng.u8(..3) {
                // 512 or 1024 bytes.
                0 => self.0[BLOCK] = rng.usize(1..3),
                1 => self.0[COMPACT] = 1,
                _ => self.0[CHUNK] = DIMENSIONS[CHUNK].1.len() - 1,
            }
        }
        self
    }

    /// Whether a disk can be large enough for that much metadata.
    fn has_metadata(&self) -> bool {
        self.0[METADATA] == 0 || !self.metadata_units().is_empty()
    }

    /// Bytes of the disk that one page (or segment) of the bitmap, and of the table, describes. Leaves out
    /// one that a disk cannot have more than one of.
    fn metadata_units(&self) -> Vec<u64> {
        let scale = if self.0[METADATA] == SEGMENTS { SEGMENT_PAGES } else { 1 };
        let bitmap = (self.0[BASE] != NO_BASE).then(|| self.number(BLOCK) * BLOCKS_OF_PAGE * scale);
        let table = self.compact().then(|| self.chunk_size() * CHUNKS_OF_PAGE * scale);
        let units = bitmap.into_iter().chain(table);
        units.filter(|unit| *unit < MOST).collect()
    }

    /// Makes one in three of the images that can write to their base do so.
    fn with_updates(mut self, rng: &fastrand::Rng) -> Self {
        // A generator of its own, so that the runs of other seeds do not change.
        let mut rng = own(rng, 1);
        if self.can_update() && rng.u8(..3) == 0 {
            self.0[UPDATES] = rng.usize(1..DIMENSIONS[UPDATES].1.len());
        }
        self
    }

    /// Writing to the base requires a base and a journal.
    fn can_update(&self) -> bool {
        self.0[BASE] != NO_BASE && self.0[JOURNAL] != NO_JOURNAL
    }

    /// Whether the values are compatible; for example, copying from a base requires a base.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        let copies = self.prefetch() || self.copy_on_read();
        let has_what_it_needs =
            (self.0[BASE] != NO_BASE || !(copies || self.is_far())) && (self.0[UPDATES] == 0 || self.can_update());
        has_what_it_needs && self.has_metadata()
    }

    /// Whether the dimension has an effect here.
    #[must_use]
    pub fn matters(&self, dimension: usize) -> bool {
        match dimension {
            BLOCK => self.0[BASE] != NO_BASE,
            CHUNK => self.compact(),
            _ => true,
        }
    }

    fn number(&self, dimension: usize) -> u64 {
        let text = DIMENSIONS[dimension].1[self.0[dimension]];
        text.parse().expect("these are numbers")
    }

    fn chunk(&self) -> &'static str {
        DIMENSIONS[CHUNK].1[self.0[CHUNK]]
    }

    fn compact(&self) -> bool {
        self.0[COMPACT] == 1
    }

    /// Whether prefetch is enabled.
    #[must_use]
    pub fn prefetch(&self) -> bool {
        self.0[PREFETCH] == 1
    }

    fn copy_on_read(&self) -> bool {
        self.0[COPY_ON_READ] == 1
    }

    /// Whether requests are up to five chunks (or blocks) long.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.0[IO] == 1
    }

    /// A number of blocks, or so small that a block touches more chunks than one journal sector has room for.
    fn chunk_size(&self) -> u64 {
        match self.chunk() {
            SMALL_CHUNK => 4096,
            _ => (self.number(BLOCK) * self.number(CHUNK)).next_multiple_of(4096),
        }
    }

    /// A random image of this kind.
    #[must_use]
    pub fn shape(&self, rng: &mut fastrand::Rng) -> Shape {
        let block_size = self.number(BLOCK);
        let chunk_size = self.chunk_size();
        let compact = self.compact();
        let unit = block_size.max(if compact { chunk_size } else { 0 });
        let mut virtual_size = virtual_size(rng, unit);
        if compact && self.chunk() == SMALL_CHUNK {
            // A block shows this behaviour only once, so the disk needs several.
            virtual_size = virtual_size.max(unit * rng.u64(4..8));
        }
        let units = self.metadata_units();
        if self.0[METADATA] > 0 {
            // The disk ends after the first metadata edge, or after the second one.
            let edge = units[rng.usize(..units.len())] * [1, 1, 1, 2][rng.usize(..4)];
            virtual_size = virtual_size.max(edge + rng.u64(1..1 << 20) / SECTOR * SECTOR + SECTOR);
        }
        let base_size = self.base_size(rng, virtual_size);
        let small = virtual_size <= 512 << 10 && self.0[JOURNAL] != 1;
        let sparse = base_size.is_some() && !compact && rng.u8(..8) == 0;
        Shape {
            virtual_size,
            base_size,
            block_size,
            compact,
            chunk_size,
            grow_unit: chunk_size * [1, 2, 5][rng.usize(..3)],
            journal_size: [4096, 0, -1][self.0[JOURNAL]],
            data_file: self.0[DATA_FILE] == 1,
            device: small && rng.u8(..6) == 0,
            detect_sparse_hole: sparse.then(|| [512, 4096, 65_536][rng.usize(..3)]),
            copy_on_read: self.copy_on_read(),
            prefetch: self.prefetch(),
            updates: BaseUpdate::ALL[self.0[UPDATES]],
            cache: match rng.u8(..8) {
                0 => CacheMode::Writethrough,
                1 => CacheMode::Unsafe,
                _ => CacheMode::Writeback,
            },
            detect_zeroes: match own(rng, 2).u8(..8) {
                0 => DetectZeroes::On,
                1 => DetectZeroes::Unmap,
                _ => DetectZeroes::Off,
            },
        }
    }

    fn base_size(&self, rng: &mut fastrand::Rng, virtual_size: u64) -> Option<u64> {
        match self.0[BASE] {
            NO_BASE => None,
            // An image with several pages of bitmap mostly uses all of them.
            1 if self.0[METADATA] > 0 && rng.bool() => Some(virtual_size - rng.u64(1..(64 << 10).min(virtual_size))),
            1 => Some(match rng.u8(..3) {
                // The end may lie within a sector or a block, or the base may have only a few blocks.
                0 => rng.u64(1..virtual_size),
                1 => (rng.u64(1..virtual_size) / SECTOR * SECTOR).max(SECTOR),
                _ => rng.u64(1..virtual_size.min(256 << 10)),
            }),
            2 => Some(virtual_size),
            _ => Some(virtual_size + rng.u64(1..100_000)),
        }
    }
}

/// A separate generator for one purpose. Drawing from it does not change the numbers drawn later from `rng`.
fn own(rng: &fastrand::Rng, purpose: u64) -> fastrand::Rng {
    fastrand::Rng::with_seed(rng.get_seed() ^ purpose.rotate_right(8))
}

/// A size with room for several blocks and chunks of at most `unit` bytes, but not much more.
fn virtual_size(rng: &mut fastrand::Rng, unit: u64) -> u64 {
    let size = match unit {
        0..32_768 => rng.u64(64 << 10..512 << 10),
        32_768..524_288 => unit * 2 + rng.u64(..unit * 3),
        524_288..8_388_608 => unit + rng.u64(..unit * 2),
        _ => unit + rng.u64(..unit / 2),
    };
    size / SECTOR * SECTOR
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gap = "";
        for (dimension, (name, values)) in DIMENSIONS.iter().enumerate() {
            if self.matters(dimension) {
                write!(f, "{gap}{name} {}", values[self.0[dimension]])?;
                gap = ", ";
            }
        }
        Ok(())
    }
}
