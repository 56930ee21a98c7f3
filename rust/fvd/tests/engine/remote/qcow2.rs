//! qcow2 images in a store.

use std::path::Path;
use std::process::Command;
use std::task::{Context, Waker};

use fvd::ErrorKind;
use fvd::chain::{AsyncIo, open_source, open_source_on};
use fvd::remote::{Urgency, with_urgency};
use fvd::storage::{Backend, IoBufMut};
use pollster::block_on;

use super::chain::{BASE, LEN, Place, pattern, read_source};

fn qemu_img(place: &Place, line: &str) {
    let command = Command::new("qemu-img")
        .args(line.split_whitespace())
        .current_dir(place.folder.path())
        .output();
    let output = command.unwrap();
    assert!(output.status.success(), "qemu-img {line}: {output:?}");
}

/// Compares the disk at `url`, read by both kinds of hosts, with `expected`.
fn check(place: &Place, url: &str, trusted: &[&str], expected: &[u8]) {
    let options = place.options(trusted);
    let source = block_on(open_source(Path::new(url), None, &options)).unwrap();
    assert_eq!(source.path(), Path::new(url));
    assert!(read_source(&*source) == expected);
    let files = AsyncIo::with_backend(Backend::Threads).unwrap();
    let source = block_on(open_source_on(&files, Path::new(url), None, &options)).unwrap();
    assert!(read_source(&*source) == expected);
    let run = block_on(source.status(0, LEN as u64)).unwrap();
    assert!(run.len > 0 && run.present);
}

#[test]
fn every_kind_of_qcow2_reads_from_a_store() {
    let place = Place::new();
    std::fs::write(place.path("raw"), &place.base).unwrap();
    for (number, options) in [
        "-o compat=1.1",
        "-o compat=0.10",
        "-o extended_l2=on",
        "-c",
        "-c -o compression_type=zstd",
        "-o cluster_size=512",
    ]
    .into_iter()
    .enumerate()
    {
        qemu_img(&place, &format!("convert -O qcow2 {options} raw image"));
        let url = format!("https://images.example.org/{number}.qcow2");
        place.upload("image", &url);
        check(&place, &url, &[], &place.base);
    }
}

#[test]
fn a_qcow2_chain_is_followed_within_the_store() {
    let place = Place::new();
    std::fs::write(place.path("base.raw"), &place.base).unwrap();
    qemu_img(&place, "create -f qcow2 -b base.raw -F raw middle.qcow2");
    qemu_img(&place, "create -f qcow2 -b middle.qcow2 -F qcow2 top.qcow2");
    qemu_img(&place, "create -f qcow2 -b ../elsewhere.raw -F raw -u out.qcow2 1M");
    for name in ["base.raw", "middle.qcow2", "top.qcow2"] {
        place.upload(name, &format!("https://images.example.org/a/{name}"));
        std::fs::remove_file(place.path(name)).unwrap();
    }
    check(&place, "https://images.example.org/a/top.qcow2", &[], &place.base);
    // Out of the folder: only with trust.
    place.upload("out.qcow2", "https://images.example.org/a/out.qcow2");
    let other = pattern(2);
    place
        .store
        .put("https://images.example.org/elsewhere.raw", &other, "other");
    let url = "https://images.example.org/a/out.qcow2";
    let error = block_on(open_source(Path::new(url), None, &place.options(&[])))
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
    check(&place, url, &["https://images.example.org/"], &other);
}

#[test]
fn a_local_qcow2_can_stand_on_a_remote_one() {
    let place = Place::new();
    std::fs::write(place.path("raw"), &place.base).unwrap();
    qemu_img(&place, "convert -O qcow2 raw image");
    let url = "https://images.example.org/base.qcow2";
    place.upload("image", url);
    qemu_img(&place, &format!("create -f qcow2 -b {url} -F qcow2 -u top.qcow2 1M"));
    let top = place.path("top.qcow2");
    let error = block_on(open_source(&top, None, &place.options(&[]))).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
    assert_eq!(error.needs_trust(), Some(Path::new("https://images.example.org/")));
    check(
        &place,
        top.to_str().unwrap(),
        &["https://images.example.org"],
        &place.base,
    );
}

#[test]
fn plain_clusters_are_read_in_parallel_without_threads() {
    // More than there are threads for lookups.
    const READS: usize = 64;
    let place = Place::new();
    std::fs::write(place.path("raw"), &place.base).unwrap();
    qemu_img(&place, "convert -O qcow2 raw image");
    let url = "https://images.example.org/image.qcow2";
    place.upload("image", url);
    let files = AsyncIo::with_backend(Backend::Threads).unwrap();
    let options = place.options(&[]);
    let source = block_on(open_source_on(&files, Path::new(url), Some("qcow2"), &options)).unwrap();
    // The tables are in memory from now on.
    block_on(source.read(IoBufMut::zeroed(512), 0)).unwrap();
    place.store.hold(true);
    let read = |at| source.read(IoBufMut::zeroed(4096), at as u64 * 16384);
    let mut reads: Vec<_> = (0..READS).map(read).collect();
    let mut context = Context::from_waker(Waker::noop());
    while place.store.in_flight() < READS {
        for read in &mut reads {
            assert!(read.as_mut().poll(&mut context).is_pending());
        }
    }
    place.store.hold(false);
    for (at, read) in reads.into_iter().enumerate() {
        let at = at * 16384;
        assert_eq!(block_on(read).unwrap().as_slice(), &place.base[at..at + 4096]);
    }
}

#[test]
fn prefetch_goes_last_through_every_format_and_no_read_changes_its_thread() {
    let place = Place::new();
    std::fs::write(place.path("raw"), &place.base).unwrap();
    qemu_img(&place, "convert -O qcow2 raw image");
    let url = "https://images.example.org/base.qcow2";
    place.upload("image", url);
    let files = AsyncIo::with_backend(Backend::Threads).unwrap();
    for name in [BASE, url] {
        let options = place.options(&[]);
        let blocking = block_on(open_source(Path::new(name), None, &options)).unwrap();
        let asynchronous = block_on(open_source_on(&files, Path::new(name), None, &options)).unwrap();
        for source in [blocking, asynchronous] {
            // The tables are in memory from now on.
            block_on(source.read(IoBufMut::zeroed(512), 0)).unwrap();
            place.store.began();
            block_on(with_urgency(Urgency::Background, source.read(IoBufMut::zeroed(LEN), 0))).unwrap();
            let began = place.store.began();
            assert!(!began.is_empty());
            let here = (Urgency::Background, std::thread::current().id());
            assert!(began.iter().all(|read| *read == here), "{name}: {began:?}");
            block_on(source.read(IoBufMut::zeroed(LEN), 0)).unwrap();
            assert!(
                place
                    .store
                    .began()
                    .iter()
                    .all(|(urgency, _)| *urgency == Urgency::Demand),
                "{name}"
            );
        }
    }
}
