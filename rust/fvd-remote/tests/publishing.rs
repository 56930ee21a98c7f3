//! `publish` into a folder: what is there afterwards, and what is refused.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fvd::chain::{ChainOptions, open_source};
use fvd::{ErrorKind, Result};
use fvd_remote::{Config, Opener, PublishOptions, Published, publish, publish_profile};
use pollster::block_on;

const UNIT: usize = 256 << 10;

fn source(folder: &Path, fill: u8) -> PathBuf {
    let path = folder.join("source.raw");
    let mut bytes = vec![0; 40 * UNIT + 5];
    bytes[3 * UNIT..4 * UNIT].fill(fill);
    bytes[40 * UNIT..].fill(fill);
    fs::write(&path, bytes).expect("written");
    path
}

fn publish_to(source: &Path, target: &Path, options: &PublishOptions) -> Result<Published> {
    let disk = block_on(open_source(source, Some("raw"), &ChainOptions::default())).expect("opened");
    let opener = Opener::new(Config::new());
    publish(&opener, &*disk, target, options, &mut |_| ControlFlow::Continue(()))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

#[test]
fn the_disk_is_there_with_its_holes_and_a_manifest_beside_it() {
    let folder = tempfile::tempdir().expect("made");
    let www = folder.path().join("www");
    fs::create_dir(&www).expect("made");
    let disk = source(folder.path(), 7);
    let done = publish_to(&disk, &www, &PublishOptions::default()).expect("published");
    assert_eq!(
        names(&www),
        ["source.raw", "source.raw.fvd-manifest"],
        "a folder gets the name of the source"
    );
    assert!(fs::read(www.join("source.raw")).expect("read") == fs::read(&disk).expect("read"));
    assert!(fs::metadata(www.join("source.raw")).expect("there").blocks() * 512 < 5 * UNIT as u64);
    assert_eq!(
        (done.len, done.data, done.is_new),
        (40 * UNIT as u64 + 5, UNIT as u64 + 5, true)
    );
}

#[test]
fn the_same_disk_again_changes_nothing_and_another_one_needs_force() {
    let folder = tempfile::tempdir().expect("made");
    let target = folder.path().join("target");
    let disk = source(folder.path(), 7);
    let options = PublishOptions {
        profile: Some(vec![0..4096, 8192..9000]),
        ..PublishOptions::default()
    };
    let first = publish_to(&disk, &target, &options).expect("published");
    let inode = || fs::metadata(&target).expect("there").ino();
    let before = inode();
    let again = publish_to(&disk, &target, &PublishOptions::default()).expect("published");
    assert_eq!((again.is_new, again.identity, inode()), (false, first.identity, before));
    let disk = source(folder.path(), 8);
    let error = publish_to(&disk, &target, &PublishOptions::default()).expect_err("another one");
    assert!(error.to_string().contains("--force") && inode() == before, "{error}");
    let force = PublishOptions {
        force: true,
        profile: None,
    };
    let other = publish_to(&disk, &target, &force).expect("replaced");
    assert_ne!(other.identity, first.identity);
    assert!(
        !folder.path().join("target.fvd-profile").exists(),
        "the profile was for the other disk"
    );
    assert_eq!(names(folder.path()), ["source.raw", "target", "target.fvd-manifest"]);
}

#[test]
fn a_kill_between_object_and_manifest_leaves_no_template_and_the_same_command_goes_on() {
    let folder = tempfile::tempdir().expect("made");
    let target = folder.path().join("target");
    let disk = source(folder.path(), 7);
    publish_to(&disk, &target, &PublishOptions::default()).expect("published");
    fs::remove_file(folder.path().join("target.fvd-manifest")).expect("removed");
    let inode = fs::metadata(&target).expect("there").ino();
    let done = publish_to(&disk, &target, &PublishOptions::default()).expect("published");
    assert!(done.is_new);
    assert_eq!(
        fs::metadata(&target).expect("there").ino(),
        inode,
        "the object was whole"
    );
    fs::write(folder.path().join("other"), "something else").expect("written");
    let error = publish_to(&disk, &folder.path().join("other"), &PublishOptions::default()).expect_err("refused");
    assert!(error.to_string().contains("no template"), "{error}");
}

#[test]
fn a_template_that_is_damaged_is_written_again_by_force() {
    let folder = tempfile::tempdir().expect("made");
    let target = folder.path().join("target");
    let disk = source(folder.path(), 7);
    let first = publish_to(&disk, &target, &PublishOptions::default()).expect("published");
    let inode = || fs::metadata(&target).expect("there").ino();
    let before = inode();
    let force = PublishOptions {
        force: true,
        profile: None,
    };
    let again = publish_to(&disk, &target, &force).expect("published");
    assert!(!again.is_new && inode() == before, "it was right");
    let mut bytes = fs::read(&target).expect("read");
    bytes[3 * UNIT] = 8;
    fs::write(&target, bytes).expect("written");
    let mended = publish_to(&disk, &target, &force).expect("published");
    assert_eq!((mended.is_new, mended.identity), (true, first.identity));
    assert!(fs::read(&target).expect("read") == fs::read(&disk).expect("read"));
}

#[test]
fn two_calls_do_not_write_to_one_file() {
    let folder = tempfile::tempdir().expect("made");
    let target = folder.path().join("target");
    let disk = source(folder.path(), 7);
    let unfinished = folder.path().join("target.fvd-part");
    fs::write(&unfinished, "of another call").expect("written");
    let other = fs::File::open(&unfinished).expect("opened");
    other.lock().expect("locked");
    let error = publish_to(&disk, &target, &PublishOptions::default()).expect_err("refused");
    assert!(error.to_string().contains("Another process"), "{error}");
    assert_eq!(fs::read(&unfinished).expect("there"), b"of another call");
    // As after a kill.
    drop(other);
    publish_to(&disk, &target, &PublishOptions::default()).expect("published");
    assert!(fs::read(&target).expect("read") == fs::read(&disk).expect("read"));
    assert_eq!(names(folder.path()), ["source.raw", "target", "target.fvd-manifest"]);
}

#[test]
fn a_disk_can_be_published_where_it_is() {
    let folder = tempfile::tempdir().expect("made");
    let disk = source(folder.path(), 7);
    let inode = fs::metadata(&disk).expect("there").ino();
    let done = publish_to(&disk, &disk, &PublishOptions::default()).expect("published");
    assert!(done.is_new && fs::metadata(&disk).expect("there").ino() == inode);
    assert_eq!(names(folder.path()), ["source.raw", "source.raw.fvd-manifest"]);
    let elsewhere = folder.path().join("b");
    let copy = publish_to(&disk, &elsewhere, &PublishOptions::default()).expect("published");
    assert_eq!(copy.identity, done.identity, "a mirror is the same template");
}

#[test]
fn a_break_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("made");
    let path = source(folder.path(), 7);
    let disk = block_on(open_source(&path, Some("raw"), &ChainOptions::default())).expect("opened");
    let target = folder.path().join("target");
    let slow = Slow(disk);
    let options = PublishOptions::default();
    let stopped = publish(&Opener::new(Config::new()), &slow, &target, &options, &mut |_| {
        ControlFlow::Break(())
    });
    assert_eq!(stopped.expect_err("stopped").kind(), ErrorKind::Cancelled);
    assert_eq!(names(folder.path()), ["source.raw"]);
}

