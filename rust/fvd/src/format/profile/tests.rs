use proptest::prelude::*;

use super::*;

const UNIT: u64 = 4096;
const DISK: u64 = 1 << 20;

fn profile(capacity: u64) -> Profile {
    Profile::new(UNIT, DISK, capacity)
}

fn of(ranges: &[Range<u64>]) -> Profile {
    let mut profile = profile(100);
    for range in ranges {
        assert!(profile.add(range.clone()));
    }
    profile
}

fn pairs(profile: &Profile) -> Vec<(u64, u64)> {
    let ranges = profile.ranges().into_iter();
    ranges.map(|range| (range.start, range.end)).collect()
}

#[test]
fn an_entry_is_a_signed_offset_and_a_length_little_endian() {
    let entry = ProfileEntry {
        offset: 0x0102_0304_0506_0708,
        len: 0x0A0B_0C0D,
    };
    let bytes = [8, 7, 6, 5, 4, 3, 2, 1, 0x0D, 0x0C, 0x0B, 0x0A];
    assert_eq!(entry.encode(), bytes);
    assert_eq!(ProfileEntry::decode(&bytes), entry);
    assert_eq!(ProfileEntry::decode(&[0xFF; 12]).bytes(UNIT), None);
}

#[test]
fn ranges_keep_the_order_in_which_they_came() {
    let profile = of(&[8 * UNIT..9 * UNIT, 2 * UNIT..4 * UNIT, 6 * UNIT..7 * UNIT]);
    assert_eq!(
        profile.ranges(),
        [8 * UNIT..9 * UNIT, 2 * UNIT..4 * UNIT, 6 * UNIT..7 * UNIT]
    );
}

#[test]
fn ranges_are_rounded_out_to_units_and_adjacent_ones_merge() {
    let profile = of(&[4097..4098, 8191..8193, 12288..12289]);
    assert_eq!(pairs(&profile), [(4096, 16384)]);
}

#[test]
fn a_unit_occurs_once_at_its_first_use() {
    let profile = of(&[8 * UNIT..10 * UNIT, 6 * UNIT..12 * UNIT, 9 * UNIT..10 * UNIT]);
    assert_eq!(
        profile.ranges(),
        [8 * UNIT..10 * UNIT, 6 * UNIT..8 * UNIT, 10 * UNIT..12 * UNIT]
    );
}

#[test]
fn a_range_is_cut_at_the_end_of_the_disk() {
    let mut profile = Profile::new(UNIT, DISK + 512, 100);
    assert!(profile.add(DISK..u64::MAX));
    assert!(profile.add(DISK + 4096..DISK + 8192));
    assert_eq!(pairs(&profile), [(DISK, DISK + 512)]);
    assert_eq!(profile.encode().len(), 12);
}

#[test]
fn a_full_profile_refuses_entries_but_its_last_one_still_grows() {
    let mut profile = profile(2);
    assert!(profile.add(0..UNIT) && profile.add(4 * UNIT..5 * UNIT));
    assert!(profile.add(5 * UNIT..6 * UNIT));
    assert!(!profile.add(8 * UNIT..9 * UNIT));
    assert!(profile.add(0..UNIT));
    assert_eq!(profile.ranges(), [0..UNIT, 4 * UNIT..6 * UNIT]);
}

#[test]
fn a_run_longer_than_the_largest_length_takes_several_entries() {
    let mut profile = Profile::new(512, 1 << 43, 100);
    assert!(profile.add(0..1 << 43));
    let most = u64::from(u32::MAX) * 512;
    assert_eq!(profile.len(), 5);
    assert_eq!(profile.ranges()[1], most..2 * most);
    let mut again = Profile::new(512, 1 << 43, 100);
    again.decode(&profile.encode());
    assert_eq!(again, profile);
}

#[test]
fn entries_outside_the_disk_are_ignored_or_cut_at_its_end() {
    let entries = [
        (-1, 1),
        (i64::MAX, u32::MAX),
        (0, 0),
        (DISK.cast_signed() - 1, u32::MAX),
    ];
    let bytes: Vec<u8> = entries
        .iter()
        .flat_map(|(offset, len)| {
            ProfileEntry {
                offset: *offset,
                len: *len,
            }
            .encode()
        })
        .collect();
    let mut profile = profile(100);
    profile.decode(&bytes);
    assert_eq!(pairs(&profile), [(DISK - UNIT, DISK)]);
}

proptest! {
    #[test]
    fn an_encoded_profile_decodes_to_the_same_profile(
        ranges in prop::collection::vec((0..DISK + UNIT, 0..64 * UNIT), 0..50),
        capacity in 0_u64..60,
    ) {
        let mut profile = profile(capacity);
        for (start, len) in ranges {
            profile.add(start..start + len);
        }
        let bytes = profile.encode();
        prop_assert_eq!(bytes.len() as u64, profile.len() as u64 * ENTRY_SIZE);
        prop_assert!(profile.len() as u64 <= capacity);
        let mut again = Profile::new(UNIT, DISK, capacity);
        again.decode(&bytes);
        prop_assert_eq!(again, profile);
    }

    #[test]
    fn any_bytes_decode_to_ranges_in_the_disk_without_overlaps(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        near in prop::collection::vec((-UNIT.cast_signed()..DISK.cast_signed() * 2, any::<u32>()), 0..50),
        unit in prop::sample::select(vec![512, UNIT, 12800, 0x7FFF_FE00]),
    ) {
        let mut profile = Profile::new(unit, DISK, 40);
        let near = near.iter().flat_map(|&(offset, len)| ProfileEntry { offset, len: len >> (len % 32) }.encode());
        profile.decode(&near.chain(bytes).collect::<Vec<u8>>());
        prop_assert!(profile.len() <= 40);
        let mut seen = RangeSet::new();
        for range in profile.ranges() {
            prop_assert!(range.start < range.end && range.end <= DISK);
            prop_assert!(!seen.overlaps(&range), "{:?} occurs twice", range);
            seen.insert(range);
        }
    }
}

#[test]
fn decoding_stops_when_the_profile_is_full() {
    // The first 100000 entries have gaps between them, and the next one fills these gaps until the profile is
    // full. A search for the gaps of each remaining entry would take very long.
    let mut profile = Profile::new(4096, 1 << 40, 150_000);
    let entry = |offset, len| ProfileEntry { offset, len }.encode();
    let units = (0..100_000).map(|n| entry(n * 8192, 1));
    let bytes: Vec<u8> = units.chain((0..300_000).map(|_| entry(0, 1 << 28))).flatten().collect();
    profile.decode(&bytes);
    assert_eq!(profile.len(), 150_000);
}
