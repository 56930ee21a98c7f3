//! Ways to break a qcow2 image.

use fastrand::Rng;

use super::sample::{Broken, Sample};

/// Offset and length of every number in the header.
const FIELDS: [(usize, usize); 19] = [
    (4, 4),
    (8, 8),
    (16, 4),
    (20, 4),
    (24, 8),
    (32, 4),
    (36, 4),
    (40, 8),
    (48, 8),
    (56, 4),
    (60, 4),
    (64, 8),
    (72, 8),
    (80, 8),
    (88, 8),
    (96, 4),
    (100, 4),
    (104, 1),
    (112, 8),
];

/// Breaks an image in one to four places.
pub(crate) fn mutate(rng: &mut Rng, sample: &Sample) -> Broken {
    let mut broken = Broken::default();
    for _ in 0..rng.usize(1..=4) {
        match rng.u32(..16) {
            0..=2 => header_field(rng, sample, &mut broken),
            3 => extension(rng, sample, &mut broken),
            4 | 5 => entries(rng, sample, &mut broken, sample.layout.l1),
            6..=9 => {
                let table = sample.layout.l2[rng.usize(..sample.layout.l2.len())];
                entries(rng, sample, &mut broken, table);
            }
            10 | 11 => bytes(rng, sample, &mut broken, (0, sample.good.len())),
            12 | 13 if !sample.layout.compressed.is_empty() => {
                let clusters = &sample.layout.compressed;
                let cluster = clusters[rng.usize(..clusters.len())];
                bytes(rng, sample, &mut broken, cluster);
            }
            12 | 13 => bytes(rng, sample, &mut broken, (0, 4096)),
            14 => copied_cluster(rng, sample, &mut broken),
            _ => resize(rng, sample, &mut broken),
        }
    }
    broken
}

fn header_field(rng: &mut Rng, sample: &Sample, broken: &mut Broken) {
    let (at, len) = FIELDS[rng.usize(..FIELDS.len())];
    let mut word = [0; 8];
    word[8 - len..].copy_from_slice(&sample.good[at..at + len]);
    let old = u64::from_be_bytes(word);
    let value = match rng.u32(..6) {
        0 => old.wrapping_add(1),
        1 => old.wrapping_sub(1),
        2 => old.wrapping_mul(2),
        3 => old ^ 1 << rng.u32(..8),
        _ => number(rng, sample),
    };
    sample.put(broken, at, &value.to_be_bytes()[8 - len..]);
}

/// Changes the head of a header extension, or a byte of one.
fn extension(rng: &mut Rng, sample: &Sample, broken: &mut Broken) {
    let at = 72 + rng.usize(..60) * 4;
    let value = if rng.bool() { rng.u32(..200) } else { rng.u32(..) };
    sample.put(broken, at, &value.to_be_bytes());
}

/// Changes entries of a table: to the neighbour's, to other flags, to the offset of a table, to any value.
fn entries(rng: &mut Rng, sample: &Sample, broken: &mut Broken, (offset, len): (usize, usize)) {
    for _ in 0..rng.usize(1..5) {
        let at = offset + rng.usize(..len / 8) * 8;
        let old = sample
            .good
            .get(at..at + 8)
            .map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().expect("8 bytes")));
        let flags = [0, 1, 1 << 63, 1 << 62, 3 << 62][rng.usize(..5)];
        let value = match rng.u32(..8) {
            0 => old ^ 1 << rng.u32(..64),
            1 => old ^ flags,
            2 => old.wrapping_add(sample.layout.cluster_size as u64),
            3 => flags | sample.layout.l1.0 as u64,
            4 => flags | sample.layout.l2[rng.usize(..sample.layout.l2.len())].0 as u64,
            5 => flags | (rng.u64(..64) * sample.layout.cluster_size as u64),
            6 => flags | rng.u64(..sample.good.len() as u64),
            _ => number(rng, sample),
        };
        let count = if rng.u32(..4) == 0 { rng.usize(1..30) } else { 1 };
        for entry in 0..count {
            sample.put(broken, at + entry * 8, &value.to_be_bytes());
        }
    }
}

/// Changes bytes from `offset` on.
fn bytes(rng: &mut Rng, sample: &Sample, broken: &mut Broken, (offset, len): (usize, usize)) {
    let end = sample.good.len().min(offset + len);
    for _ in 0..rng.usize(1..12) {
        // The first bytes of a compressed cluster matter most.
        let limit = if rng.u32(..4) == 0 { end.min(offset + 16) } else { end };
        let at = rng.usize(offset..limit);
        let byte = if rng.bool() {
            rng.u8(..)
        } else {
            sample.good[at] ^ 1 << rng.u32(..8)
        };
        sample.put(broken, at, &[byte]);
    }
}

/// Copies one cluster over another.
fn copied_cluster(rng: &mut Rng, sample: &Sample, broken: &mut Broken) {
    let len = sample.layout.cluster_size;
    let mut cluster = || rng.usize(..sample.good.len() / len) * len;
    let (from, to) = (cluster(), cluster());
    sample.put(broken, to, &sample.good[from..from + len]);
}

fn resize(rng: &mut Rng, sample: &Sample, broken: &mut Broken) {
    let len = sample.good.len() as u64;
    let len = match rng.u32(..3) {
        0 => rng.u64(..=len),
        1 => rng.u64(..=len / 512) * 512,
        _ => len + (1 << rng.u32(..42)),
    };
    sample.resize(broken, len);
}

fn number(rng: &mut Rng, sample: &Sample) -> u64 {
    let power = 1_u64 << rng.u32(..64);
    match rng.u32(..9) {
        0 => 0,
        1 => u64::MAX >> rng.u32(..4),
        2 => power,
        3 => power - 1,
        4 => power.wrapping_add(512),
        5 => (1 << 31) - rng.u64(..3),
        6 => rng.u64(..64) * sample.layout.cluster_size as u64,
        7 => rng.u64(..64),
        _ => rng.u64(..),
    }
}
