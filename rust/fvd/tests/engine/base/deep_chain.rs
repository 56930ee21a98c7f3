//! Chains of the maximum length, on threads with little stack.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::Builder;

use bytes::Bytes;
use fvd::chain::{AsyncIo, Blocking, ChainOptions, Files, open_image_on, open_source};
use fvd::format::BaseUpdate;
use fvd::gate::Gate;
use fvd::image::{CreateOptions, Image};
use fvd::source::BaseSource;
use fvd::storage::{Backend, IoBufMut};
use fvd::tool::{Backing, CreateRequest, create};
use fvd::{ErrorKind, Result};
use pollster::block_on;
use tempfile::{TempDir, tempdir};

const SIZE: u64 = 1 << 20;
/// The number of files in the longest chain.
const LONGEST: usize = 200;
/// Stack size in bytes: far less than the default of a thread.
const LITTLE_STACK: usize = 160 << 10;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempdir().unwrap());
        std::fs::write(folder.path(0), vec![7; SIZE as usize]).unwrap();
        folder
    }

    fn path(&self, level: usize) -> PathBuf {
        self.0.path().join(level.to_string())
    }

    /// Creates an image over the image below it. If `checked`, the one below is opened first.
    fn create(&self, level: usize, checked: bool, options: &CreateOptions) -> Result<()> {
        let backing = Backing {
            name: (level - 1).to_string().into(),
            format: Some(if level == 1 { "raw" } else { "fvd" }.to_owned()),
            unchecked: !checked,
        };
        let request = CreateRequest {
            path: self.path(level),
            size: Some(SIZE),
            backing: Some(backing),
            options: options.clone(),
            gate: Gate::default(),
            remote: None,
            force: false,
        };
        block_on(create(&request)).map(drop)
    }

    /// The top image of a chain with the maximum number of files.
    fn longest_chain(&self, options: &CreateOptions) -> PathBuf {
        for level in 1..LONGEST {
            self.create(level, level == LONGEST - 1, options).unwrap();
        }
        self.path(LONGEST - 1)
    }
}

/// Does `work` on a thread with little stack. A stack overflow ends the process.
fn with_little_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = Builder::new().stack_size(LITTLE_STACK).spawn(work);
    thread.unwrap().join().unwrap()
}

fn read(source: &dyn BaseSource, offset: u64, len: usize) -> Vec<u8> {
    let buf = block_on(source.read(IoBufMut::zeroed(len), offset)).unwrap();
    buf.as_slice().to_vec()
}

/// Opens, reads, writes, closes and drops an image.
fn use_image<F: Files>(files: &F, path: &Path, options: &ChainOptions) {
    let image = block_on(open_image_on(files, path, options)).unwrap();
    assert_eq!(read(&image, 0, 4096), [7; 4096]);
    let run = block_on(image.status(0, SIZE)).unwrap();
    assert_eq!((run.depth, run.present), (LONGEST as u32 - 1, true));
    if options.writable {
        block_on(Image::write(&image, Bytes::from(vec![8; 512]), SIZE / 2)).unwrap();
        assert_eq!(read(&image, SIZE / 2 - 512, 1024), [[7; 512], [8; 512]].concat());
        block_on(image.close()).unwrap();
    }
}

#[test]
fn the_longest_chain_works_with_little_stack() {
    let folder = Folder::new();
    // Also created with little stack: creation of the last image opens the chain below.
    let (folder, path) = with_little_stack(move || {
        let path = folder.longest_chain(&CreateOptions::default());
        (folder, path)
    });
    with_little_stack(move || {
        let writable = ChainOptions {
            writable: true,
            ..ChainOptions::default()
        };
        for options in [&ChainOptions::default(), &writable] {
            use_image(&Blocking, &path, options);
            use_image(&AsyncIo::with_backend(Backend::Threads).unwrap(), &path, options);
        }
        let source = block_on(open_source(&path, None, &ChainOptions::default())).unwrap();
        assert_eq!(read(&*source, 4096, 4096), [7; 4096]);
        // A dropped read is dropped layer by layer.
        drop(source.read(IoBufMut::zeroed(512), 0));
    });
    drop(folder);
}

#[test]
fn a_chain_with_writable_bases_works_with_little_stack() {
    let folder = Folder::new();
    let options = CreateOptions {
        write_updates_base_img: BaseUpdate::Writethrough,
        ..CreateOptions::default()
    };
    let path = folder.longest_chain(&options);
    let base = folder.path(0);
    with_little_stack(move || {
        let options = ChainOptions {
            writable: true,
            write_base: true,
            ..ChainOptions::default()
        };
        let image = block_on(open_image_on(&Blocking, &path, &options)).unwrap();
        block_on(Image::write(&image, Bytes::from(vec![8; 4096]), 8192)).unwrap();
        block_on(image.flush()).unwrap();
        block_on(Image::write_zeroes(&image, 65536, 65536)).unwrap();
        block_on(image.close()).unwrap();
    });
    let bytes = std::fs::read(base).unwrap();
    assert_eq!(bytes[8192..8192 + 4096], [8; 4096]);
    assert!(bytes[65536..65536 * 2].iter().all(|byte| *byte == 0));
}

#[test]
fn an_image_that_could_not_be_opened_is_not_created() {
    let folder = Folder::new();
    folder.longest_chain(&CreateOptions::default());
    let error = folder.create(LONGEST, true, &CreateOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let text = error.to_string();
    assert!(
        text.contains("more than 200 files") && text.contains("fvd convert"),
        "{text}"
    );
    assert!(!folder.path(LONGEST).exists());
    // Its data file counts.
    std::fs::remove_file(folder.path(LONGEST - 1)).unwrap();
    let with_data = CreateOptions {
        data_file: "data".into(),
        ..CreateOptions::default()
    };
    folder.create(LONGEST - 1, true, &with_data).unwrap_err();
    folder.create(LONGEST - 2, true, &with_data).unwrap();
    let opened = block_on(open_image_on(
        &Blocking,
        &folder.path(LONGEST - 2),
        &ChainOptions::default(),
    ));
    opened.unwrap();
}

#[test]
fn a_chain_of_qcow2_images_works_with_little_stack() {
    let folder = tempdir().unwrap();
    let at = |level: usize| folder.path().join(level.to_string());
    let make = |level: usize, backing: Option<usize>| {
        let mut command = Command::new("qemu-img");
        command
            .args(["create", "-q", "-u", "-f", "qcow2"])
            .current_dir(folder.path());
        if let Some(backing) = backing {
            command.args(["-b", &backing.to_string(), "-F", "qcow2"]);
        }
        assert!(command.arg(level.to_string()).arg("1M").status().unwrap().success());
    };
    make(0, None);
    make(1, Some(0));
    for level in 2..LONGEST {
        // As the one below it, with another name in the header.
        let mut bytes = std::fs::read(at(1)).unwrap();
        let name_at = u64::from_be_bytes(bytes[8..16].try_into().unwrap()) as usize;
        let name = (level - 1).to_string();
        bytes[16..20].copy_from_slice(&u32::to_be_bytes(name.len() as u32));
        bytes[name_at..name_at + name.len()].copy_from_slice(name.as_bytes());
        std::fs::write(at(level), bytes).unwrap();
    }
    let path = at(LONGEST - 1);
    with_little_stack(move || {
        let source = block_on(open_source(&path, None, &ChainOptions::default())).unwrap();
        assert_eq!(read(&*source, 0, 4096), [0; 4096]);
        let run = block_on(source.status(0, 4096)).unwrap();
        assert_eq!((run.depth, run.present), (LONGEST as u32 - 1, false));
    });
}
