//! Images and their chains on asynchronous files.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::{pending, ready};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fvd::chain::{AsyncIo, ChainOptions, Files, open_image_on, open_source_on};
use fvd::format::LayoutOptions;
use fvd::host::{BoxFuture, Clock};
use fvd::image::{CreateOptions, Image};
use fvd::source::{BaseSource, Qcow2Source, Run};
use fvd::storage::{AsyncFile, Backend, FileStorage, IoBufMut, Storage};
use fvd::tool::{Backing, CreateRequest, create};
use fvd::{ErrorKind, Result};
use pollster::block_on;
use tempfile::{TempDir, tempdir};

const SIZE: u64 = 3 << 20;
const BACKENDS: [Backend; 2] = [Backend::Threads, Backend::Uring];

fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(1..)).take(len).collect()
}

/// A folder with a base in two formats.
struct Folder {
    folder: TempDir,
    base: Vec<u8>,
}

impl Folder {
    fn new() -> Self {
        let folder = tempdir().unwrap();
        let base = pattern(1, SIZE as usize);
        std::fs::write(folder.path().join("base.raw"), &base).unwrap();
        let convert = ["convert", "-O", "qcow2", "base.raw", "base.qcow2"];
        let output = Command::new("qemu-img")
            .args(convert)
            .current_dir(folder.path())
            .output();
        assert!(output.unwrap().status.success());
        Self { folder, base }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A compact image over a base.
    fn image(&self, name: &str, base: &str, format: &str) -> PathBuf {
        let path = self.path(name);
        let backing = Backing {
            name: base.into(),
            format: Some(format.to_owned()),
            unchecked: false,
        };
        let layout = LayoutOptions {
            compact: true,
            ..LayoutOptions::default()
        };
        let request = CreateRequest {
            path: path.clone(),
            size: None,
            backing: Some(backing),
            options: CreateOptions {
                layout,
                ..CreateOptions::default()
            },
            gate: fvd::gate::Gate::default(),
            remote: None,
            force: false,
        };
        block_on(create(&request)).unwrap();
        path
    }
}

fn options(direct: bool) -> ChainOptions {
    ChainOptions {
        writable: true,
        direct,
        ..ChainOptions::default()
    }
}

fn read<S: Storage>(image: &Image<S>, offset: u64, len: usize) -> Vec<u8> {
    block_on(image.read(IoBufMut::zeroed(len), offset))
        .unwrap()
        .as_slice()
        .to_vec()
}

/// Random requests to an image and a vector. The image is reopened between them.
fn use_image(files: &AsyncIo, path: &Path, direct: bool, model: &mut [u8]) {
    let mut random = fastrand::Rng::with_seed(3);
    for session in 0..4_u8 {
        let image = block_on(open_image_on(files, path, &options(direct))).unwrap();
        for round in 0..60_u8 {
            let start = random.usize(..model.len() / 512 - 300) * 512;
            let range = start..start + random.usize(1..300) * 512;
            match random.u8(..6) {
                0..=2 => {
                    model[range.clone()].fill(round + session);
                    let data = Bytes::copy_from_slice(&model[range]);
                    block_on(image.write(data, start as u64)).unwrap();
                }
                3 => {
                    model[range.clone()].fill(0);
                    block_on(image.write_zeroes(start as u64, range.len() as u64)).unwrap();
                }
                4 => block_on(image.flush()).unwrap(),
                _ => assert!(read(&image, start as u64, range.len()) == model[range]),
            }
        }
        // Every second time it is dropped as by a crash, after a flush.
        block_on(image.flush()).unwrap();
        if session % 2 == 0 {
            block_on(image.close()).unwrap();
        }
    }
    let image = block_on(open_image_on(files, path, &options(direct))).unwrap();
    assert!(read(&image, 0, model.len()) == model);
}

#[test]
fn an_image_reads_as_what_was_written_to_it() {
    let folder = Folder::new();
    for backend in BACKENDS {
        let files = AsyncIo::with_backend(backend).unwrap();
        for direct in [false, true] {
            for (format, base) in [("raw", "base.raw"), ("qcow2", "base.qcow2")] {
                let path = folder.image("top.fvd", base, format);
                use_image(&files, &path, direct, &mut folder.base.clone());
            }
        }
    }
}

#[test]
fn a_chain_of_all_formats_reads_as_its_base() {
    let folder = Folder::new();
    folder.image("middle.fvd", "base.qcow2", "qcow2");
    let top = folder.image("top.fvd", "middle.fvd", "fvd");
    for backend in BACKENDS {
        let files = AsyncIo::with_backend(backend).unwrap();
        let source = block_on(open_source_on(&files, &top, None, &ChainOptions::default())).unwrap();
        let buf = block_on(source.read(IoBufMut::zeroed(SIZE as usize), 0)).unwrap();
        assert!(buf.as_slice() == folder.base);
    }
}

/// A clock on which each sleep is over at once.
struct FastClock;

impl Clock for FastClock {
    fn now(&self) -> Duration {
        unreachable!("a limit only sleeps")
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }
}

/// A source that answers no read and no status call.
struct Silent(Box<dyn BaseSource>);

impl BaseSource for Silent {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn format(&self) -> &'static str {
        self.0.format()
    }

    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read(&self, _: IoBufMut, _: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        Box::pin(pending())
    }

    fn status(&self, _: u64, _: u64) -> BoxFuture<'_, Result<Run>> {
        Box::pin(pending())
    }
}

/// As [`AsyncIo`], but no read of a qcow2 file ever ends.
#[derive(Clone)]
struct SilentFiles(AsyncIo);

impl Files for SilentFiles {
    type Local = AsyncFile;

    fn local(&self, file: FileStorage) -> AsyncFile {
        self.0.local(file)
    }

    fn qcow2(&self, source: Qcow2Source) -> Box<dyn BaseSource> {
        Box::new(Silent(Box::new(source)))
    }

    fn clock(&self) -> Option<Arc<dyn Clock>> {
        self.0.clock()
    }
}

#[test]
fn a_base_that_never_answers_gives_an_error_after_the_limit() {
    let folder = Folder::new();
    folder.image("middle.fvd", "base.qcow2", "qcow2");
    let top = folder.image("top.fvd", "middle.fvd", "fvd");
    let files = AsyncIo::with_backend(Backend::Threads).unwrap();
    let files = SilentFiles(files.with_clock(Arc::new(FastClock)));
    let options = ChainOptions {
        base_timeout: Some(Duration::from_secs(60)),
        ..options(false)
    };
    let image = block_on(open_image_on(&files, &top, &options)).unwrap();
    let error = block_on(image.read(IoBufMut::zeroed(4096), 0)).unwrap_err();
    assert_eq!(error.errno(), Some(libc::ETIMEDOUT), "{error}");
    // A write that needs no base succeeds.
    block_on(image.write(Bytes::from(vec![5; 1 << 20]), 0)).unwrap();
    assert_eq!(read(&image, 0, 4096), [5; 4096]);
    block_on(image.close()).unwrap();
}

#[test]
fn a_time_limit_needs_a_clock() {
    let folder = Folder::new();
    let top = folder.image("top.fvd", "base.raw", "raw");
    let options = ChainOptions {
        base_timeout: Some(Duration::from_secs(1)),
        ..options(false)
    };
    let files = AsyncIo::with_backend(Backend::Threads).unwrap();
    let error = block_on(open_image_on(&files, &top, &options)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("clock"), "{error}");
}
