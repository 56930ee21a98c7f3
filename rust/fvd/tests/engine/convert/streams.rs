//! Raw disks from and to pipes.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use fvd::ErrorKind;
use fvd::tool::convert::{ConvertRequest, Format, Source, Target, convert};
use tempfile::tempdir;

use super::support::{KINDS, Kind, allocated, content, make, pipe_with, read_all, request, run, write_raw};

#[test]
fn a_pipe_converts_into_every_kind() {
    let directory = tempdir().expect("a directory");
    let target = directory.path().join("target");
    for to in KINDS {
        for (len, sparse_size) in [(3_333_333, 4096), (3_333_333, 0), (512, 4096), (0, 4096)] {
            let mut bytes = content(len);
            let source = Source::Stream(pipe_with(bytes.clone()));
            let mut request = ConvertRequest::new(source, Target::File(target.clone()), to.format());
            request.create = to.options(&target);
            request.force = true;
            request.sparse_size = sparse_size;
            let converted = run(&request).expect("a conversion");
            assert_eq!(converted.size, len as u64);
            if to != Kind::Raw {
                bytes.resize(len.next_multiple_of(512), 0);
            }
            assert!(read_all(&target, to.format()) == bytes, "{to:?}");
        }
    }
}

#[test]
fn zeros_from_a_pipe_become_holes() {
    let directory = tempdir().expect("a directory");
    let target = directory.path().join("target");
    let mut bytes = vec![0; 8 << 20];
    bytes[5_000_000] = 1;
    let source = Source::Stream(pipe_with(bytes.clone()));
    run(&ConvertRequest::new(source, Target::File(target.clone()), Format::Raw)).expect("a conversion");
    assert!(fs::read(&target).expect("the target") == bytes);
    assert!(allocated(&target) <= 64 << 10);
}

#[test]
fn a_pipe_gets_every_byte_in_order() {
    let directory = tempdir().expect("a directory");
    let source = directory.path().join("source");
    for from in KINDS {
        let bytes = content(3_000_320);
        make(from, &source, &bytes);
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let drain = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).expect("a pipe can be read");
            bytes
        });
        let mut request = request(&source, &source, Format::Raw);
        request.target = Target::Stream(File::from(OwnedFd::from(writer)));
        request.out_of_order = true;
        run(&request).expect("a conversion");
        drop(request);
        let got = drain.join().expect("the reader");
        assert!(got[..bytes.len()] == bytes, "{from:?}");
        assert_eq!(got.len(), read_all(&source, from.format()).len());
    }
}

#[test]
fn a_pipe_can_be_copied_into_another_one() {
    let bytes = content(2_222_222);
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let expected = bytes.clone();
    let drain = std::thread::spawn(move || {
        let mut got = Vec::new();
        reader.read_to_end(&mut got).expect("a pipe can be read");
        assert!(got == expected);
    });
    let source = Source::Stream(pipe_with(bytes));
    let target = Target::Stream(File::from(OwnedFd::from(writer)));
    let request = ConvertRequest::new(source, target, Format::Raw);
    run(&request).expect("a conversion");
    drop(request);
    drain.join().expect("the reader");
}

#[test]
fn a_regular_file_as_standard_input_keeps_its_holes() {
    let directory = tempdir().expect("a directory");
    let (source, target) = (directory.path().join("source"), directory.path().join("target"));
    let bytes = content(2_000_001);
    write_raw(&source, &bytes);
    let source = Source::Stream(File::open(&source).expect("the source"));
    let mut request = ConvertRequest::new(source, Target::File(target.clone()), Format::Fvd);
    request.create = Kind::Compact.options(&target);
    let mut totals = Vec::new();
    let converted = convert(&request, &mut |progress| {
        totals.push(progress.total);
        ControlFlow::Continue(())
    });
    assert_eq!(converted.expect("a conversion").size, bytes.len() as u64);
    assert!(totals.iter().all(Option::is_some), "the size is known");
    assert!(read_all(&target, Format::Fvd)[..bytes.len()] == bytes);
}

#[test]
fn a_silent_pipe_does_not_delay_a_cancellation() {
    let directory = tempdir().expect("a directory");
    let target = directory.path().join("target");
    for format in [Format::Raw, Format::Fvd] {
        // Open until the end of the test: who waits for the rest waits for ever.
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        writer.write_all(b"a beginning").expect("room in the pipe");
        let source = Source::Stream(File::from(OwnedFd::from(reader)));
        let request = ConvertRequest::new(source, Target::File(target.clone()), format);
        let error = convert(&request, &mut |_| ControlFlow::Break(())).expect_err("cancelled");
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        let left = fs::read_dir(directory.path()).expect("the directory").count();
        assert_eq!(left, 0, "no target, no temporary file");
    }
}
