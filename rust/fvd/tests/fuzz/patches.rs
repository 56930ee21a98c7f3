//! Changes of single bytes, written as bytes: a fuzzer that sees which code runs makes better ones from these.

use fastrand::Rng;

/// Bytes of a patch: an offset, and the value of the byte there.
const LEN: usize = 4;

/// The patches in `data`, for a file of `len` bytes.
pub(crate) fn of(data: &[u8], len: usize) -> impl Iterator<Item = (usize, u8)> {
    let (patches, _) = data.as_chunks::<LEN>();
    patches.iter().map(move |&[low, middle, high, value]| {
        let at = u32::from_le_bytes([low, middle, high, 0]);
        (at as usize % len, value)
    })
}

/// Two bytes, and some patches, mostly of a header.
pub(crate) fn any(rng: &mut Rng) -> Vec<u8> {
    let mut data = vec![rng.u8(..), rng.u8(..)];
    for _ in 0..rng.usize(..8) {
        let most = if rng.bool() { 4 << 10 } else { 1 << 24 };
        data.extend(&rng.u32(..most).to_le_bytes()[..3]);
        data.push(rng.u8(..));
    }
    data
}
