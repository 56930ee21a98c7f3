//! Which files that an image names may be opened.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use fvd::gate::{Gate, check_storable};
use fvd::storage::{FileOptions, Storage as _};
use fvd::{Error, ErrorKind};
use rustix::fs::{CWD, RenameFlags, renameat_with};
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
fn names_outside_the_directory_are_refused_with_advice() {
    let tree = Tree::new();
    symlink(tree.path("other/base"), tree.path("images/link")).unwrap();
    symlink("../other", tree.path("images/linked-directory")).unwrap();
    let absolute = tree.path("other/base");
    let names = ["../other/base", "link", "linked-directory/base", "sub/../../other/base"];
    for name in names.map(OsStr::new).into_iter().chain([absolute.as_os_str()]) {
        let error = tree.permit(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
        assert_eq!(error.path(), Some(&*tree.path("images/disk.fvd")));
        let advice = format!(", and {} is not trusted", tree.path("other").display());
        assert!(error.reason().ends_with(&advice), "{error}");
        assert_eq!(error.needs_trust(), Some(&*tree.path("other")));
        assert!(error.reason().contains(&format!("'{}'", name.display())), "{error}");
        assert_eq!(tree.permit_with(&["other"], name).unwrap(), absolute, "{name:?}");
    }
    // A common prefix of two names does not make them the same directory.
    let error = tree.permit("../images-2").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotPermitted);
}

#[test]
fn hidden_files_are_refused_unless_trusted() {
    let tree = Tree::new();
    for directory in ["images/.ssh/keys", "images/sub/.git"] {
        std::fs::create_dir_all(tree.path(directory)).unwrap();
    }
    let hidden = [
        ".base",
        ".ssh/id",
        ".ssh/keys/id",
        "sub/.base",
        "sub/.git/base",
        "..base",
    ];
    for name in hidden {
        std::fs::write(tree.path("images").join(name), "x").unwrap();
    }
    symlink(".ssh/id", tree.path("images/link")).unwrap();
    symlink(".ssh/keys", tree.path("images/keys")).unwrap();
    let absolute = tree.path("images/.ssh/id");
    let others = ["sub/../.base", "link", "keys/id"].map(OsStr::new);
    let names = hidden.map(OsStr::new).into_iter().chain(others);
    for name in names.chain([absolute.as_os_str()]) {
        let error = tree.permit(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
        let target = tree.path("images").join(name).canonicalize().unwrap();
        let parent = target.parent().unwrap();
        let why = format!(
            "which is hidden, at {}, and {} is not trusted",
            target.display(),
            parent.display()
        );
        assert!(error.reason().ends_with(&why), "{error}");
        assert_eq!(error.needs_trust(), Some(parent));
        // It is enough to trust the directory that the error names, or any above it.
        assert_eq!(tree.permit_with(&[parent.to_str().unwrap()], name).unwrap(), target);
        assert_eq!(tree.permit_with(&["images"], name).unwrap(), target, "{name:?}");
        let image = tree.path("images/disk.fvd");
        let missing = Gate::default().missing_trust(&image, name);
        assert_eq!(missing.as_deref(), Some(parent));
    }
    // Trust in another directory does not help.
    let error = tree.permit_with(&["images/.ssh"], ".base").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotPermitted);
}

#[test]
fn only_the_resolved_path_below_the_image_can_be_hidden() {
    let tree = Tree::new();
    let image = tree.path("other/.images/disk.fvd");
    std::fs::create_dir_all(image.parent().unwrap().join(".cache")).unwrap();
    for name in ["base", ".cache/base"] {
        std::fs::write(image.with_file_name(name), "x").unwrap();
    }
    symlink("base", image.with_file_name(".link")).unwrap();
    let gate = Gate::default();
    // The directory of the image may be hidden, and so may directories that the path passes through.
    for name in ["base", "./base", ".cache/../base", "../.images/base", ".link"] {
        let target = gate.permit(&image, OsStr::new(name)).unwrap();
        assert_eq!(target, image.with_file_name("base"), "{name}");
    }
    assert!(gate.permit(&image, OsStr::new(".cache/base")).is_err());
}

#[test]
fn a_link_does_not_lead_out_of_a_trusted_directory() {
    let tree = Tree::new();
    symlink(tree.path("images-2"), tree.path("other/out")).unwrap();
    let error = tree.permit_with(&["other"], "../other/out").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotPermitted);
    assert!(tree.permit_with(&["other"], "../other/sub/base").is_ok());
    let error = tree.permit_with(&["other/sub"], "../other/base").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotPermitted);
    // Trusting a symbolic link trusts its target.
    symlink(tree.path("other"), tree.path("trusted")).unwrap();
    assert!(tree.permit_with(&["trusted"], "../other/base").is_ok());
}

#[test]
fn names_start_at_the_directory_of_a_link_to_the_image() {
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
fn missing_files_and_broken_names_give_clear_errors() {
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

#[test]
fn a_folder_replaced_by_a_link_leads_to_no_other_file() {
    const OPENS: usize = 4000;
    let tree = Tree::new();
    std::fs::write(tree.path("images/sub/base"), "mine").unwrap();
    std::fs::write(tree.path("other/base"), "SECRET").unwrap();
    let (folder, link) = (tree.path("images/sub"), tree.path("images/evil"));
    symlink(tree.path("other"), &link).unwrap();
    let stop = AtomicBool::new(false);
    let opened = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &folder, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let gate = Gate::default();
        let (image, name) = (tree.path("images/disk.fvd"), OsStr::new("sub/base"));
        let open = |_| {
            let storage = gate.open(&image, name, &FileOptions::default()).ok()?;
            Some(pollster::block_on(storage.len()).unwrap())
        };
        let opened: Vec<_> = (0..OPENS).filter_map(open).collect();
        stop.store(true, Ordering::Relaxed);
        opened
    });
    assert!(!opened.is_empty());
    assert!(opened.iter().all(|len| *len == 4), "the file outside was opened");
}

#[test]
fn links_in_a_name_are_resolved_before_the_open() {
    let tree = Tree::new();
    symlink("sub/base", tree.path("images/link")).unwrap();
    symlink("sub", tree.path("images/folder")).unwrap();
    let image = tree.path("images/disk.fvd");
    for name in ["link", "folder/base", "sub/base"] {
        let storage = Gate::default()
            .open(&image, OsStr::new(name), &FileOptions::default())
            .unwrap();
        assert_eq!(storage.path(), tree.path("images/sub/base"), "{name}");
    }
    let refused = Gate::default().open(&image, OsStr::new("../other/base"), &FileOptions::default());
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotPermitted);
}

#[test]
fn names_that_could_not_be_opened_are_not_stored() {
    for name in [
        "a:b.raw",
        "nbd:host:10809",
        "nbd://host/disk",
        "json:{}",
        "a:/b",
        ":",
        "a\0b",
    ] {
        let error = check_storable("data_file", OsStr::new(name)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{name}");
        assert!(error.reason().starts_with("data_file: "), "{error}");
    }
    let error = check_storable("backing_file", OsStr::new("a:b.raw")).unwrap_err();
    assert!(error.reason().contains("write './a:b.raw'"), "{error}");
    for name in ["", "a", "./a:b", "/a:b", "dir/a:b"] {
        check_storable("backing_file", OsStr::new(name)).unwrap();
    }
}
