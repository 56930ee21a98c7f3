//! Disks to convert, with their content.

use std::fs::{self, File};
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fvd::chain::{ChainOptions, open_image, open_source};
use fvd::format::LayoutOptions;
use fvd::image::CreateOptions;
use fvd::storage::IoBufMut;
use fvd::tool::convert::{ConvertRequest, Converted, Format, Source, Target, convert};
use fvd::tool::{Backing, CreateRequest, Progress, create};
use pollster::block_on;

/// Kinds of sources and targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Raw,
    Plain,
    /// Data in a separate file.
    Separate,
    /// Chunks of 64 KiB.
    Compact,
    /// Over a base of random data, with blocks of 12 KiB.
    Overlay,
    /// The same, with chunks that blocks straddle.
    CompactOverlay,
}

pub(crate) const KINDS: [Kind; 6] = [
    Kind::Raw,
    Kind::Plain,
    Kind::Separate,
    Kind::Compact,
    Kind::Overlay,
    Kind::CompactOverlay,
];

impl Kind {
    pub(crate) fn format(self) -> Format {
        match self {
            Self::Raw => Format::Raw,
            _ => Format::Fvd,
        }
    }

    fn is_compact(self) -> bool {
        matches!(self, Self::Compact | Self::CompactOverlay)
    }

    fn has_base(self) -> bool {
        matches!(self, Self::Overlay | Self::CompactOverlay)
    }

    /// Options for an image at `path`. Creates its base.
    pub(crate) fn options(self, path: &Path) -> CreateOptions {
        let mut options = CreateOptions {
            layout: LayoutOptions {
                compact: self.is_compact(),
                chunk_size: self.is_compact().then_some(64 << 10),
                block_size: self.has_base().then_some(12 << 10),
                ..LayoutOptions::default()
            },
            ..CreateOptions::default()
        };
        if self.has_base() {
            fs::write(base_of(path), random(777_777)).expect("a base");
            options.base_img = base_of(path).into();
            options.base_img_fmt = "raw".into();
        }
        if self == Self::Separate {
            options.data_file = data_of(path).into();
        }
        options
    }
}

fn base_of(path: &Path) -> PathBuf {
    path.with_extension("base")
}

pub(crate) fn data_of(path: &Path) -> PathBuf {
    path.with_extension("data")
}

pub(crate) fn random(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::fill(&mut bytes);
    bytes
}

/// Random runs of data and zeros.
pub(crate) fn content(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut at = 0;
    while at < len {
        let longest = *fastrand::choice(&[600, 5000, 70_000, 300_000]).expect("one of them");
        let end = len.min(at + fastrand::usize(1..longest));
        if fastrand::bool() {
            fastrand::fill(&mut bytes[at..end]);
        }
        at = end;
    }
    bytes
}

/// Writes a raw disk, with holes for aligned zeros.
pub(crate) fn write_raw(path: &Path, bytes: &[u8]) {
    let file = File::create(path).expect("a file");
    file.set_len(bytes.len() as u64).expect("a length");
    for (number, page) in bytes.chunks(4096).enumerate() {
        if page.iter().any(|byte| *byte != 0) {
            file.write_all_at(page, number as u64 * 4096).expect("room");
        }
    }
}

/// Makes a disk that contains `bytes` (and zeros to the end of the sector), by the engine.
pub(crate) fn make(kind: Kind, path: &Path, bytes: &[u8]) {
    if kind == Kind::Raw {
        return write_raw(path, bytes);
    }
    make_empty(kind, path, bytes.len() as u64);
    let image = block_on(open_image(path, &writable())).expect("an image");
    let mut at = 0;
    for piece in bytes.chunks(7000) {
        let zero = piece.iter().all(|byte| *byte == 0);
        let done = if zero {
            block_on(image.write_zeroes(at, piece.len() as u64))
        } else {
            block_on(image.write(Bytes::copy_from_slice(piece), at))
        };
        done.expect("a write");
        at += piece.len() as u64;
    }
    block_on(image.write_zeroes(at, image.size() - at)).expect("a tail of zeros");
    block_on(image.close()).expect("a clean image");
}

/// Makes a target of at least `len` bytes that is full of other data.
pub(crate) fn make_used(kind: Kind, path: &Path, len: usize) {
    make(kind, path, &random(len.next_multiple_of(512) + 1024));
}

pub(crate) fn make_empty(kind: Kind, path: &Path, size: u64) {
    let mut options = kind.options(path);
    let backing = (!options.base_img.is_empty()).then(|| Backing {
        name: std::mem::take(&mut options.base_img),
        format: Some("raw".into()),
        unchecked: false,
    });
    let request = CreateRequest {
        path: path.to_owned(),
        size: Some(size),
        backing,
        options,
        gate: fvd::gate::Gate::default(),
        remote: None,
        force: true,
    };
    block_on(create(&request)).expect("an image");
}

pub(crate) fn writable() -> ChainOptions {
    ChainOptions {
        writable: true,
        ..ChainOptions::default()
    }
}

/// Reads the whole disk.
pub(crate) fn read_all(path: &Path, format: Format) -> Vec<u8> {
    let format = match format {
        Format::Raw => "raw",
        Format::Fvd => "fvd",
    };
    let source = block_on(open_source(path, Some(format), &ChainOptions::default())).expect("a disk");
    let buf = IoBufMut::zeroed(source.len() as usize);
    let buf = block_on(source.read(buf, 0)).expect("content");
    buf.as_slice().to_vec()
}

/// Bytes that a file takes on disk.
pub(crate) fn allocated(path: &Path) -> u64 {
    fs::metadata(path).expect("a file").blocks() * 512
}

/// A conversion that probes the format of its source, and overwrites the target.
pub(crate) fn request(source: &Path, target: &Path, format: Format) -> ConvertRequest {
    let is_empty = fs::metadata(source).is_ok_and(|metadata| metadata.len() == 0);
    let source = Source::File {
        path: source.to_owned(),
        // The format of an empty file must be named.
        format: is_empty.then(|| "raw".to_owned()),
    };
    let mut request = ConvertRequest::new(source, Target::File(target.to_owned()), format);
    request.force = true;
    request
}

pub(crate) fn run(request: &ConvertRequest) -> fvd::Result<Converted> {
    convert(request, &mut |_: Progress| ControlFlow::Continue(()))
}

/// The read end of a pipe. A thread writes `bytes` to the other end.
pub(crate) fn pipe_with(bytes: Vec<u8>) -> File {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    std::thread::spawn(move || {
        // The reader may close its end early.
        let _ = writer.write_all(&bytes);
    });
    File::from(std::os::fd::OwnedFd::from(reader))
}
