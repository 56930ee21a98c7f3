//! The disks of one image: created once, then opened any number of times, also after power cuts.

use std::ops::Range;
use std::slice::from_ref;

use fvd::Result;
use fvd::image::{CacheMode, Image, OpenOptions, create, read_head, read_head_to_write};
use fvd::source::{BaseSource, RawSource};
use fvd::storage::{IoBufMut, Storage};

use crate::disk::SimDisk;
use crate::executor::run_now;
use crate::medium::Medium;
use crate::shape::Shape;
use crate::world::World;

/// The engine under test: the shipped one, on simulated disks.
pub type SimImage = Image<SimDisk>;

/// Handles to the disks. The order in the world is: image, base, data file.
#[derive(Clone)]
pub struct Rig {
    /// What the image is like.
    pub shape: Shape,
    /// The file with the metadata.
    pub file: SimDisk,
    /// The base; empty if there is none.
    pub base: SimDisk,
    /// The separate data file; unused without one.
    pub data: SimDisk,
}

/// A base of up to this many bytes is random throughout. A larger one is random only around its landmarks.
const RANDOM_BASE: u64 = 2 << 20;
/// Maximum number of random bytes on either side of a landmark.
const ISLAND: u64 = 192 << 10;

/// Places on a disk where something changes: ends, and the edges of some blocks and chunks.
#[must_use]
pub fn landmarks(shape: &Shape, seed: u64) -> Vec<u64> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let last = shape.virtual_size - 1;
    let mut places = vec![0, shape.base_size.unwrap_or(0), last];
    for _ in 0..4 {
        places.push(rng.u64(..=last / shape.block_size) * shape.block_size);
        if shape.compact {
            let chunk = rng.u64(..=last / shape.chunk_size) * shape.chunk_size;
            places.push(chunk);
            // The block that crosses the start of the chunk, if one does.
            places.push(chunk / shape.block_size * shape.block_size);
        }
    }
    places.extend(shape.metadata_edges());
    for place in &mut places {
        *place = last.min(*place);
    }
    places.sort_unstable();
    places.dedup();
    places
}

/// The ranges of a base that hold data. A large base has holes between them.
#[must_use]
pub fn islands(shape: &Shape, seed: u64) -> Vec<Range<u64>> {
    let size = shape.base_size.unwrap_or(0);
    if size <= RANDOM_BASE {
        return std::iter::once(0..size).collect();
    }
    let mut rng = fastrand::Rng::with_seed(!seed);
    let landmarks = landmarks(shape, seed);
    // There are many islands near the edges of metadata pages, so each is small. Otherwise islands are as
    // large as a block.
    let most = if shape.metadata_edges().is_empty() {
        ISLAND
    } else {
        ISLAND / 8
    };
    let mut island = |place: u64| {
        let start = place.saturating_sub(rng.u64(..most)).min(size);
        start..(place + rng.u64(1..most)).min(size)
    };
    landmarks.into_iter().map(&mut island).collect()
}

/// The bytes of a base: random, except for holes in a large one and where the engine searches for zeros.
#[must_use]
pub fn base_content(shape: &Shape, seed: u64) -> Medium {
    let mut rng = fastrand::Rng::with_seed(seed);
    let size = shape.base_size.unwrap_or(0);
    let mut medium = Medium::default();
    medium.set_size(size);
    for island in islands(shape, seed) {
        let mut bytes = vec![0; (island.end - island.start) as usize];
        rng.fill(&mut bytes);
        medium.write(&bytes, island.start);
    }
    if shape.detect_sparse_hole.is_some() {
        for _ in 0..3 {
            let start = rng.u64(..size) / 4096 * 4096;
            medium.zero(start, size.min(start + rng.u64(..64 << 10)));
        }
    }
    medium
}

impl Rig {
    /// Creates an image, durably. Returns it with the content of its disk.
    ///
    /// # Panics
    ///
    /// If the engine refuses to create it.
    #[must_use]
    pub fn create(shape: &Shape, seed: u64) -> (Self, Vec<u8>) {
        let (rig, content) = Self::create_sparse(shape, seed);
        let mut bytes = vec![0; content.size() as usize];
        content.read(&mut bytes, 0);
        (rig, bytes)
    }

