//! Manifests that are right, and ones that are made up.

use super::build::Manifest;
use super::head::{Chunk, FIXED, Hash, Head, PAGE_HASHES, hash, head_len};
use crate::fetch::UNIT;

fn of(index: u64) -> Hash {
    hash(&index.to_le_bytes())
}

/// Chunks, with zeros in these.
fn chunks(count: u64, zeros: &[u64]) -> Vec<Option<Hash>> {
    let chunk = |index| if zeros.contains(&index) { None } else { Some(of(index)) };
    (0..count).map(chunk).collect()
}

/// The hash that the manifest has for a chunk.
fn found(bytes: &[u8], head: &Head, index: u64) -> Option<Hash> {
    match head.chunk(index).0 {
        Chunk::Zeros => None,
        Chunk::Data(number) => {
            let range = head.page_range(number / PAGE_HASHES);
            let page = &bytes[range.start as usize..range.end as usize];
            assert_eq!(hash(page), head.pages()[(number / PAGE_HASHES) as usize]);
            let at = (number % PAGE_HASHES) as usize * 32;
            Some(page[at..at + 32].try_into().expect("a hash"))
        }
    }
}

#[test]
fn every_chunk_has_the_hash_that_it_was_given() {
    let mut rng = fastrand::Rng::with_seed(11);
    for (count, rest) in [(0, 0), (1, 1), (1, UNIT), (9, 77), (20_000, 5)] {
        let mut chunks: Vec<_> = (0..count).map(|index| Some(of(index))).collect();
        let (mut is_zero, mut left) = (false, 0);
        for chunk in &mut chunks {
            if left == 0 {
                (is_zero, left) = (!is_zero, rng.u32(1..30));
            }
            left -= 1;
            if is_zero {
                *chunk = None;
            }
        }
        let len = (count * UNIT).saturating_sub(UNIT) + rest;
        let manifest = Manifest::new(len, &chunks).expect("it fits");
        let bytes = manifest.encode();
        let head_len = head_len(&bytes).expect("a head") as usize;
        let head = Head::decode(&bytes[..head_len]).expect("valid");
        assert_eq!((&head, head.len()), (&manifest.head, len));
        assert_eq!(hash(&bytes[..head_len]), manifest.identity());
        for (index, chunk) in (0..).zip(&chunks) {
            assert_eq!(found(&bytes, &head, index), *chunk, "chunk {index} of {count}");
        }
    }
}

#[test]
fn a_run_ends_where_the_other_kind_begins() {
    let manifest = Manifest::new(9 * UNIT, &chunks(9, &[0, 3, 4, 8])).expect("it fits");
    let kinds: Vec<_> = (0..9).map(|index| manifest.head.chunk(index)).collect();
    let data = Chunk::Data;
    let expected = [
        (Chunk::Zeros, 1),
        (data(0), 3),
        (data(1), 3),
        (Chunk::Zeros, 5),
        (Chunk::Zeros, 5),
        (data(2), 8),
        (data(3), 8),
        (data(4), 8),
        (Chunk::Zeros, 9),
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn a_disk_of_16_tib_has_a_small_head() {
    let count = (16_u64 << 40) / UNIT;
    let pages = vec![[7; 32]; (count / PAGE_HASHES) as usize];
    let head = Head::new(16 << 40, Vec::new(), pages).expect("it fits");
    assert_eq!(head.encoded_len(), 64 + (256 << 10));
    assert_eq!(head.chunk(count - 1), (Chunk::Data(count - 1), count));
    let zeros = std::iter::once(1..count).collect();
    let thin = Head::new(16 << 40, zeros, vec![[7; 32]]).expect("it fits");
    assert_eq!(thin.encoded_len(), 64 + 8 + 32);
}

#[test]
fn runs_for_which_there_is_no_room_become_chunks_with_hashes() {
    // Every other chunk is zeros, and in the middle there are two together.
    let count: u64 = 600_000;
    let is_zero = |index: u64| index.is_multiple_of(2) || index == 300_001;
    let chunks: Vec<_> = (0..count).map(|index| (!is_zero(index)).then_some([1; 32])).collect();
    let manifest = Manifest::new(count * UNIT - 1, &chunks).expect("it fits");
    let head = &manifest.head;
    assert!(head.encoded_len() <= 2 << 20);
    assert_eq!(head.chunk(300_000), (Chunk::Zeros, 300_003), "the longest run is kept");
    let bytes = manifest.encode();
    let zeros = hash(&vec![0; UNIT as usize]);
    for index in (0..count).step_by(17_111) {
        let expected = if is_zero(index) {
            [None, Some(zeros)]
        } else {
            [Some([1; 32]); 2]
        };
        assert!(expected.contains(&found(&bytes, head, index)), "chunk {index}");
    }
}

#[test]
fn heads_that_lie_are_refused() {
    let good = Manifest::new(9 * UNIT, &chunks(9, &[3, 4]))
        .expect("it fits")
        .head
        .encode();
    assert!(Head::decode(&good).is_ok());
    let set = |at: usize, value: u32| {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        Head::decode(&bytes).err().map(|error| error.to_string())
    };
    for (what, at, value) in [
        ("magic", 0, 0),
        ("version", 8, 2),
        ("length of the head", 12, 63),
        ("length of the head", 12, u32::MAX),
        ("length of the object", 20, u32::MAX),
        ("chunk", 24, 4096),
        ("algorithm", 28, 2),
        ("page", 32, 1),
        ("runs", 36, u32::MAX),
        ("pages", 40, u32::MAX),
        ("reserved", 60, 1),
        ("a run outside", 64, 8),
        ("an empty run", 68, 0),
        ("a run that is too long", 68, u32::MAX),
    ] {
        assert!(set(at, value).is_some(), "{what}: {at} = {value}");
    }
    assert!(set(8, 2).is_some_and(|text| text.contains("version 2")));
    let two = |runs: [u32; 4]| {
        let mut bytes = good[..FIXED].to_vec();
        bytes[36] = 2;
        bytes[12] += 8;
        for value in runs {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes.extend_from_slice(&good[FIXED + 8..]);
        Head::decode(&bytes)
    };
    assert!(two([1, 1, 3, 1]).is_ok());
    assert!(two([3, 1, 1, 1]).is_err(), "not sorted");
    assert!(two([1, 3, 3, 1]).is_err(), "overlapping");
    assert!(two([1, 2, 3, 1]).is_err(), "touching: two heads would mean the same");
}

#[test]
fn no_bytes_make_the_reader_panic_and_what_it_takes_is_written_the_same() {
    let good = Manifest::new(70 * UNIT - 9, &chunks(70, &[3, 4, 9, 30, 31]));
    let good = good.expect("it fits").head.encode();
    let mut rng = fastrand::Rng::with_seed(3);
    let mut taken = 0;
    for _ in 0..200_000 {
        let mut bytes = good.clone();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..bytes.len());
            bytes[at] = [0, 1, 0xff, 0x80, rng.u8(..)][rng.usize(..5)];
        }
        if rng.u8(..) < 32 {
            bytes.truncate(rng.usize(..bytes.len()));
        }
        if let Ok(head) = Head::decode(&bytes) {
            assert_eq!(head.encode(), bytes);
            assert!(head.page_range(head.pages().len() as u64 - 1).end > head.encoded_len());
            for index in 0..head.len().div_ceil(UNIT).min(100) {
                let (_, end) = head.chunk(index);
                assert!(end > index);
            }
            taken += 1;
        }
    }
    assert!(taken > 10_000, "changed hashes are valid heads: {taken}");
}
