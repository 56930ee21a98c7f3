use proptest::prelude::*;

use super::*;
use crate::format::{Layout, LayoutOptions};

/// The header region of an image.
fn region() -> Vec<u8> {
    let options = LayoutOptions {
        virtual_size: 1 << 30,
        base_size: Some(1 << 29),
        compact: true,
        ..LayoutOptions::default()
    };
    let mut header = Layout::compute(&options).expect("valid").header();
    header.base_img = "base.raw".into();
    header.encode().expect("fits")
}

/// `region` with the fence, and with the redo copy of a change to `fields`.
fn with_copy(region: &[u8], fields: &[u8]) -> Vec<u8> {
    let copy = encode(&region[..END], &whole(region, fields)).expect("fits");
    let mut region = region.to_vec();
    region[OFFSET as usize..][..SIZE].copy_from_slice(&copy);
    fence::put_into(&mut region);
    region
}

/// `fields`, followed by the records of `region`.
fn whole(region: &[u8], fields: &[u8]) -> Vec<u8> {
    [fields, &region[fields.len()..END]].concat()
}

/// The fields that result from the redo copy.
fn replayed(region: &[u8]) -> Option<Vec<u8>> {
    replay(region).map(|redone| redone.fields[..RAW_SIZE].to_vec())
}

fn changed(fields: &[u8], edits: &[(usize, u8)]) -> Vec<u8> {
    let mut fields = fields.to_vec();
    for &(at, byte) in edits {
        fields[at] = byte;
    }
    fields
}

#[test]
fn a_header_without_a_copy_does_not_change() {
    assert_eq!(replay(&region()), None);
    assert_eq!(replay(&[]), None);
    assert_eq!(replay(&region()[..RAW_SIZE]), None);
}

