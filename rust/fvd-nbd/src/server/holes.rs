//! Zeros in what was read: told instead of sent.
//!
//! A reply in chunks can say that a range reads as zeros, whether or not it has space. That is seen in
//! the data itself, so it costs no system call and no lookup, and finds holes of images, raw files and
//! bases alike. Data costs next to nothing: a block that does not begin with a zero is looked at no further.

use fvd::source::is_zero;

/// Zeros are looked for in blocks of so many bytes, from the start of the data. The page of a file
/// system: no hole is smaller.
const BLOCK: usize = 4096;

/// A part of the data, as long as it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Bytes from the start of the data.
    pub(super) start: usize,
    /// Bytes, at least 1.
    pub(super) length: usize,
    /// All of it is zeros.
    pub(super) is_hole: bool,
}

/// The pieces of some data, one after the other.
#[derive(Debug)]
pub(super) struct Pieces {
    at: usize,
    /// What the block at `at` is.
    is_hole: bool,
}

impl Pieces {
    pub(super) fn new(data: &[u8]) -> Self {
        let is_hole = is_zero(block(data, 0));
        Self { at: 0, is_hole }
    }

    /// The next piece of `data`, which is the same each time. A block that the end cuts goes with the
    /// piece before it, if that is data: it is not worth a chunk.
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
    fn what_is_all_data_or_all_zeros_is_one_piece_however_short() {
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
    fn zeros_are_pieces_from_a_whole_block_on() {
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
    fn pieces_lie_one_behind_the_other_and_holes_are_zeros() {
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