#[test]
fn servers_that_nothing_can_be_written_to_are_refused_with_the_way() {
    let folder = tempfile::tempdir().expect("made");
    let disk = source(folder.path(), 7);
    for target in ["http://h/x", "https://h/x", "nbd://h/x", "nbd+unix:///x?socket=/s"] {
        let error = publish_to(&disk, Path::new(target), &PublishOptions::default()).expect_err(target);
        assert!(error.to_string().contains("Publish to a folder"), "{error}");
    }
    let error = publish_to(&disk, Path::new("s3://b/k?versionId=1"), &PublishOptions::default());
    assert!(error.expect_err("a query").to_string().contains("query"));
}

#[test]
fn a_profile_alone_needs_a_template() {
    let folder = tempfile::tempdir().expect("made");
    let error = publish_profile(
        &Opener::new(Config::new()),
        &folder.path().join("none"),
        &[0..1, 2..3],
        &mut |_| ControlFlow::Continue(()),
    );
    assert!(
        error
            .expect_err("no template")
            .to_string()
            .contains("publish the disk first")
    );
}

/// A disk that takes so long that the progress is shown.
struct Slow(Box<dyn fvd::source::BaseSource>);

impl fvd::source::BaseSource for Slow {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn format(&self) -> &'static str {
        "raw"
    }

    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read(
        &self,
        buf: fvd::storage::IoBufMut,
        offset: u64,
    ) -> fvd::host::BoxFuture<'_, Result<fvd::storage::IoBufMut>> {
        std::thread::sleep(std::time::Duration::from_millis(150));
        self.0.read(buf, offset)
    }

    fn status(&self, _: u64, len: u64) -> fvd::host::BoxFuture<'_, Result<fvd::source::Run>> {
        let mut run = fvd::source::Run::zeros(len);
        run.content = fvd::source::Content::Data;
        Box::pin(async move { Ok(run) })
    }
}
