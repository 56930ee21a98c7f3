//! qcow2 images with every feature.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::{TempDir, tempdir};

/// Size of every disk in bytes.
pub(crate) const SIZE: u64 = 2 << 20;

/// How they are made. All files are in the same folder.
const MAKES: [(&str, &[&str]); 6] = [
    ("v2", &["-o", "compat=0.10,cluster_size=512"]),
    ("zlib", &["-o", "cluster_size=4k"]),
    ("zstd", &["-o", "cluster_size=64k,compression_type=zstd"]),
    (
        "subclusters",
        &["-o", "cluster_size=16k,extended_l2=on,compression_type=zstd"],
    ),
    ("data-file", &["-o", "cluster_size=4k,data_file=data"]),
    ("overlay", &["-o", "cluster_size=512", "-b", "zstd", "-F", "qcow2"]),
];

/// An image in a file, which is broken and restored in place.
pub(crate) struct Sample {
    /// Lives as long as any of the samples.
    _folder: Arc<TempDir>,
    path: PathBuf,
    file: File,
    pub(crate) good: Vec<u8>,
    pub(crate) layout: Layout,
}

/// Offset and length in bytes of its tables and of its compressed clusters.
pub(crate) struct Layout {
    pub(crate) cluster_size: usize,
    pub(crate) l1: (usize, usize),
    pub(crate) l2: Vec<(usize, usize)>,
    pub(crate) compressed: Vec<(usize, usize)>,
}

/// The changes of an image.
#[derive(Default)]
pub(crate) struct Broken {
    /// Offsets and lengths of the changed ranges.
    pub(crate) changed: Vec<(usize, usize)>,
}

impl Sample {
    fn new(folder: &Arc<TempDir>, name: &str) -> Self {
        let path = folder.path().join(name);
        let good = std::fs::read(&path).unwrap();
        Self {
            _folder: Arc::clone(folder),
            file: File::options().write(true).open(&path).unwrap(),
            path,
            layout: Layout::of(&good),
            good,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes bytes, as many as lie within the file.
    pub(crate) fn put(&self, broken: &mut Broken, at: usize, bytes: &[u8]) {
        let at = at.min(self.good.len());
        let len = bytes.len().min(self.good.len() - at);
        self.file.write_all_at(&bytes[..len], at as u64).unwrap();
        broken.changed.push((at, len));
    }

    /// Shortens the file, or makes it end in a hole.
    pub(crate) fn resize(&self, broken: &mut Broken, len: u64) {
        self.file.set_len(len).unwrap();
        let from = self.good.len().min(len as usize);
        broken.changed.push((from, self.good.len() - from));
    }

    pub(crate) fn repair(&self, broken: &Broken) {
        self.file.set_len(self.good.len() as u64).unwrap();
        for &(at, len) in &broken.changed {
            self.file.write_all_at(&self.good[at..at + len], at as u64).unwrap();
        }
    }
}

impl Layout {
    fn of(image: &[u8]) -> Self {
        let long = |at: usize| u64::from_be_bytes(image[at..at + 8].try_into().unwrap());
        let word = |at: usize| u32::from_be_bytes(image[at..at + 4].try_into().unwrap());
        let cluster_bits = word(20);
        let cluster_size = 1 << cluster_bits;
        let entries = |(at, len): (usize, usize)| (at..at + len).step_by(8).map(long);
        let l1 = (long(40) as usize, word(36) as usize * 8);
        let tables = entries(l1).map(|entry| (entry & 0x00ff_ffff_ffff_fe00) as usize);
        let l2: Vec<_> = tables.filter(|at| *at != 0).map(|at| (at, cluster_size)).collect();
        let is_compressed = |entry: &u64| entry >> 62 == 1;
        let place = |entry: u64| {
            let shift = 62 - (cluster_bits - 8);
            let sectors = (entry & !(1 << 62)) >> shift;
            ((entry & ((1 << shift) - 1)) as usize, (sectors as usize + 1) * 512)
        };
        let compressed = l2.iter().copied().flat_map(entries).filter(is_compressed);
        let is_inside = |(at, _): &(usize, usize)| *at < image.len();
        Self {
            compressed: compressed.map(place).filter(is_inside).collect(),
            cluster_size,
            l1,
            l2,
        }
    }
}

fn run(folder: &TempDir, program: &str, words: &[&str]) {
    let done = Command::new(program).args(words).current_dir(folder.path()).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{program} {words:?}: {done:?}");
}

/// Content that compresses well and content that does not, so the streams have every feature of a compressor.
fn content() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(3);
    let mut bytes = Vec::new();
    while bytes.len() < 200_000 {
        match random.u32(..4) {
            0 => bytes.extend(format!("line {} of {}\n", bytes.len(), random.u16(..)).bytes()),
            1 => bytes.extend((0..random.usize(..300)).map(|_| random.u8(..))),
            2 => bytes.extend([random.u8(..4); 100]),
            _ => {
                let from = random.usize(..=bytes.len());
                let copy = bytes[from..(from + random.usize(..500)).min(bytes.len())].to_vec();
                bytes.extend(copy);
            }
        }
    }
    bytes
}

fn fill(folder: &TempDir, name: &str) {
    let mut commands = vec![
        "write -P 5 0 200k",
        "write -P 9 1100k 3k",
        "write -z 700k 100k",
        "discard 30k 20k",
        "write -s content 1536k 192k",
    ];
    if name != "data-file" {
        commands.extend(["write -c -s content 256k 192k", "write -c -P 7 512k 64k"]);
    }
    let words: Vec<_> = commands.iter().flat_map(|command| ["-c", command]).collect();
    run(folder, "qemu-io", &[&["-f", "qcow2"], &words[..], &[name]].concat());
    if name != "data-file" {
        run(folder, "qemu-img", &["snapshot", "-c", "before", name]);
        run(folder, "qemu-io", &["-f", "qcow2", "-c", "write -P 8 100k 100k", name]);
    }
    if name == "zlib" {
        run(folder, "qemu-img", &["bitmap", "--add", name, "changes"]);
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    let folder = Arc::new(tempdir().unwrap());
    std::fs::write(folder.path().join("content"), content()).unwrap();
    for (name, options) in MAKES {
        let create = [&["create", "-q", "-f", "qcow2"], options, &[name, "2M"]].concat();
        run(&folder, "qemu-img", &create);
        fill(&folder, name);
    }
    MAKES.iter().map(|(name, _)| Sample::new(&folder, name)).collect()
}
