//! Which format a file has, by its first bytes.

use crate::format::unfinished;

/// Bytes of a file that [`probe`] wants to see; fewer if the file is shorter.
pub const PROBE_LEN: usize = 8;

/// Format name of a file that starts with `first_bytes`: `qcow2`, `fvd` or, for all else, `raw`.
///
/// What is not finished, an image or a raw disk, is `fvd`: it is refused when its header is read.
///
/// Whoever can write to a raw disk chooses its first bytes, and so what this says. Probe only files
/// whose format the user did not name, and none that a guest has written to.
#[must_use]
pub fn probe(first_bytes: &[u8]) -> &'static str {
    match first_bytes {
        // Version 1 (`qcow`) has the same magic, and another format behind it.
        [b'Q', b'F', b'I', 0xfb, 0, 0, 0, 2 | 3, ..] => "qcow2",
        [0xa9, 0xf5, 0x43, 0x51, ..] => "fvd",
        _ if unfinished::is_marked(first_bytes) => "fvd",
        _ => "raw",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_magic() {
        assert_eq!(probe(b"QFI\xfb\0\0\0\x03rest"), "qcow2");
        assert_eq!(probe(b"QFI\xfb\0\0\0\x02"), "qcow2");
        assert_eq!(probe(&0x5143_F5A9_u32.to_le_bytes()), "fvd");
    }

    #[test]
    fn anything_else_is_raw_however_short() {
        for bytes in [
            &b""[..],
            b"Q",
            b"QFI\xfb",
            b"QFI\xfb\0\0\0\x01",
            &[0xa9, 0xf5, 0x43],
            &[0; 512],
        ] {
            assert_eq!(probe(bytes), "raw", "{bytes:?}");
        }
    }
}
