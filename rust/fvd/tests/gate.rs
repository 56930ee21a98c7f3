//! Which names found inside an image are opened.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use fvd::gate::Gate;
use fvd::{Error, ErrorKind};
use tempfile::TempDir;

/// `images/disk.fvd`, `images/base`, `images/sub/base`, `other/base`, `other/sub/base`.
struct Tree {
    root: TempDir,
}

impl Tree {
    fn new() -> Self {
        let root = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for directory in ["images/sub", "other/sub"] {
            std::fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        for file in [
            "images/disk.fvd",
            "images/base",
            "images/sub/base",
            "other/base",
            "other/sub/base",
            "images-2",
        ] {
            std::fs::write(root.path().join(file), "x").unwrap();
        }
        Self { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().canonicalize().unwrap().join(name)
    }

    fn permit_with(&self, trusted: &[&str], name: impl AsRef<OsStr>) -> Result<PathBuf, Error> {
        let trusted: Vec<PathBuf> = trusted.iter().map(|name| self.path(name)).collect();
        Gate::new(&trusted)?.permit(&self.path("images/disk.fvd"), name.as_ref())
    }

    fn permit(&self, name: impl AsRef<OsStr>) -> Result<PathBuf, Error> {
        self.permit_with(&[], name)
    }
}

#[test]
fn names_in_the_directory_of_the_image_and_below_pass() {
    let tree = Tree::new();
    for (name, target) in [
        ("base", "images/base"),
        ("./base", "images/base"),
        ("sub/base", "images/sub/base"),
        ("sub/../base", "images/base"),
        ("../images/base", "images/base"),
        ("../other/../images/sub/base", "images/sub/base"),
    ] {
        assert_eq!(tree.permit(name).unwrap(), tree.path(target), "{name}");
    }
    let absolute = tree.path("images/sub/base");
    assert_eq!(tree.permit(&absolute).unwrap(), absolute);
}

#[test]
fn names_that_lead_elsewhere_are_refused_with_the_way_to_allow_them() {
    let tree = Tree::new();
    symlink(tree.path("other/base"), tree.path("images/link")).unwrap();
    symlink("../other", tree.path("images/linked-directory")).unwrap();
    let absolute = tree.path("other/base");
    let names = ["../other/base", "link", "linked-directory/base", "sub/../../other/base"];
    for name in names.map(OsStr::new).into_iter().chain([absolute.as_os_str()]) {
        let error = tree.permit(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
        assert_eq!(error.path(), Some(&*tree.path("images/disk.fvd")));
        let advice = format!("use --trust {} to allow it", tree.path("other").display());
        assert!(error.reason().ends_with(&advice), "{error}");
        assert!(error.reason().contains(&format!("'{}'", name.display())), "{error}");
        assert_eq!(tree.permit_with(&["other"], name).unwrap(), absolute, "{name:?}");
    }
    // The same beginning of a name is not the same directory.
    let error = tree.permit("../images-2").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotPermitted);
}

#[test]
fn a_trusted_directory_is_not_left_through_a_link() {
    let tree = Tree::new();
    symlink(tree.path("images-2"), tree.path("other/out")).unwrap();
    let error = tree.permit_with(&["other"], "../other/out").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotPermitted);
    assert!(tree.permit_with(&["other"], "../other/sub/base").is_ok());
    let error = tree.permit_with(&["other/sub"], "../other/base").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotPermitted);
    // A link to a trusted directory trusts what it leads to.
    symlink(tree.path("other"), tree.path("trusted")).unwrap();
    assert!(tree.permit_with(&["trusted"], "../other/base").is_ok());
}

#[test]
fn an_image_reached_by_a_link_names_files_beside_the_link() {
    let tree = Tree::new();
    symlink(tree.path("images/disk.fvd"), tree.path("other/disk.fvd")).unwrap();
    let gate = Gate::new(&[]).unwrap();
    let target = gate.permit(&tree.path("other/disk.fvd"), OsStr::new("base")).unwrap();
    assert_eq!(target, tree.path("other/base"));
}

#[test]
fn protocols_are_not_files() {
    let tree = Tree::new();
    std::fs::write(tree.path("images/a:b"), "x").unwrap();
    for name in ["nbd://host/disk", "json:{}", "file:base", "https://host/a", "a:b", ":"] {
        let error = tree.permit(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {error}");
    }
    assert_eq!(tree.permit("./a:b").unwrap(), tree.path("images/a:b"));
}

#[test]
fn missing_files_and_broken_names_say_so() {
    let tree = Tree::new();
    let error = tree.permit("none").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(error.path(), Some(&*tree.path("images/none")));
    assert!(error.reason().ends_with("No such file or directory"), "{error}");
    for name in ["", "a\0b"] {
        assert_eq!(tree.permit(name).unwrap_err().kind(), ErrorKind::InvalidImage);
    }
    assert_eq!(tree.permit_with(&["none"], "base").unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn directories_pipes_and_devices_are_refused() {
    let tree = Tree::new();
    let fifo = tree.path("images/fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for name in ["sub", ".", "fifo"] {
        assert_eq!(tree.permit(name).unwrap_err().kind(), ErrorKind::NotPermitted, "{name}");
    }
    let gate = Gate::new(&[PathBuf::from("/dev")]).unwrap();
    let error = gate
        .permit(&tree.path("images/disk.fvd"), OsStr::new("/dev/zero"))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
}
