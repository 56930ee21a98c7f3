//! Images that write to their base: the permission that they need, and what is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use fvd::ErrorKind;
use fvd::chain::{ChainOptions, OpenedFile, open_image, open_source};
use fvd::format::{BaseUpdate, LayoutOptions};
use fvd::gate::Gate;
use fvd::image::{CreateOptions, Image};
use fvd::tool::{self, Backing, CreateRequest};
use pollster::block_on;
use tempfile::TempDir;

const SIZE: u64 = 300 * 512;

/// An image over `base.raw` in a directory of its own.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        fs::write(folder.path("base.raw"), vec![7; SIZE as usize]).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn create(&self, name: &str, base: &str, format: Option<&str>) -> fvd::Result<PathBuf> {
        let path = self.path(name);
        let request = CreateRequest {
            path: path.clone(),
            size: Some(SIZE),
            backing: Some(Backing {
                name: base.into(),
                format: format.map(str::to_owned),
                unchecked: false,
            }),
            options: CreateOptions {
                write_updates_base_img: BaseUpdate::Writethrough,
                ..CreateOptions::default()
            },
            gate: Gate::default(),
            remote: None,
            force: false,
        };
        block_on(tool::create(&request)).map(|_| path)
    }

    /// Changes fields of the header, as another program could.
    fn patch(path: &Path, change: impl FnOnce(&mut fvd::format::Header)) {
        let bytes = fs::read(path).unwrap();
        let mut header = fvd::format::Header::decode(&bytes).unwrap();
        change(&mut header);
        let new = header.encode().unwrap();
        fs::write(path, [&new, &bytes[new.len()..]].concat()).unwrap();
    }
}

fn open(path: &Path, write_base: bool) -> fvd::Result<Image<OpenedFile>> {
    let options = ChainOptions {
        writable: true,
        write_base,
        ..ChainOptions::default()
    };
    block_on(open_image(path, &options))
}

fn refused(path: &Path, kind: ErrorKind, text: &str) {
    let error = open(path, true).err().expect("refused");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(text), "{error}");
}

#[test]
fn a_header_alone_gives_no_permission_to_write_to_a_base() {
    let folder = Folder::new();
    let path = folder.create("image.fvd", "base.raw", Some("raw")).unwrap();
    let error = open(&path, false).err().expect("it was not allowed");
    assert_eq!(error.kind(), ErrorKind::NotPermitted);
    for part in ["'base.raw'", "'writethrough'", "use write_base"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    // Reading needs no permission.
    block_on(open_image(&path, &ChainOptions::default())).unwrap();
    let image = open(&path, true).unwrap();
    block_on(image.write(Bytes::from_static(b"new"), 5)).unwrap();
    assert_eq!(
        &fs::read(folder.path("base.raw")).unwrap()[..9],
        b"\x07\x07\x07\x07\x07new\x07"
    );
    // The base is locked exclusively meanwhile.
    let other = block_on(open_source(
        &folder.path("base.raw"),
        Some("raw"),
        &ChainOptions::default(),
    ));
    assert_eq!(other.err().expect("locked").kind(), ErrorKind::InUse);
    block_on(image.close()).unwrap();
}

#[test]
fn a_base_to_write_to_passes_the_gate_too() {
    let folder = Folder::new();
    fs::create_dir(folder.path("below")).unwrap();
    let path = folder.create("below/image.fvd", "../base.raw", Some("raw")).unwrap();
    refused(&path, ErrorKind::NotPermitted, "is not trusted");
}

#[test]
fn a_base_of_probed_format_is_not_written_to() {
    let folder = Folder::new();
    let path = folder.create("image.fvd", "base.raw", None).unwrap();
    // Creation probed the format and stored it.
    open(&path, true).unwrap();
    Folder::patch(&path, |header| header.base_img_fmt.clear());
    refused(&path, ErrorKind::Unsupported, "does not name its format");
}

#[test]
fn unsupported_fields_are_refused_by_name() {
    let folder = Folder::new();
    let path = folder.create("image.fvd", "base.raw", Some("raw")).unwrap();
    let copy = folder.path("copy.fvd");
    let patched = |change: fn(&mut fvd::format::Header)| {
        fs::copy(&path, &copy).unwrap();
        Folder::patch(&copy, change);
    };
    patched(|header| header.write_updates_base_img = "sometimes".into());
    refused(&copy, ErrorKind::Unsupported, "'sometimes'");
    patched(|header| header.journal_size = 0);
    refused(&copy, ErrorKind::Unsupported, "journal");
    patched(|header| header.all_data_in_fvd_img = true);
    refused(&copy, ErrorKind::Unsupported, "all_data_in_fvd_img");
    patched(|header| header.base_img_fmt = "qcow2".into());
    refused(&copy, ErrorKind::Unsupported, "'qcow2'");
    patched(|header| header.write_updates_base_img = "no".into());
    open(&copy, false).unwrap();
}

#[test]
fn creation_refuses_an_image_that_could_not_be_opened() {
    let folder = Folder::new();
    let qcow2 = folder.path("base.qcow2");
    let mut command = Command::new("qemu-img");
    let made = command.args(["create", "-q", "-f", "qcow2"]).arg(&qcow2).arg("64K");
    assert!(made.status().unwrap().success());
    for format in [None, Some("qcow2")] {
        let error = folder.create("image.fvd", "base.qcow2", format).unwrap_err();
        assert!(error.to_string().contains("'qcow2'"), "{error}");
    }
    let options = |journal_size, base_size| CreateOptions {
        layout: LayoutOptions {
            base_size,
            journal_size,
            virtual_size: SIZE,
            ..LayoutOptions::default()
        },
        write_updates_base_img: BaseUpdate::Writeback,
        ..CreateOptions::default()
    };
    let error = options(Some(-1), Some(SIZE)).header().unwrap_err();
    assert!(error.to_string().contains("needs a journal"), "{error}");
    let error = options(None, None).header().unwrap_err();
    assert!(error.to_string().contains("needs a backing file"), "{error}");
}

#[test]
fn a_shortened_base_is_not_written_to() {
    let folder = Folder::new();
    let path = folder.create("image.fvd", "base.raw", Some("raw")).unwrap();
    let base = fs::File::options().write(true).open(folder.path("base.raw")).unwrap();
    base.set_len(SIZE - 512).unwrap();
    let image = open(&path, true).unwrap();
    let written = block_on(image.write(Bytes::from_static(b"new"), 5));
    assert!(written.unwrap_err().to_string().contains("base.raw"));
    assert_eq!(base.metadata().unwrap().len(), SIZE - 512);
}
