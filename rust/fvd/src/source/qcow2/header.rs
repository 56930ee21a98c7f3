//! The header of a qcow2 image, with its extensions. Opens no other file.

use super::File;
use super::bytes::{u32_at, u64_at};
use super::features::{Compression, Features, crypt_method, encryption_name};
use crate::error::{Error, Result};
use crate::storage::{IoBufMut, Storage as _};

/// Length of the header of version 2, and the least length in version 3.
const V2_LEN: usize = 72;
const V3_LEN: usize = 104;

/// The largest cluster size. The header and its extensions are in the first cluster.
const MAX_LEN: usize = 2 << 20;
/// Length of the first read, mostly enough.
const FIRST_LEN: usize = 64 << 10;

/// QEMU's limits.
const MAX_L1_BYTES: u64 = 32 << 20;
const MAX_NAME: usize = 1023;

/// The fields of the header of a qcow2 image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Size of the disk in bytes.
    pub virtual_size: u64,
    /// Bytes per cluster: a power of two from 512 to 2 MiB.
    pub cluster_size: u64,
    /// Name of the backing file, as bytes, if there is one.
    pub backing_file: Option<Vec<u8>>,
    /// Format name of the backing file, if the image has it.
    pub backing_format: Option<Vec<u8>>,
    /// Name of the external data file, if the image has it.
    pub data_file: Option<Vec<u8>>,
    /// Feature bits.
    pub features: Features,
    /// Bits per refcount.
    pub refcount_bits: u32,
    /// Number of snapshots in the image, and the offset of their table.
    pub(super) snapshots: (u32, u64),
    /// Offset and length in bytes of the bitmap directory, and its number of entries.
    pub(super) bitmaps: Option<(u64, u64, u32)>,
    pub(super) l1_offset: u64,
    pub(super) l1_entries: u64,
    pub(super) compression_type: u8,
    pub(super) feature_names: Vec<u8>,
    crypt_method: u32,
}

