//! Detection of zeroes in read data. They are sent as holes instead of as data.
//!
//! A reply in chunks can say that a range reads as zeroes, whether or not it is allocated. The server finds
//! zeroes in the data itself. This needs no system call and no lookup, and works for images, raw files and
//! base images. It costs almost nothing for other data: the comparison of a block ends at its first byte that
//! is not zero. See docs/design/nbd.md, "NBD server".

use fvd::source::is_zero;

/// The granularity of the search in bytes, from the start of the data. It is the page size of file systems,
/// which have no smaller holes.
const BLOCK: usize = 4096;

/// A maximal part of the data that is either all zeroes or data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Its offset from the start of the data in bytes.
    pub(super) start: usize,
    /// Its length in bytes, at least 1.
    pub(super) length: usize,
    /// Whether all of it is zeroes.
    pub(super) is_hole: bool,
}

/// An iterator over the pieces of the data.
#[derive(Debug)]
pub(super) struct Pieces {
    at: usize,
    /// Whether the block at `at` is all zeroes.
    is_hole: bool,
}

impl Pieces {
    pub(super) fn new(data: &[u8]) -> Self {
        let is_hole = is_zero(block(data, 0));
        Self { at: 0, is_hole }
    }

    /// The next piece of `data`. Each call must get the same `data`. An incomplete last block is added to the
    /// piece before it if that is data: it is too short for its own chunk.
    pub(super) fn next(&mut self, data: &[u8]) -> Option<Piece> {
        let (start, is_hole) = (self.at, self.is_hole);
        loop {
            let block = block(data, self.at);
            if block.is_empty() {
                break;
            }
            let is_cut = block.len() < BLOCK && !is_hole && self.at > 0;
            if self.at > start && !is_cut && is_zero(block) != is_hole {
                self.is_hole = !is_hole;
                break;
            }
            self.at += block.len();
        }
        let length = self.at - start;
        (length > 0).then_some(Piece { start, length, is_hole })
    }
}

fn block(data: &[u8], at: usize) -> &[u8] {
    &data[at..data.len().min(at + BLOCK)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(data: &[u8]) -> Vec<(usize, usize, bool)> {
        let mut pieces = Pieces::new(data);
        let next = || pieces.next(data);
        std::iter::from_fn(next)
            .map(|piece| (piece.start, piece.length, piece.is_hole))
            .collect()
    }

    #[test]
    fn uniform_data_is_one_piece_whatever_its_length() {
        for length in [1, 511, 512, 4095, 4096, 4097, 70_000] {
            assert_eq!(pieces(&vec![0; length]), [(0, length, true)]);
            assert_eq!(pieces(&vec![7; length]), [(0, length, false)]);
            let mut last = vec![0; length];
            last[length - 1] = 1;
            assert!(!pieces(&last).last().unwrap().2, "{length}");
        }
        assert_eq!(pieces(&[]), []);
    }

    #[test]
    fn only_whole_blocks_of_zeroes_become_holes() {
        let mut data = vec![7; 5 * BLOCK + 100];
        data[BLOCK..3 * BLOCK].fill(0);
        data[4 * BLOCK + 1..].fill(0);
        assert_eq!(
            pieces(&data),
            [
                (0, BLOCK, false),
                (BLOCK, 2 * BLOCK, true),
                (3 * BLOCK, 2 * BLOCK + 100, false)
            ],
            "neither the rest of a block nor a block that is cut"
        );
        data[4 * BLOCK] = 0;
        assert_eq!(
            pieces(&data)[2..],
            [(3 * BLOCK, BLOCK, false), (4 * BLOCK, BLOCK + 100, true)]
        );
    }

    #[test]
    fn pieces_are_contiguous_and_holes_are_zeroes() {
        let mut rng = fastrand::Rng::with_seed(15);
        for _ in 0..300 {
            let mut data = vec![0; rng.usize(1..20 * BLOCK)];
            for _ in 0..rng.usize(..6) {
                let start = rng.usize(..data.len());
                let end = rng.usize(start..=data.len());
                data[start..end].fill(rng.u8(..));
            }
            let (mut at, mut before) = (0, None);
            for (start, length, is_hole) in pieces(&data) {
                assert!(start == at && length > 0 && before != Some(is_hole));
                assert!(!is_hole || data[start..start + length].iter().all(|&byte| byte == 0));
                (at, before) = (start + length, Some(is_hole));
            }
            assert_eq!(at, data.len());
        }
    }
}
