//! Finds the parts of a buffer that are zeros.

use std::ops::Range;

use super::is_zero;

/// A part of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Byte range in the buffer.
    pub(crate) range: Range<usize>,
    /// Whether all of them are 0.
    pub(crate) zero: bool,
}

/// Cuts `bytes`, which lie at `offset` of the disk, into parts of zeros and of data. Each unit of `unit`
/// bytes, starting at a multiple of `unit` on the disk, is one or the other. Neighbours of the same kind form
/// one part.
pub(crate) fn parts(bytes: &[u8], offset: u64, unit: u64) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::with_capacity(1);
    let mut start = 0;
    while start < bytes.len() {
        let left = unit - (offset + start as u64) % unit;
        let end = bytes.len().min(start.saturating_add(left as usize));
        let zero = is_zero(&bytes[start..end]);
        match parts.last_mut() {
            Some(last) if last.zero == zero => last.range.end = end,
            _ => parts.push(Part {
                range: start..end,
                zero,
            }),
        }
        start = end;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bytes: &[u8], offset: u64, unit: u64) -> Vec<(Range<usize>, bool)> {
        let parts = parts(bytes, offset, unit).into_iter();
        parts.map(|part| (part.range, part.zero)).collect()
    }

    #[test]
    fn neighbours_of_one_kind_form_one_part() {
        let mut bytes = [0; 4096];
        bytes[600] = 1;
        bytes[1100] = 1;
        assert_eq!(
            found(&bytes, 0, 512),
            [(0..512, true), (512..1536, false), (1536..4096, true)]
        );
        assert_eq!(found(&bytes[..0], 0, 512), []);
        assert_eq!(found(&bytes, 0, 1 << 20), [(0..4096, false)]);
    }

    #[test]
    fn units_start_at_multiples_of_disk_offsets() {
        let mut bytes = [0; 1000];
        bytes[11] = 1;
        assert_eq!(found(&bytes, 500, 512), [(0..12, false), (12..1000, true)][..]);
        assert_eq!(found(&bytes, 1024 - 12, 512), [(0..12, false), (12..1000, true)]);
    }
}