    /// As [`Rig::create`], for a disk that may be large.
    ///
    /// # Panics
    ///
    /// If the engine refuses to create it.
    #[must_use]
    pub fn create_sparse(shape: &Shape, seed: u64) -> (Self, Medium) {
        let world = World::seeded(seed);
        let base = base_content(shape, seed);
        let mut content = base.clone();
        content.set_size(shape.virtual_size);
        let mut rubbish = vec![0; if shape.device { shape.device_size() as usize } else { 0 }];
        fastrand::Rng::with_seed(!seed).fill(&mut rubbish);
        let rubbish = Medium::from_bytes(&rubbish);
        let is_device = |is_data: bool| shape.device && shape.data_file == is_data;
        let room = |is_data| {
            if is_device(is_data) {
                rubbish.clone()
            } else {
                Medium::default()
            }
        };
        let rig = Self {
            shape: shape.clone(),
            file: SimDisk::new(&world, "image", room(false), is_device(false)),
            base: SimDisk::file(&world, "base", base),
            data: SimDisk::new(&world, "data", room(true), is_device(true)),
        };
        let data = shape.data_file.then_some(&rig.data);
        let source = run_now(RawSource::new(rig.base.clone())).expect("no faults yet");
        let source: &dyn BaseSource = &source;
        let header = run_now(create(&rig.file, data, &shape.create_options(), Some(source)));
        let header = header.expect("every shape can be created");
        run_now(rig.file.sync()).expect("no faults yet");
        run_now(rig.data.sync()).expect("no faults yet");
        let data_start = if shape.data_file {
            u64::MAX
        } else {
            header.metadata_size
        };
        rig.file.set_data_start(data_start);
        (rig, content)
    }

    /// The same image on other disks, such as those that a power cut left.
    #[must_use]
    pub fn on(&self, world: &World, media: &[Medium]) -> Self {
        let is_device = |is_data: bool| self.shape.device && self.shape.data_file == is_data;
        let rig = Self {
            shape: self.shape.clone(),
            file: SimDisk::new(world, "image", media[self.file.id()].clone(), is_device(false)),
            base: SimDisk::file(world, "base", media[self.base.id()].clone()),
            data: SimDisk::new(world, "data", media[self.data.id()].clone(), is_device(true)),
        };
        rig.file.set_data_start(self.data_start());
        rig
    }

    /// The same image in a copy of its world, including the content of the caches.
    #[must_use]
    pub fn copy(&self, seed: u64) -> Self {
        let world = self.file.world().copy(seed);
        Self {
            shape: self.shape.clone(),
            file: self.file.within(&world),
            base: self.base.within(&world),
            data: self.data.within(&world),
        }
    }

    fn data_start(&self) -> u64 {
        self.file.world().state().disks[self.file.id()].data_start
    }

    /// The disks as they are now.
    #[must_use]
    pub fn media(&self) -> Vec<Medium> {
        vec![self.file.content(), self.base.content(), self.data.content()]
    }

    /// Opens the image.
    pub async fn open(&self, writable: bool, cache: CacheMode) -> Result<SimImage> {
        let head = if writable {
            read_head_to_write(&self.file).await?
        } else {
            read_head(&self.file).await?
        };
        let mut base: Option<Box<dyn BaseSource>> = None;
        if head.needs_base() {
            let disk = self.base.clone();
            base = Some(Box::new(if writable && self.shape.writes_base() {
                RawSource::for_writing(disk).await?
            } else {
                RawSource::new(disk).await?
            }));
        }
        let data = self.shape.data_file.then(|| self.data.clone());
        let options = OpenOptions {
            writable,
            cache,
            copy_on_read: Some(self.shape.copy_on_read),
            detect_zeroes: self.shape.detect_zeroes,
            ..OpenOptions::default()
        };
        Image::open(self.file.clone(), head, data, base, options).await
    }
}

/// The whole content of the disk.
pub async fn read_all(image: &SimImage) -> Result<Vec<u8>> {
    read_ranges(image, from_ref(&(0..image.size()))).await
}

/// The bytes of some ranges of the disk, one range after the other.
pub async fn read_ranges(image: &SimImage, ranges: &[Range<u64>]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for range in ranges {
        let len = (range.end - range.start) as usize;
        let buf = image.read(IoBufMut::zeroed(len), range.start).await?;
        bytes.extend_from_slice(buf.as_slice());
    }
    Ok(bytes)
}
