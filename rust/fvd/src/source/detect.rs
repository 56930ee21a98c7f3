//! Detects the format of a file by its first and last bytes.

use pollster::block_on;

use crate::error::{Error, Result};
use crate::format::unfinished;
use crate::storage::{IoBufMut, Storage};

/// How many bytes [`probe`] needs of the start and of the end of a file.
pub const PROBE_LEN: usize = 512;

/// How to use a file whose format this crate does not read.
#[derive(Clone, Copy)]
enum Use {
    /// `qemu-img` reads it.
    Qemu,
    /// This program unpacks it.
    Unpack(&'static str),
    /// It was never a disk.
    NoDisk,
}

use Use::{NoDisk, Qemu, Unpack};

/// Known formats that this crate does not read: name, and how to use such a file.
const FOREIGN: [(&str, Use); 22] = [
    ("vmdk", Qemu),
    ("vdi", Qemu),
    ("vhdx", Qemu),
    ("vpc", Qemu),
    ("qed", Qemu),
    ("qcow", Qemu),
    ("parallels", Qemu),
    ("luks", Qemu),
    ("bochs", Qemu),
    ("cloop", Qemu),
    ("dmg", Qemu),
    ("gzip", Unpack("gunzip")),
    ("xz", Unpack("unxz")),
    ("zstd", Unpack("unzstd")),
    ("bzip2", Unpack("bunzip2")),
    ("lz4", Unpack("unlz4")),
    ("lzip", Unpack("lzip -d")),
    ("zip", Unpack("unzip")),
    ("7z", Unpack("7z x")),
    ("tar", Unpack("tar -x")),
    ("html", NoDisk),
    ("xml", NoDisk),
];

/// Format, byte offset, and the bytes that its files have there.
const SIGNATURES: [(&str, usize, &[u8]); 23] = [
    ("vmdk", 0, b"KDMV"),
    ("vmdk", 0, b"COWD"),
    ("vmdk", 0, b"# Disk DescriptorFile"),
    ("vdi", 64, b"\x7f\x10\xda\xbe"),
    ("vhdx", 0, b"vhdxfile"),
    ("vpc", 0, b"conectix"),
    ("qed", 0, b"QED\0"),
    ("qcow", 0, b"QFI\xfb\0\0\0\x01"),
    ("parallels", 0, b"WithoutFreeSpace"),
    ("parallels", 0, b"WithouFreSpacExt"),
    ("luks", 0, b"LUKS\xba\xbe"),
    ("bochs", 0, b"Bochs Virtual HD Image"),
    ("cloop", 0, b"#!/bin/sh\n#V2.0 Format\n"),
    ("gzip", 0, b"\x1f\x8b\x08"),
    ("xz", 0, b"\xfd7zXZ\0"),
    ("zstd", 0, b"\x28\xb5\x2f\xfd"),
    ("lz4", 0, b"\x04\x22\x4d\x18"),
    ("lzip", 0, b"LZIP\x01"),
    ("zip", 0, b"PK\x03\x04"),
    ("7z", 0, b"7z\xbc\xaf\x27\x1c"),
    ("tar", 257, b"ustar"),
    // The qcow2 reader refuses unknown versions.
    ("qcow2", 0, b"QFI\xfb"),
    ("fvd", 0, b"\xa9\xf5\x43\x51"),
];

/// Format name of a file by its first and its last [`PROBE_LEN`] bytes: `qcow2`, `fvd`, the name of a known
/// format that this crate does not read, or otherwise `raw`.
///
/// An unfinished image or raw disk is `fvd`: reading its header fails.
///
/// A program that can write to a raw disk can choose these bytes, and so the result. Probe only files whose
/// format the user did not name, and no file that a guest has written to.
#[must_use]
pub fn probe(start: &[u8], end: &[u8]) -> &'static str {
    let has = |at: usize, magic: &[u8]| start.get(at..).is_some_and(|rest| rest.starts_with(magic));
    if unfinished::is_marked(start) {
        return "fvd";
    }
    if let Some((name, ..)) = SIGNATURES.iter().find(|(_, at, magic)| has(*at, magic)) {
        return name;
    }
    // A compression level from 1 to 9, and the magic of the first block.
    if has(0, b"BZh") && has(4, b"1AY&SY") {
        return "bzip2";
    }
    // A disk of fixed size has only a footer. Older programs made the footer a byte shorter.
    if end.starts_with(b"conectix") || end.get(1..).is_some_and(|end| end.starts_with(b"conectix")) {
        return "vpc";
    }
    if end.starts_with(b"koly") {
        return "dmg";
    }
    markup(start).unwrap_or("raw")
}

/// A web page, or the answer of a server that did not send the file.
fn markup(start: &[u8]) -> Option<&'static str> {
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let is = |word: &[u8]| {
        text.get(..word.len())
            .is_some_and(|first| first.eq_ignore_ascii_case(word))
    };
    if is(b"<!doctype html") || is(b"<html") {
        Some("html")
    } else if is(b"<?xml") {
        Some("xml")
    } else {
        None
    }
}

