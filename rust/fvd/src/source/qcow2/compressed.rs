//! Reads compressed clusters.

use std::io::Read;
use std::sync::Arc;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::File;
use super::cache::{Cache, Key};
use super::features::Compression;
use crate::error::{Error, Result};
use crate::storage::{IoBufMut, Storage as _};

/// The most bytes of decompressed clusters in memory, for a whole chain.
const MOST_KEPT: usize = 4 << 20;

/// The largest window of a zstd frame, in bytes. Compressors do not exceed it unless they are told to.
const MOST_WINDOW: u64 = 8 << 20;

/// Decompressed clusters of all images of a chain.
pub(super) type Clusters = Cache<[u8]>;

pub(super) fn clusters() -> Clusters {
    Cache::new(MOST_KEPT)
}

/// A compressed cluster.
pub(super) struct Compressed<'a> {
    pub(super) file: &'a File,
    pub(super) method: Compression,
    /// Length of the decompressed cluster, in bytes.
    pub(super) cluster_size: u64,
    /// Offset in the file, and the most bytes (`len`) that it takes there.
    pub(super) host: u64,
    pub(super) len: usize,
}

impl Compressed<'_> {
    /// The decompressed content, from the cache if it is there under `key`.
    pub(super) fn content(&self, clusters: &Clusters, key: Key) -> Result<Arc<[u8]>> {
        if let Some(content) = clusters.get(key) {
            return Ok(content);
        }
        let mut stored = IoBufMut::zeroed(self.len);
        self.file.read_blocking(&mut stored, self.host)?;
        let mut content = vec![0; self.cluster_size as usize];
        let is_whole = match self.method {
            Compression::Zlib => inflate(stored.as_slice(), &mut content),
            Compression::Zstd => unzstd(stored.as_slice(), &mut content),
        };
        if !is_whole {
            let message = format!("The compressed cluster cannot be decompressed ({})", self.method.name());
            let error = Error::invalid_image(message).with_path(self.file.path());
            return Err(error.with_offset(self.host));
        }
        let content: Arc<[u8]> = content.into();
        clusters.put(key, &content, content.len());
        Ok(content)
    }
}

/// Fills all of `content`, and returns whether it could. Other data may follow the compressed data.
fn inflate(stored: &[u8], content: &mut [u8]) -> bool {
    let mut state = Box::new(DecompressorOxide::new());
    let (status, _, written) = decompress(&mut state, stored, content, 0, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF);
    matches!(status, TINFLStatus::Done | TINFLStatus::HasMoreOutput) && written == content.len()
}

/// As [`inflate`], for zstd.
fn unzstd(mut stored: &[u8], content: &mut [u8]) -> bool {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(MOST_WINDOW);
    if decoder.init(&mut stored).is_err() {
        return false;
    }
    let mut written = 0;
    while written < content.len() {
        // A block gives 128 KiB at most, and consumes some of `stored`.
        let decoded = decoder.decode_blocks(&mut stored, BlockDecodingStrategy::UptoBlocks(1));
        let read = decoder.read(&mut content[written..]).unwrap_or(0);
        written += read;
        match decoded {
            Ok(false) => {}
            Ok(true) if read > 0 => return written == content.len() || drain(&mut decoder, content, written),
            _ => return false,
        }
    }
    true
}

/// Reads the rest of a frame that has ended.
fn drain(decoder: &mut FrameDecoder, content: &mut [u8], mut written: usize) -> bool {
    while written < content.len() {
        match decoder.read(&mut content[written..]) {
            Ok(read) if read > 0 => written += read,
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_or_broken_cluster_is_refused() {
        let stored = miniz_oxide::deflate::compress_to_vec(&[7; 4096], 6);
        let mut content = [0; 4096];
        assert!(inflate(&stored, &mut content));
        assert_eq!(content, [7; 4096]);
        // Padding follows, or the stream holds more than a cluster.
        assert!(inflate(&[&stored[..], &[9; 500]].concat(), &mut content));
        assert!(inflate(&stored, &mut content[..512]));
        assert!(!inflate(&stored, &mut [0; 8192]));
        assert!(!inflate(&stored[..stored.len() / 2], &mut content));
        assert!(!inflate(&[], &mut content) && !unzstd(&[], &mut content));
    }

    #[test]
    fn any_bytes_are_decompressed_or_refused() {
        let mut random = fastrand::Rng::with_seed(5);
        // A frame of one raw block, which the test then mutates.
        let frame = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x01, 0x01, 0x00][..], &[7; 32]].concat();
        let mut content = [0; 32];
        assert!(unzstd(&frame, &mut content));
        assert_eq!(content, [7; 32]);
        for _ in 0..20_000 {
            let mut bytes = frame.clone();
            for _ in 0..random.usize(1..8) {
                let at = random.usize(4..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(4..=bytes.len()));
            let _ = (unzstd(&bytes, &mut [0; 4096]), inflate(&bytes, &mut [0; 4096]));
        }
    }
}
