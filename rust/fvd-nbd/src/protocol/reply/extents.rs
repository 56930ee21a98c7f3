//! The extents of a status reply in the form that the protocol requires.

use crate::protocol::constants::MAX_EXTENTS;
use crate::protocol::session::{HeaderStyle, Session};

/// Collects the extents that answer a status request for one metadata context.
///
/// The extents begin at the offset of the request and are contiguous. Adjacent extents with the same flags
/// are merged. An extent that reaches beyond the request is cut at its end, because clients differ in how
/// they treat more than they asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extents {
    list: Vec<(u64, u32)>,
    /// The number of bytes of the request that no extent covers yet.
    left: u64,
    /// The maximum length of one extent in bytes; a multiple of the preferred block size.
    longest: u64,
    most: usize,
}

impl Extents {
    /// An empty list for a request of `length` bytes. With `one` the reply has only one extent.
    #[must_use]
    pub fn new(session: &Session, length: u64, one: bool) -> Self {
        let longest = if session.style == HeaderStyle::Extended {
            u64::MAX
        } else {
            // `preferred` is a power of two and a multiple of the minimum, so extents are aligned to both.
            let preferred = u64::from(session.export.block_sizes.preferred);
            u64::from(u32::MAX) / preferred * preferred
        };
        Self {
            list: Vec::new(),
            left: length,
            longest,
            most: if one { 1 } else { MAX_EXTENTS },
        }
    }

    /// Adds `length` bytes with these flags. Bytes beyond the request or the limits are dropped. Returns
    /// false if no more extents are wanted.
    pub fn push(&mut self, length: u64, flags: u32) -> bool {
        let mut length = length.min(self.left);
        while length > 0 {
            let full = self.list.len() == self.most;
            let taken = match self.list.last_mut() {
                Some((last, same)) if *same == flags && *last < self.longest => {
                    let taken = length.min(self.longest - *last);
                    *last += taken;
                    taken
                }
                _ if full => {
                    self.left = 0;
                    break;
                }
                _ => {
                    let taken = length.min(self.longest);
                    self.list.push((taken, flags));
                    taken
                }
            };
            length -= taken;
            self.left -= taken;
        }
        self.left > 0
    }

    /// Each extent as (length in bytes, at least 1; flags).
    #[must_use]
    pub fn as_slice(&self) -> &[(u64, u32)] {
        &self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::export::ExportInfo;
    use crate::protocol::meta::Contexts;

    const TIB: u64 = 1 << 40;

    fn session(style: HeaderStyle) -> Session {
        Session {
            export: ExportInfo::new("", 16 * TIB),
            style,
            contexts: Contexts::all(),
            encrypted: false,
        }
    }

    fn extents(style: HeaderStyle, length: u64, one: bool, parts: &[(u64, u32)]) -> Vec<(u64, u32)> {
        let mut extents = Extents::new(&session(style), length, one);
        for &(length, flags) in parts {
            if !extents.push(length, flags) {
                break;
            }
        }
        extents.list
    }

    #[test]
    fn adjacent_extents_with_the_same_flags_are_merged() {
        let parts = [(512, 0), (512, 0), (1024, 3), (512, 0)];
        let merged = extents(HeaderStyle::Structured, 4096, false, &parts);
        assert_eq!(merged, [(1024, 0), (1024, 3), (512, 0)]);
    }

    #[test]
    fn extents_beyond_the_request_are_cut_off() {
        let parts = [(1000, 0), (1 << 30, 3), (1, 0)];
        assert_eq!(
            extents(HeaderStyle::Structured, 4096, false, &parts),
            [(1000, 0), (3096, 3)]
        );
    }

    #[test]
    fn a_single_extent_includes_all_adjacent_equal_ones() {
        let parts = [(512, 0), (512, 0), (512, 3)];
        assert_eq!(extents(HeaderStyle::Structured, 4096, true, &parts), [(1024, 0)]);
        assert_eq!(extents(HeaderStyle::Structured, 512, true, &parts), [(512, 0)]);
    }

    #[test]
    fn a_16_tib_hole_is_cut_below_4_gib_on_a_block_boundary() {
        let hole = [(16 * TIB, 3)];
        let longest = (1 << 32) - 4096;
        let cut = extents(HeaderStyle::Structured, u64::from(u32::MAX), false, &hole);
        assert_eq!(cut, [(longest, 3), (4095, 3)]);
        assert_eq!(
            extents(HeaderStyle::Structured, u64::from(u32::MAX), true, &hole),
            [(longest, 3)]
        );
        // No request without extended headers can be that long. The test shows that nothing would wrap.
        let cut = extents(HeaderStyle::Structured, 16 * TIB, false, &hole);
        assert!(cut[..cut.len() - 1].iter().all(|&(length, _)| length == longest));
        assert_eq!(cut.iter().map(|(length, _)| length).sum::<u64>(), 16 * TIB);
    }

    #[test]
    fn a_16_tib_hole_is_one_extent_with_extended_headers() {
        let cut = extents(HeaderStyle::Extended, 16 * TIB, false, &[(u64::MAX, 3)]);
        assert_eq!(cut, [(16 * TIB, 3)]);
    }

    #[test]
    fn extents_beyond_the_limit_are_left_for_the_next_request() {
        let mut extents = Extents::new(&session(HeaderStyle::Extended), TIB, false);
        let mut pushed = 0_u32;
        while extents.push(512, pushed % 2) {
            pushed += 1;
        }
        assert_eq!(extents.list.len(), MAX_EXTENTS);
        assert_eq!(pushed as usize, MAX_EXTENTS);
        assert!(!extents.push(512, 7), "nor does anything follow what was left out");
        assert_eq!(extents.list.last(), Some(&(512, 1)));
    }
}
