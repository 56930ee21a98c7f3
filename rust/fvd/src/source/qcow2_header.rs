//! The few fields of a qcow2 header that are checked before `imago` sees the file, because it does
//! not: it ignores encryption, and the name of the backing format in images of version 2.

use crate::error::{Error, Result};
use crate::storage::{FileStorage, IoBufMut, Storage};

/// Length of the header of version 2, and where version 3 has its own length.
const V2_LEN: usize = 72;
const HEADER_LENGTH_AT: usize = 100;

/// Most bytes of header and extensions that are looked at: the smallest cluster that QEMU makes by
/// default, far more than they take.
const LOOK_LEN: usize = 64 << 10;

const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;

/// What the header of a qcow2 image says, as far as this crate wants to know it itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Size of the disk in bytes.
    pub virtual_size: u64,
    /// Bytes per cluster.
    pub cluster_size: u64,
    /// Name of the backing file, as bytes, if there is one.
    pub backing_file: Option<Vec<u8>>,
    /// Format name of the backing file, if the image gives it.
    pub backing_format: Option<Vec<u8>>,
}

impl Header {
    /// Reads it. Nothing that the image names is opened.
    ///
    /// Fails with [`ErrorKind::InvalidImage`](crate::ErrorKind::InvalidImage) where it is no qcow2
    /// header, with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for an encrypted image.
    pub fn read(storage: &FileStorage) -> Result<Self> {
        let mut buf = IoBufMut::zeroed(LOOK_LEN);
        storage.read_blocking(&mut buf, 0)?;
        Self::parse(buf.as_slice()).map_err(|error| error.with_path(storage.path()))
    }

    /// `bytes`: the first [`LOOK_LEN`] bytes of the file.
    fn parse(bytes: &[u8]) -> Result<Self> {
        let version = u32_at(bytes, 4);
        if !bytes.starts_with(b"QFI\xfb") || !matches!(version, Some(2 | 3)) {
            return Err(Error::invalid_image("It is not a qcow2 image of version 2 or 3"));
        }
        if u32_at(bytes, 32) != Some(0) {
            return Err(Error::unsupported("The image is encrypted"));
        }
        let header_len = if version == Some(3) {
            u32_at(bytes, HEADER_LENGTH_AT).map_or(0, |len| len as usize)
        } else {
            V2_LEN
        };
        Ok(Self {
            virtual_size: u64_at(bytes, 24).unwrap_or(0),
            cluster_size: u32_at(bytes, 20).and_then(|bits| 1_u64.checked_shl(bits)).unwrap_or(0),
            backing_file: backing_file(bytes)?,
            backing_format: backing_format(bytes, header_len)?,
        })
    }
}

fn backing_file(bytes: &[u8]) -> Result<Option<Vec<u8>>> {
    let at = u64_at(bytes, 8).unwrap_or(0);
    let len = u32_at(bytes, 16).unwrap_or(0) as usize;
    if at == 0 || len == 0 {
        return Ok(None);
    }
    let name = usize::try_from(at)
        .ok()
        .and_then(|at| bytes.get(at..at.checked_add(len)?));
    let name = name.ok_or_else(|| Error::invalid_image("The name of the backing file lies outside the header"))?;
    Ok(Some(name.to_vec()))
}

/// Walks the extensions, which end with a type of 0 or with the first cluster.
fn backing_format(bytes: &[u8], mut at: usize) -> Result<Option<Vec<u8>>> {
    let cluster_bits = u32_at(bytes, 20).unwrap_or(0);
    let cluster_len = 1_usize.checked_shl(cluster_bits).unwrap_or(0);
    // In images of version 2 without extensions the name of the backing file follows at once.
    let name_at = u64_at(bytes, 8).unwrap_or(0) as usize;
    let mut end = bytes.len().min(cluster_len);
    if name_at != 0 {
        end = end.min(name_at);
    }
    let mut found = None;
    while at + 8 <= end {
        let kind = u32_at(bytes, at).unwrap_or(EXTENSION_END);
        let len = u32_at(bytes, at + 4).unwrap_or(0) as usize;
        if kind == EXTENSION_END {
            break;
        }
        let data = bytes[..end].get(at + 8..at + 8 + len);
        let data = data.ok_or_else(|| Error::invalid_image("A header extension is longer than the header"))?;
        if kind == EXTENSION_BACKING_FORMAT {
            found = Some(data.to_vec());
        }
        at += 8 + len.next_multiple_of(8);
    }
    Ok(found)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(field.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at + 8)?;
    Some(u64::from_be_bytes(field.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: u8, extensions: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[..8].copy_from_slice(&[b'Q', b'F', b'I', 0xfb, 0, 0, 0, version]);
        bytes[23] = 16;
        let at = if version == 2 {
            V2_LEN
        } else {
            bytes[HEADER_LENGTH_AT + 3] = 104;
            104
        };
        bytes[at..at + extensions.len()].copy_from_slice(extensions);
        bytes
    }

    #[test]
    fn the_backing_format_is_found_behind_other_extensions() {
        let extensions = b"\x01\x02\x03\x04\0\0\0\x03abc-----\xe2\x79\x2a\xca\0\0\0\x05qcow2---\0\0\0\0";
        for version in [2, 3] {
            let header = Header::parse(&header(version, extensions)).expect("the header is good");
            assert_eq!(header.backing_format.as_deref(), Some(&b"qcow2"[..]));
        }
        let without = Header::parse(&header(3, &[])).expect("the header is good");
        assert_eq!(without.backing_format, None);
    }

    #[test]
    fn any_bytes_are_parsed_or_refused() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut bytes = header(random.u8(2..4), &[]);
            bytes.truncate(random.usize(8..=512));
            for _ in 0..random.usize(..20) {
                let at = random.usize(8..bytes.len().max(9)).min(bytes.len() - 1);
                bytes[at] = random.u8(..);
            }
            let _ = Header::parse(&bytes);
        }
    }
}
