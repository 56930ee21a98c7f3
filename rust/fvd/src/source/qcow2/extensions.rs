//! The extensions of a qcow2 header.

use super::bytes::{u32_at, u64_at};
use super::header::Header;
use crate::error::{Error, Result};

const END: u32 = 0;
const BACKING_FORMAT: u32 = 0xe279_2aca;
const FEATURE_NAMES: u32 = 0x6803_f857;
const BITMAPS: u32 = 0x2385_2875;
const DATA_FILE: u32 = 0x4441_5441;

/// The most bytes of a format name in QEMU, and of a path in Linux.
const MAX_FORMAT: usize = 15;
const MAX_PATH: usize = 4095;

impl Header {
    /// Reads the extensions. They end with type 0, with the first cluster, or with the name of the backing
    /// file, which in images of version 2 may follow at once.
    pub(super) fn read_extensions(&mut self, cluster: &[u8], header_len: usize) -> Result<()> {
        let name_at = u64_at(cluster, 8).unwrap_or(0) as usize;
        let end = if name_at == 0 {
            cluster.len()
        } else {
            cluster.len().min(name_at)
        };
        let mut at = header_len;
        while at + 8 <= end {
            let kind = u32_at(cluster, at).unwrap_or(END);
            let len = u32_at(cluster, at + 4).unwrap_or(0) as usize;
            if kind == END {
                break;
            }
            let data = cluster[..end].get(at + 8..at + 8 + len);
            let data = data.ok_or_else(|| Error::invalid_image("A header extension is longer than the header"))?;
            match kind {
                BACKING_FORMAT => self.backing_format = Some(name("format of the backing file", data, MAX_FORMAT)?),
                DATA_FILE => self.data_file = Some(name("data file", data, MAX_PATH)?),
                FEATURE_NAMES => self.feature_names = data.to_vec(),
                BITMAPS => self.bitmaps = bitmap_directory(data),
                _ => {}
            }
            at += 8 + len.next_multiple_of(8);
        }
        Ok(())
    }
}

fn name(of: &str, data: &[u8], most: usize) -> Result<Vec<u8>> {
    if data.len() <= most {
        return Ok(data.to_vec());
    }
    let message = format!("The name of the {of} has {} bytes, more than {most}", data.len());
    Err(Error::invalid_image(message))
}

/// Offset and length of the bitmap directory in bytes, and its number of entries.
fn bitmap_directory(extension: &[u8]) -> Option<(u64, u64, u32)> {
    let count = u32_at(extension, 0)?;
    Some((u64_at(extension, 16)?, u64_at(extension, 8)?, count))
}