#[test]
fn the_bytes_on_disk_are_those_of_the_design() {
    let old = region();
    let new = changed(&old[..RAW_SIZE], &[(12, 7), (15, 8)]);
    let with_copy = with_copy(&old, &new);
    let copy = &with_copy[4608..];
    assert_eq!(&copy[..8], b"RED2\x1a\0\0\0");
    assert_eq!(&copy[12..20], [12, 0, 4, 0, 7, old[13], old[14], 8]);
    // The patches that restore the fields of the fence.
    assert_eq!(&copy[20..24], [188, 16, 4, 0]);
    assert_eq!(&copy[24..28], &old[4284..4288]);
    assert_eq!(&copy[28..32], [199, 16, 6, 0]);
    assert_eq!(&copy[32..38], &old[4295..4301]);
    assert!(copy[38..].iter().all(|byte| *byte == 0));
    assert_eq!(&with_copy[4284..4304], b"REDO\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn a_copy_counts_only_while_the_header_has_the_fence() {
    let old = region();
    let new = changed(&old[..RAW_SIZE], &[(12, 7)]);
    let mut region = with_copy(&old, &new);
    assert_eq!(replayed(&region), Some(new.clone()));
    // Before the fence is written, and after all fields are in place.
    region[..RAW_SIZE].copy_from_slice(&old[..RAW_SIZE]);
    assert_eq!(replay(&region), None);
    region[..RAW_SIZE].copy_from_slice(&new);
    assert_eq!(replay(&region), None);
    assert!(is_in(&region));
    // An image without a journal that another program has open is unclean, but has no fence.
    let without = changed(&old[..RAW_SIZE], &[(4292, 0), (4293, 0), (4294, 0), (4295, 0)]);
    let mut region = with_copy(&[&without, &old[RAW_SIZE..]].concat(), &without);
    region[4284..4304].copy_from_slice(&without[4284..4304]);
    region[4300] = 0;
    assert_eq!(replay(&region), None);
}

#[test]
fn a_copy_says_whether_the_size_changes() {
    let old = region();
    for (at, resizes) in [(11, false), (12, true), (19, true), (20, false), (28, false)] {
        let new = changed(&old[..RAW_SIZE], &[(at, old[at] ^ 1)]);
        let redone = replay(&with_copy(&old, &new)).expect("counts");
        assert_eq!(redone.resizes, resizes, "{at}");
    }
}

#[test]
fn all_names_and_numbers_that_can_be_amended_fit() {
    let old = region();
    let mut new = old[..RAW_SIZE].to_vec();
    // All bytes of all fields that can be amended.
    for range in [
        8..28,
        28..1068,
        1068..1076,
        1100..2148,
        2148..2208,
        2228..2236,
        4284..4336,
    ] {
        new[range].iter_mut().for_each(|byte| *byte ^= 0xFF);
    }
    assert_eq!(replayed(&with_copy(&old, &new)), Some(new.clone()));
    // The record area with them.
    let mut all = whole(&old, &new);
    all[RAW_SIZE..].fill(0xEE);
    let mut region = old.clone();
    region[OFFSET as usize..][..SIZE].copy_from_slice(&encode(&old[..END], &all).expect("fits"));
    fence::put_into(&mut region);
    assert_eq!(replay(&region).map(|redone| redone.fields), Some(all));
}

#[test]
fn a_change_that_does_not_fit_is_refused() {
    let old = region();
    let mut new = old[..END].to_vec();
    new[8..3600].iter_mut().for_each(|byte| *byte ^= 0xFF);
    let error = encode(&old[..END], &new).expect_err("too much");
    assert!(error.to_string().contains("too many changes"), "{error}");
}

#[test]
fn no_patch_changes_magic_version_or_bytes_after_the_fields() {
    let old = region();
    for (offset, len) in [(0_u16, 4_u16), (7, 2), (4335, 2), (u16::MAX, 1), (4300, 900)] {
        let mut patches = [offset.to_le_bytes(), len.to_le_bytes()].concat();
        patches.resize(patches.len() + usize::from(len).min(600), 1);
        let mut fields = old[..RAW_SIZE].to_vec();
        assert_eq!(patch(&mut fields, &patches), None, "{offset} {len}");
    }
}

#[test]
fn a_header_that_another_program_changed_is_left_alone() {
    let old = region();
    let new = changed(&old[..RAW_SIZE], &[(12, 1)]);
    let mut region = with_copy(&old, &new);
    region[2184] ^= 1;
    assert_eq!(replay(&region), None);
}

fn edits() -> impl Strategy<Value = Vec<(usize, u8)>> {
    prop::collection::vec((8..RAW_SIZE, any::<u8>()), 0..60)
}

proptest! {
    #[test]
    fn the_result_is_the_same_whichever_sectors_are_already_new(edits in edits(), mix in any::<u16>()) {
        let old = region();
        let new = changed(&old[..RAW_SIZE], &edits);
        let mut region = with_copy(&old, &new);
        for sector in (0..8).filter(|sector| mix >> sector & 1 == 1) {
            let range = sector * 512..sector * 512 + 512;
            region[range.clone()].copy_from_slice(&new[range]);
        }
        prop_assert_eq!(replayed(&region), Some(new));
    }

    #[test]
    fn a_torn_copy_is_ignored(edits in edits(), keep in 0..127_u8, before in edits()) {
        let old = region();
        let new = changed(&old[..RAW_SIZE], &edits);
        prop_assume!(new != old[..RAW_SIZE]);
        let whole = with_copy(&old, &new);
        // The region holds the copy of an earlier change, or zeros.
        let mut torn = with_copy(&old, &changed(&old[..RAW_SIZE], &before));
        if before.is_empty() {
            torn[OFFSET as usize..].fill(0);
        }
        for sector in (0..7).filter(|sector| keep >> sector & 1 == 1) {
            let start = OFFSET as usize + sector * 512;
            torn[start..start + 512].copy_from_slice(&whole[start..start + 512]);
        }
        let earlier = changed(&old[..RAW_SIZE], &before);
        let outcome = replayed(&torn);
        prop_assert!(outcome.is_none() || outcome == Some(new) || outcome == Some(earlier));
    }

    #[test]
    fn random_bytes_are_never_a_valid_copy(bytes in prop::collection::vec(any::<u8>(), 0..SIZE), length in any::<u32>()) {
        let mut region = region();
        let at = OFFSET as usize;
        region[at..at + bytes.len()].copy_from_slice(&bytes);
        fence::put_into(&mut region);
        region[at..at + 4].copy_from_slice(if length % 2 == 0 { b"RED2" } else { b"REDO" });
        prop_assert_eq!(replay(&region), None);
        region[at + 4..at + 8].copy_from_slice(&(length % 4096).to_le_bytes());
        prop_assert_eq!(replay(&region), None);
    }
}
