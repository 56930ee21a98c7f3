//! Convert, compare and map, compared with `qemu-img`.
//!
//! One test at a time: while a test spawns a process, that process briefly holds the files of all other
//! tests, and so their locks.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fvd::chain::{ChainOptions, open_source};
use fvd::source::BaseSource;
use fvd::tool::Progress;
use fvd::tool::compare::{Comparison, compare};
use fvd::tool::convert::{ConvertRequest, Format, Source, Target, convert};
use fvd::tool::map::{MapEntry, map};
use pollster::block_on;
use tempfile::{TempDir, tempdir};

struct Bench {
    directory: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Bench {
    fn new() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        Self {
            _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner),
            directory: tempdir().expect("a directory"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A raw disk with these pieces of data, each at its offset.
    fn raw(&self, name: &str, len: u64, pieces: &[(u64, &[u8])]) -> PathBuf {
        let path = self.path(name);
        let file = File::create(&path).expect("a file");
        for (offset, bytes) in pieces {
            file.write_all_at(bytes, *offset).expect("room");
        }
        file.set_len(len).expect("a length");
        path
    }

    fn qemu_img(&self, args: &[&str]) -> Output {
        let mut command = Command::new("qemu-img");
        let output = command.args(args).current_dir(self.directory.path()).output();
        output.expect("qemu-img is installed")
    }

    fn convert(&self, source: &str, target: &str, format: Format) {
        let source = Source::File {
            path: self.path(source),
            format: None,
        };
        let mut request = ConvertRequest::new(source, Target::File(self.path(target)), format);
        request.create.layout.compact = true;
        convert(&request, &mut go_on).expect("a conversion");
    }

    /// The result of `qemu-img compare` for two raw disks, as a [`Comparison`].
    fn qemu_compare(&self, a: &str, b: &str, strict: bool) -> Comparison {
        let mut args = vec!["compare", "-f", "raw", "-F", "raw", a, b];
        if strict {
            args.push("-s");
        }
        let output = self.qemu_img(&args);
        let text = String::from_utf8(output.stdout).expect("text");
        let number = || {
            let digits: String = text.chars().skip_while(|c| !c.is_ascii_digit()).collect();
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            digits[..end].parse().expect("an offset")
        };
        match output.status.code() {
            Some(0) => Comparison::Identical,
            Some(1) if text.contains("Content mismatch") => Comparison::ContentDiffers { offset: number() },
            Some(1) if text.contains("size mismatch") => Comparison::SizeDiffers,
            Some(1) if text.contains("status mismatch") => Comparison::StatusDiffers { offset: number() },
            other => panic!("qemu-img compare: {other:?} {text}"),
        }
    }

    fn compare(&self, a: &str, b: &str, strict: bool) -> Comparison {
        let [a, b] = [a, b].map(|name| open(&self.path(name), None));
        compare(a.as_ref(), b.as_ref(), strict, &mut go_on).expect("a comparison")
    }

    fn check_compare(&self, a: &str, b: &str) -> Comparison {
        let verdict = self.compare(a, b, false);
        assert_eq!(verdict, self.compare(b, a, false), "{a} {b}");
        assert_eq!(verdict, self.qemu_compare(a, b, false), "{a} {b}");
        verdict
    }
}

fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn open(path: &Path, format: Option<&str>) -> Box<dyn BaseSource> {
    block_on(open_source(path, format, &ChainOptions::default())).expect("a disk")
}

fn random(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::fill(&mut bytes);
    bytes
}

fn entries(path: &Path, start: u64, len: Option<u64>) -> Vec<MapEntry> {
    let source = open(path, Some("raw"));
    let mut found = Vec::new();
    block_on(map(source.as_ref(), start, len, |entry| found.push(entry))).expect("a map");
    found
}

/// In the format of `qemu-img map --output=json`.
fn json(entries: &[MapEntry]) -> String {
    let lines = entries.iter().map(|entry| {
        let offset = entry.location.as_ref().map(|at| format!(", \"offset\": {}", at.offset));
        format!(
            "{{ \"start\": {}, \"length\": {}, \"depth\": {}, \"present\": {}, \"zero\": {}, \"data\": {}, \
             \"compressed\": false{}}}",
            entry.start,
            entry.length,
            entry.depth,
            entry.present,
            entry.zero,
            entry.data,
            offset.unwrap_or_default()
        )
    });
    format!("[{}]\n", lines.collect::<Vec<_>>().join(",\n"))
}

#[test]
fn conversions_match_qemu_img_in_both_directions() {
    let bench = Bench::new();
    let data = random(300_000);
    bench.raw(
        "source",
        9_000_001,
        &[(100, &data), (5_000_000, &data), (8_999_000, b"end")],
    );
    let made = bench.qemu_img(&["convert", "-f", "raw", "-O", "qcow2", "source", "qcow2"]);
    assert!(made.status.success());
    bench.convert("qcow2", "fvd", Format::Fvd);
    bench.convert("fvd", "raw", Format::Raw);
    for args in [["raw", "qcow2", "qcow2"], ["source", "raw", "raw"]] {
        let [a, format, b] = args;
        let output = bench.qemu_img(&["compare", "-f", "raw", "-F", format, a, b]);
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn a_difference_is_in_the_sector_that_qemu_img_names() {
    let bench = Bench::new();
    let data = random(5 << 20);
    bench.raw("disk", 5 << 20, &[(0, &data)]);
    for at in [0, 511, 512, 100_000, (1 << 20) - 1, 1 << 20, 3_333_333, (5 << 20) - 1] {
        let mut other = data.clone();
        other[at] ^= 1;
        // A later difference does not matter.
        other[(5 << 20) - 1] ^= 2;
        bench.raw("other", 5 << 20, &[(0, &other)]);
        let offset = at as u64 / 512 * 512;
        let found = bench.check_compare("disk", "other");
        assert_eq!(found, Comparison::ContentDiffers { offset });
    }
}

#[test]
fn holes_equal_stored_zeros_and_nothing_else() {
    let bench = Bench::new();
    bench.raw("hole", 3 << 20, &[]);
    bench.raw("zeros", 3 << 20, &[(0, &vec![0; 3 << 20])]);
    bench.raw("data", 3 << 20, &[(2_345_678, b"x")]);
    bench.raw("stored", 3 << 20, &[(0, &vec![0; 3 << 20]), (2_345_678, b"x")]);
    let differs = Comparison::ContentDiffers {
        offset: 2_345_678 / 512 * 512,
    };
    for (a, b, expected) in [
        ("hole", "zeros", Comparison::Identical),
        ("hole", "hole", Comparison::Identical),
        ("data", "stored", Comparison::Identical),
        ("hole", "data", differs),
        ("zeros", "data", differs),
        ("hole", "stored", differs),
        ("zeros", "stored", differs),
    ] {
        assert_eq!(bench.check_compare(a, b), expected, "{a} {b}");
    }
}

#[test]
fn the_longer_disk_may_end_in_zeros_only() {
    let bench = Bench::new();
    let data = random(100_000);
    bench.raw("short", 100_000, &[(0, &data)]);
    bench.raw("hole", 5 << 20, &[(0, &data)]);
    bench.raw("zeros", 200_000, &[(0, &data), (150_000, &vec![0; 50_000])]);
    bench.raw("more", 5 << 20, &[(0, &data), (4_000_000, b"x")]);
    bench.raw("next", 5 << 20, &[(0, &data), (100_000, b"x")]);
    assert_eq!(bench.check_compare("short", "hole"), Comparison::Identical);
    assert_eq!(bench.check_compare("short", "zeros"), Comparison::Identical);
    let found = bench.check_compare("short", "more");
    assert_eq!(
        found,
        Comparison::ContentDiffers {
            offset: 4_000_000 / 512 * 512
        }
    );
    // In the sector where the shorter disk ends. (qemu-img names the byte where it ends.)
    let found = bench.compare("short", "next", false);
    assert_eq!(
        found,
        Comparison::ContentDiffers {
            offset: 100_000 / 512 * 512
        }
    );
}

#[test]
fn a_strict_comparison_includes_sizes_and_holes() {
    let bench = Bench::new();
    let data = random(64 << 10);
    bench.raw("a", 1 << 20, &[(0, &data)]);
    bench.raw("b", 1 << 20, &[(0, &data)]);
    bench.raw(
        "stored",
        1 << 20,
        &[(0, &data), (64 << 10, &vec![0; (1 << 20) - (64 << 10)])],
    );
    bench.raw("long", 2 << 20, &[(0, &data)]);
    bench.raw("hole", 1 << 20, &[]);
    bench.raw("zeros", 1 << 20, &[(0, &vec![0; 1 << 20])]);
    for (a, b, expected) in [
        ("a", "b", Comparison::Identical),
        ("a", "long", Comparison::SizeDiffers),
        ("hole", "zeros", Comparison::StatusDiffers { offset: 0 }),
    ] {
        assert_eq!(bench.compare(a, b, true), expected, "{a} {b}");
        assert_eq!(bench.qemu_compare(a, b, true), expected, "{a} {b}");
    }
    // qemu-img names the start of the run where it notices. This crate names the place where the runs begin
    // to differ.
    let found = bench.compare("a", "stored", true);
    assert_eq!(found, Comparison::StatusDiffers { offset: 64 << 10 });
    let theirs = bench.qemu_compare("a", "stored", true);
    assert!(matches!(theirs, Comparison::StatusDiffers { .. }), "{theirs:?}");
}

#[test]
fn disks_of_different_formats_can_be_compared() {
    let bench = Bench::new();
    let data = random(777_777);
    bench.raw("raw", 5 << 20, &[(1_000_000, &data)]);
    bench.convert("raw", "fvd", Format::Fvd);
    bench.qemu_img(&["convert", "-f", "raw", "-O", "qcow2", "raw", "qcow2"]);
    for (a, b) in [("raw", "fvd"), ("fvd", "qcow2"), ("qcow2", "raw")] {
        assert_eq!(bench.compare(a, b, false), Comparison::Identical, "{a} {b}");
    }
    bench.raw("raw", 5 << 20, &[(1_000_000, &data), (1_777_777, b"x")]);
    let expected = Comparison::ContentDiffers {
        offset: 1_777_777 / 512 * 512,
    };
    assert_eq!(bench.compare("raw", "fvd", false), expected);
    assert_eq!(bench.compare("qcow2", "raw", false), expected);
}

#[test]
fn a_raw_disk_has_the_map_of_qemu_img() {
    let bench = Bench::new();
    let data = random(100_000);
    let disks = [
        bench.raw(
            "holes",
            300 << 20,
            &[(1 << 20, &data), (7 << 20, &data), (200 << 20, &data)],
        ),
        bench.raw("odd", (300 << 20) + 777, &[(1 << 20, &data), (250 << 20, &data)]),
        bench.raw("ends", 99_999, &[(0, &data[..99_999])]),
        bench.raw("hole", 10_000, &[]),
        bench.raw("sector", 512, &[(0, &data[..512])]),
    ];
    for path in disks {
        let name = path.file_name().expect("a name").to_str().expect("text");
        let theirs = bench.qemu_img(&["map", "--output=json", "-f", "raw", name]).stdout;
        let ours = json(&entries(&path, 0, None));
        assert_eq!(ours, String::from_utf8(theirs).expect("text"), "{name}");
    }
    // For an empty disk, qemu-img reports a range of 0 bytes.
    assert_eq!(entries(&bench.raw("empty", 0, &[]), 0, None), []);
    for (start, len) in [(0, 5000), (1000, 2_000_000), (1 << 20, 1), (7_350_000, 100_000_000)] {
        let options = [format!("--start-offset={start}"), format!("--max-length={len}")];
        let args = ["map", "--output=json", "-f", "raw", &options[0], &options[1], "holes"];
        let theirs = bench.qemu_img(&args).stdout;
        let ours = json(&entries(&bench.path("holes"), start, Some(len)));
        assert_eq!(ours, String::from_utf8(theirs).expect("text"), "{start} {len}");
    }
}

#[test]
fn an_image_is_mapped_through_its_chunks() {
    let bench = Bench::new();
    let data = random(2 << 20);
    bench.raw("raw", 10 << 20, &[(0, &data), (4 << 20, &data)]);
    bench.convert("raw", "fvd", Format::Fvd);
    let source = open(&bench.path("fvd"), Some("fvd"));
    let mut found = Vec::new();
    block_on(map(source.as_ref(), 0, None, |entry| {
        let at = entry.location.map(|location| location.offset);
        found.push((entry.start, entry.length, entry.present, entry.data, at.is_some()));
    }))
    .expect("a map");
    let mib = |n: u64| n << 20;
    let expected = [
        (0, mib(2), true, true, true),
        (mib(2), mib(2), false, false, false),
        (mib(4), mib(2), true, true, true),
        (mib(6), mib(4), false, false, false),
    ];
    assert_eq!(found, expected);
    drop(source);
    fs::remove_file(bench.path("fvd")).expect("it is closed");
}