/// Calls [`probe`] for a file. Blocks.
pub fn probe_file<S: Storage>(file: &S) -> Result<&'static str> {
    let read = |offset| block_on(file.read(IoBufMut::zeroed(PROBE_LEN), offset));
    let len = block_on(file.len())?;
    let start = read(0)?;
    let end = read(len.saturating_sub(PROBE_LEN as u64))?;
    Ok(probe(start.as_slice(), end.as_slice()))
}

/// The message for a file that looks like `format`, if this crate does not read that format.
#[must_use]
pub fn foreign(format: &str) -> Option<String> {
    let (name, way) = FOREIGN.iter().find(|(name, _)| *name == format)?;
    let advice = match way {
        Qemu => "'qemu-img convert -O raw' makes a disk of it".to_owned(),
        Unpack(program) => format!("'{program}' unpacks it"),
        NoDisk => "it may be what a server has sent instead of a disk".to_owned(),
    };
    Some(format!("It looks like {name}, which is not read here: {advice}"))
}

/// Where the name of a file comes from. Decides how a message advises to use the file as raw.
#[derive(Clone, Copy)]
pub(crate) enum NamedBy {
    /// The user named it.
    User,
    /// An FVD image names it, or will do so once it is created.
    Fvd,
    /// A qcow2 image names it.
    Qcow2,
}

impl NamedBy {
    fn advice(self) -> &'static str {
        match self {
            Self::User => "the format raw (-f raw, for a backing file -F raw) takes its bytes as they are",
            Self::Fvd => "'fvd amend -o backing_fmt=raw' takes its bytes as they are",
            Self::Qcow2 => "'qemu-img rebase -u -b FILE -F raw' takes its bytes as they are",
        }
    }
}

/// The format of a file whose format is not named, if this crate reads it.
///
/// # Errors
///
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), naming the format, for every other known
/// format, and for an empty file.
pub(crate) fn readable<S: Storage>(file: &S, named_by: NamedBy) -> Result<&'static str> {
    let format = probe_file(file)?;
    let refused = foreign(format).or_else(|| {
        let is_empty = format == "raw" && block_on(file.len()).is_ok_and(|len| len == 0);
        is_empty.then(|| "It is empty".to_owned())
    });
    let Some(refused) = refused else {
        return Ok(format);
    };
    Err(Error::unsupported(format!("{refused}; {}", named_by.advice())).with_path(file.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probes zeros with `bytes` at `at`.
    fn probed(at: usize, bytes: &[u8]) -> &'static str {
        let mut start = [0; PROBE_LEN];
        start[at..at + bytes.len()].copy_from_slice(bytes);
        probe(&start, &[0; PROBE_LEN])
    }

    #[test]
    fn formats_are_told_by_their_magic() {
        assert_eq!(probe(b"QFI\xfb\0\0\0\x03rest", b""), "qcow2");
        assert_eq!(probe(b"QFI\xfb\0\0\0\x02", b""), "qcow2");
        assert_eq!(probe(b"QFI\xfb\0\0\0\x01", b""), "qcow");
        assert_eq!(probe(&0x5143_F5A9_u32.to_le_bytes(), b""), "fvd");
        assert_eq!(probe(&unfinished::page(), b"conectix"), "fvd");
        for (name, at, magic) in SIGNATURES {
            assert_eq!(probed(at, magic), name);
        }
        assert_eq!(probed(0, b"BZh91AY&SY"), "bzip2");
        for page in [
            "<!DOCTYPE html>",
            "\u{feff}\n <html lang=en>",
            "<HTML>",
            "<!doctype HTML PUBLIC",
        ] {
            assert_eq!(probed(0, page.as_bytes()), "html", "{page}");
        }
        assert_eq!(probed(0, b"<?xml version"), "xml");
    }

    #[test]
    fn a_footer_counts_where_there_is_no_header() {
        for at in [0, 1] {
            let mut end = [0; PROBE_LEN];
            end[at..at + 8].copy_from_slice(b"conectix");
            assert_eq!(probe(&[0; PROBE_LEN], &end), "vpc");
        }
        assert_eq!(probe(&[7; PROBE_LEN], b"koly"), "dmg");
        assert_eq!(probe(b"QFI\xfb\0\0\0\x03", b"conectix"), "qcow2");
    }

    #[test]
    fn an_unreadable_format_is_named_with_advice() {
        let found = SIGNATURES
            .iter()
            .map(|(name, ..)| *name)
            .chain(["bzip2", "dmg", "html", "xml"]);
        for name in found.filter(|name| !["qcow2", "fvd"].contains(name)) {
            let message = foreign(name).expect("it is not read");
            assert!(message.contains(&format!("looks like {name},")), "{message}");
        }
        for name in ["raw", "qcow2", "fvd"] {
            assert_eq!(foreign(name), None);
        }
    }

    #[test]
    fn anything_else_is_raw_even_if_short() {
        for bytes in [
            &b""[..],
            b"Q",
            b"QFI",
            b"BZh9",
            b"<",
            b"<htm",
            &[0xa9, 0xf5, 0x43],
            &[0; 512],
        ] {
            assert_eq!(probe(bytes, bytes), "raw", "{bytes:?}");
        }
    }
}