impl Header {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidImage`](crate::ErrorKind::InvalidImage) if the file has no qcow2 header. The
    /// header of an image that this crate cannot read, such as an encrypted one, is no error here.
    pub fn read(storage: &File) -> Result<Self> {
        let mut buf = IoBufMut::zeroed(FIRST_LEN);
        storage.read_blocking(&mut buf, 0)?;
        let cluster_size = u32_at(buf.as_slice(), 20).and_then(|bits| 1_usize.checked_shl(bits));
        let len = cluster_size.unwrap_or(0).min(MAX_LEN);
        if len > FIRST_LEN {
            buf = IoBufMut::zeroed(len);
            storage.read_blocking(&mut buf, 0)?;
        }
        Self::parse(buf.as_slice()).map_err(|error| error.with_path(storage.path()))
    }

    /// `bytes`: the first cluster of the file, or more.
    fn parse(bytes: &[u8]) -> Result<Self> {
        let version = u32_at(bytes, 4).filter(|version| matches!(version, 2 | 3));
        let Some(version) = version.filter(|_| bytes.starts_with(b"QFI\xfb") && bytes.len() >= V3_LEN + 8) else {
            return Err(Error::invalid_image("It is not a qcow2 image of version 2 or 3"));
        };
        let field = |at| u32_at(bytes, at).unwrap_or(0);
        let long = |at| u64_at(bytes, at).unwrap_or(0);
        let cluster_bits = field(20);
        if !(9..=21).contains(&cluster_bits) {
            let message = format!("The cluster size is 2^{cluster_bits}, which is not between 2^9 and 2^21");
            return Err(Error::invalid_image(message));
        }
        let cluster_size = 1_usize << cluster_bits;
        let is_v3 = version == 3;
        let header_len = if is_v3 { field(100) as usize } else { V2_LEN };
        if header_len > cluster_size || (is_v3 && header_len < V3_LEN) {
            return Err(Error::invalid_image(format!(
                "The header says that it has {header_len} bytes"
            )));
        }
        let refcount_order = if is_v3 { field(96) } else { 4 };
        if refcount_order > 6 {
            let message = format!("Refcounts have 2^{refcount_order} bits, more than 64");
            return Err(Error::invalid_image(message));
        }
        let mut header = Self {
            version,
            virtual_size: long(24),
            cluster_size: cluster_size as u64,
            backing_file: backing_file(bytes, cluster_size)?,
            backing_format: None,
            data_file: None,
            features: Features::default(),
            refcount_bits: 1 << refcount_order,
            snapshots: (field(60), long(64)),
            bitmaps: None,
            l1_offset: long(40),
            l1_entries: u64::from(field(36)),
            compression_type: 0,
            feature_names: Vec::new(),
            crypt_method: crypt_method(bytes),
        };
        if is_v3 {
            header.features = Features {
                incompatible: long(72),
                compatible: long(80),
                autoclear: long(88),
            };
            header.compression_type = if header_len > V3_LEN { bytes[V3_LEN] } else { 0 };
        }
        header.read_extensions(&bytes[..cluster_size.min(bytes.len())], header_len)?;
        Ok(header)
    }

    /// How clusters are compressed. None: an unknown method.
    #[must_use]
    pub fn compression(&self) -> Option<Compression> {
        match (self.compression_type, self.features.has_compression_type()) {
            (0, false) => Some(Compression::Zlib),
            (1, true) => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// The encryption method in the spelling of qemu-img. None: not encrypted.
    #[must_use]
    pub fn encryption(&self) -> Option<&'static str> {
        encryption_name(self.crypt_method)
    }

    /// Fails if the L1 table does not fit a disk of this size. So the table bounds every walk over the disk.
    pub(super) fn check_size(&self, file_len: u64) -> Result<()> {
        let size = self.virtual_size;
        if i64::try_from(size).is_err() {
            let message = format!("The virtual size {size} is more than a disk can have");
            return Err(Error::invalid_image(message));
        }
        let (entries, needed) = (self.l1_entries, self.l1_needed());
        if entries < needed {
            let message = format!(
                "The L1 table is too small: it has {entries} entries, and a disk of {size} bytes needs {needed}"
            );
            return Err(Error::invalid_image(message));
        }
        let bytes = entries * 8;
        if bytes > MAX_L1_BYTES {
            let message = format!("The L1 table has {entries} entries, more than QEMU permits");
            return Err(Error::invalid_image(message));
        }
        if !self.l1_offset.is_multiple_of(self.cluster_size) {
            let message = format!(
                "The L1 table lies at {}, which is not the start of a cluster",
                self.l1_offset
            );
            return Err(Error::invalid_image(message));
        }
        if self.l1_offset.checked_add(needed * 8).is_none_or(|end| end > file_len) {
            let message = "The L1 table lies beyond the end of the file, which must have been cut short";
            return Err(Error::invalid_image(message));
        }
        if self.features.has_extended_l2() && self.cluster_size < 16 << 10 {
            let message = format!("Clusters of {} bytes cannot have subclusters", self.cluster_size);
            return Err(Error::invalid_image(message));
        }
        Ok(())
    }

    /// Entries of the L1 table that the disk needs.
    pub(super) fn l1_needed(&self) -> u64 {
        self.virtual_size
            .div_ceil(self.cluster_size)
            .div_ceil(self.l2_entries())
    }

    /// 64-bit words in an entry of an L2 table.
    pub(super) fn l2_entry_words(&self) -> u64 {
        if self.features.has_extended_l2() { 2 } else { 1 }
    }

    /// Entries of an L2 table, which is one cluster long.
    pub(super) fn l2_entries(&self) -> u64 {
        self.cluster_size / 8 / self.l2_entry_words()
    }
}

fn backing_file(bytes: &[u8], cluster_size: usize) -> Result<Option<Vec<u8>>> {
    let at = u64_at(bytes, 8).unwrap_or(0);
    let len = u32_at(bytes, 16).unwrap_or(0) as usize;
    if at == 0 || len == 0 {
        return Ok(None);
    }
    let cluster = &bytes[..cluster_size.min(bytes.len())];
    let name = usize::try_from(at).ok();
    let name = name.and_then(|at| cluster.get(at..at.checked_add(len)?));
    match name.filter(|_| len <= MAX_NAME) {
        Some(name) => Ok(Some(name.to_vec())),
        None => Err(Error::invalid_image(
            "The name of the backing file lies outside the header, or is too long",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: u8, extensions: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[..8].copy_from_slice(&[b'Q', b'F', b'I', 0xfb, 0, 0, 0, version]);
        bytes[23] = 9;
        let at = if version == 2 {
            V2_LEN
        } else {
            bytes[103] = 104;
            V3_LEN
        };
        bytes[at..at + extensions.len()].copy_from_slice(extensions);
        bytes
    }

    #[test]
    fn the_backing_format_is_found_after_other_extensions() {
        let extensions = b"\x01\x02\x03\x04\0\0\0\x03abc-----\xe2\x79\x2a\xca\0\0\0\x05qcow2---\0\0\0\0";
        for version in [2, 3] {
            let header = Header::parse(&header(version, extensions)).expect("the header is good");
            assert_eq!(header.backing_format.as_deref(), Some(&b"qcow2"[..]));
        }
        let without = Header::parse(&header(3, &[])).expect("the header is good");
        assert_eq!(without.backing_format, None);
    }

    #[test]
    fn an_unknown_feature_is_shown_with_name_and_number() {
        let mut names = [0; 56];
        names[..8].copy_from_slice(b"\x68\x03\xf8\x57\0\0\0\x30");
        names[8..21].copy_from_slice(b"\0\x09time travel");
        let mut bytes = header(3, &names);
        bytes[78..80].copy_from_slice(&[0x06, 0]);
        let header = Header::parse(&bytes).expect("the header is good");
        let error = header.check_readable().expect_err("not known").to_string();
        assert!(error.contains("9 (time travel), 10"), "{error}");
        assert!(error.contains("qemu-img convert"), "{error}");
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
            if let Ok(header) = Header::parse(&bytes) {
                let _ = (header.check_readable(), header.check_size(random.u64(..)));
            }
        }
    }
}
