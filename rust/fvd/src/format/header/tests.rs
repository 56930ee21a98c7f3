use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;
use crate::format::{Geometry, Layout, LayoutOptions};

fn plain() -> Header {
    let options = LayoutOptions {
        virtual_size: 1 << 20,
        ..LayoutOptions::default()
    };
    Layout::compute(&options).expect("a plain image").header()
}

fn with_bytes(offset: usize, patch: &[u8]) -> Vec<u8> {
    let mut bytes = plain().encode().expect("fits");
    bytes[offset..offset + patch.len()].copy_from_slice(patch);
    bytes
}

/// Decodes a header that must be refused, and returns the message.
fn refusal(bytes: &[u8]) -> String {
    let error = Header::decode(bytes).expect_err("must be refused");
    assert_eq!(error.kind(), ErrorKind::InvalidImage);
    error.to_string()
}

fn unfit(change: impl FnOnce(&mut Header)) -> String {
    let mut header = plain();
    change(&mut header);
    let error = header.encode().expect_err("does not fit");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    error.to_string()
}

const UNSIGNED_64: [(usize, &str); 11] = [
    (12, "virtual_disk_size"),
    (20, "metadata_size"),
    (1068, "base_img_size"),
    (1076, "bitmap_offset"),
    (1084, "bitmap_size"),
    (2152, "prefetch_profile_offset"),
    (2160, "prefetch_profile_entries"),
    (2212, "table_offset"),
    (2220, "chunk_size"),
    (2228, "storage_grow_unit"),
    (4284, "journal_offset"),
];

const STRINGS: [(usize, usize, &str); 6] = [
    (28, 1024, "base_img"),
    (1052, 16, "base_img_fmt"),
    (1108, 1024, "data_file"),
    (2132, 16, "data_file_fmt"),
    (2236, 2048, "add_storage_cmd"),
    (4320, 16, "write_updates_base_img"),
];

const BOOLEANS: [(usize, &str); 6] = [
    (8, "all_data_in_fvd_img"),
    (1096, "copy_on_read"),
    (2208, "compact_image"),
    (4300, "clean_shutdown"),
    (4304, "need_zero_init"),
    (4308, "generate_prefetch_profile"),
];

#[test]
fn the_magic_is_a9_f5_43_51_on_disk() {
    let bytes = plain().encode().expect("fits");
    assert_eq!(bytes[..8], [0xA9, 0xF5, 0x43, 0x51, 1, 0, 0, 0]);
    assert!(Header::is_fvd(&bytes));
    assert!(Header::is_fvd(&bytes[..4]));
    assert!(!Header::is_fvd(&bytes[..3]));
    assert!(!Header::is_fvd(b"QFI\xFB"));
}

#[test]
fn an_encoded_header_fills_its_region_with_zeros() {
    let bytes = plain().encode().expect("fits");
    assert_eq!(bytes.len() as u64, HEADER_SIZE);
    assert!(bytes[RAW_SIZE..].iter().all(|byte| *byte == 0));
}

#[test]
fn the_fields_alone_are_enough_and_what_follows_is_ignored() {
    let mut bytes = plain().encode().expect("fits");
    assert_eq!(Header::decode(&bytes[..RAW_SIZE]).expect("whole"), plain());
    bytes[RAW_SIZE..].fill(0xEE);
    assert_eq!(Header::decode(&bytes).expect("whole"), plain());
}

#[test]
fn fewer_bytes_than_the_fields_need_are_refused() {
    let bytes = plain().encode().expect("fits");
    assert!(refusal(&bytes[..RAW_SIZE - 1]).contains("4336 bytes, the file only 4335"));
    assert!(refusal(&bytes[..4]).contains("only 4"));
    assert!(refusal(&bytes[..3]).contains("not an FVD image"));
    assert!(refusal(&[]).contains("not an FVD image"));
}

#[test]
fn another_magic_is_refused_with_its_value() {
    let message = refusal(&with_bytes(0, b"QFI\xFB"));
    assert!(message.contains("not an FVD image: magic is 0xFB494651"), "{message}");
}

#[test]
fn another_version_is_refused_with_its_value() {
    for version in [0_u32, 2, u32::MAX] {
        let message = refusal(&with_bytes(4, &version.to_le_bytes()));
        assert!(message.contains(&format!("version is {version}")), "{message}");
    }
}

#[test]
fn unsigned_fields_refuse_negative_numbers_by_name_and_value() {
    for (offset, name) in UNSIGNED_64.into_iter().chain([(4292, "journal_size")]) {
        for value in [-1, i64::MIN] {
            let message = refusal(&with_bytes(offset, &value.to_le_bytes()));
            assert!(message.contains(&format!("{name} is {value}")), "{message}");
        }
        Header::decode(&with_bytes(offset, &i64::MAX.to_le_bytes())).expect("not negative");
    }
    let message = refusal(&with_bytes(1092, &(-512_i32).to_le_bytes()));
    assert!(message.contains("block_size is -512"), "{message}");
}

#[test]
fn signed_fields_keep_negative_numbers() {
    let header = Header::decode(&with_bytes(1100, &i64::MIN.to_le_bytes())).expect("signed");
    assert_eq!(header.max_outstanding_copy_on_read_data, i64::MIN);
    let header = Header::decode(&with_bytes(4316, &(-1_i32).to_le_bytes())).expect("signed");
    assert_eq!(header.profile_directed_prefetch_start_delay, -1);
}

#[test]
fn any_number_except_zero_is_true_and_one_is_written() {
    for (offset, name) in BOOLEANS {
        for (stored, value) in [(0, false), (1, true), (2, true), (-1, true), (i32::MIN, true)] {
            let header = Header::decode(&with_bytes(offset, &stored.to_le_bytes())).expect(name);
            let fields = header.fields();
            let field = fields.iter().find(|field| field.0 == name).expect(name);
            assert_eq!(field.1, FieldValue::Bool(value), "{name}");
            let again = header.encode().expect("fits");
            assert_eq!(again[offset..offset + 4], i32::from(value).to_le_bytes(), "{name}");
        }
    }
}

#[test]
fn a_string_without_a_nul_is_refused_by_name() {
    for (offset, len, name) in STRINGS {
        let message = refusal(&with_bytes(offset, &vec![b'x'; len]));
        assert!(message.contains(&format!("{name} does not end")), "{message}");
        Header::decode(&with_bytes(offset, &vec![b'x'; len - 1])).expect("has a NUL");
    }
}

#[test]
fn a_string_ends_at_its_first_nul() {
    let header = Header::decode(&with_bytes(28, b"base.raw\0garbage")).expect("legal");
    assert_eq!(header.base_img, "base.raw");
}

#[test]
fn format_names_must_be_utf8_and_paths_need_not() {
    for (offset, name) in [
        (1052, "base_img_fmt"),
        (2132, "data_file_fmt"),
        (4320, "write_updates_base_img"),
    ] {
        let message = refusal(&with_bytes(offset, b"ra\xFFw"));
        assert!(message.contains(&format!(r#"{name} is "ra\xffw""#)), "{message}");
    }
    let bytes = with_bytes(28, b"ba\xFFse");
    let header = Header::decode(&bytes).expect("a path is bytes");
    assert_eq!(header.encode().expect("fits"), bytes);
}

#[test]
fn a_string_may_fill_its_array_except_for_the_nul() {
    let mut header = plain();
    header.base_img = "b".repeat(1023).into();
    header.data_file_fmt = "f".repeat(15);
    header.add_storage_cmd = "c".repeat(2047).into();
    assert_eq!(Header::decode(&header.encode().expect("fits")).expect("legal"), header);
}

#[test]
fn a_string_that_does_not_fit_is_refused_by_name() {
    let message = unfit(|header| header.base_img = "b".repeat(1024).into());
    assert!(message.contains("base_img has 1024 bytes"), "{message}");
    let message = unfit(|header| header.data_file = "d".repeat(1024).into());
    assert!(message.contains("data_file has"), "{message}");
    let message = unfit(|header| header.base_img_fmt = "f".repeat(16));
    assert!(message.contains("base_img_fmt has"), "{message}");
    let message = unfit(|header| header.add_storage_cmd = "c".repeat(2048).into());
    assert!(message.contains("add_storage_cmd has"), "{message}");
    let message = unfit(|header| header.base_img = "a\0b".into());
    assert!(message.contains(r#"base_img is "a\x00b""#), "{message}");
}

#[test]
fn a_number_that_does_not_fit_is_refused_by_name() {
    let message = unfit(|header| header.virtual_disk_size = 1 << 63);
    assert!(
        message.contains("virtual_disk_size is 9223372036854775808"),
        "{message}"
    );
    let message = unfit(|header| header.block_size = 1 << 31);
    assert!(message.contains("block_size is 2147483648"), "{message}");
}

#[test]
fn all_fields_are_listed_in_order_under_the_names_of_the_format() {
    let fields = plain().fields();
    let names: Vec<_> = fields.iter().map(|field| field.0).collect();
    assert_eq!(names.len(), 41);
    assert_eq!(
        names[..4],
        ["magic", "version", "all_data_in_fvd_img", "virtual_disk_size"]
    );
    assert_eq!(
        names[38..],
        [
            "unit_of_PrefetchProfileEntry_len",
            "profile_directed_prefetch_start_delay",
            "write_updates_base_img"
        ]
    );
    assert_eq!(fields[0].1, FieldValue::Int(1_363_408_297));
    assert_eq!(fields[3].1, FieldValue::Int(1 << 20));
}

prop_compose! {
    /// A header with random bytes after the version, except the bytes that must be valid to decode it.
    fn header_bytes()(mut bytes in prop::collection::vec(any::<u8>(), RAW_SIZE)) -> Vec<u8> {
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        for (offset, _) in UNSIGNED_64 {
            bytes[offset + 7] &= 0x7F;
        }
        bytes[4299] &= 0x7F;
        bytes[1095] &= 0x7F;
        for (offset, len, _) in STRINGS {
            for byte in &mut bytes[offset..offset + len] {
                *byte &= 0x7F;
            }
            bytes[offset + len - 1] = 0;
        }
        bytes
    }
}

proptest! {
    #[test]
    fn an_encoded_header_decodes_to_the_same_header(bytes in header_bytes()) {
        let header = Header::decode(&bytes).expect("decodable");
        let encoded = header.encode().expect("it came from an image");
        prop_assert_eq!(Header::decode(&encoded).expect("decodable"), header);
    }

    #[test]
    fn numbers_come_back_byte_for_byte(bytes in header_bytes()) {
        let encoded = Header::decode(&bytes).expect("decodable").encode().expect("fits");
        for (offset, len) in [(12, 16), (1068, 28), (1100, 8), (2148, 60), (2212, 24),
                              (4284, 16), (4312, 8)] {
            prop_assert_eq!(&encoded[offset..offset + len], &bytes[offset..offset + len]);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..RAW_SIZE + 64),
        magic in any::<bool>(),
        file_len in any::<u64>(),
    ) {
        if magic && bytes.len() >= 8 {
            bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
            bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        }
        if let Ok(header) = Header::decode(&bytes) {
            let _ = Geometry::new(&header, file_len);
        }
    }

    #[test]
    fn any_numbers_in_a_header_never_panic_the_geometry(
        bytes in header_bytes(),
        file_len in any::<u64>(),
    ) {
        let header = Header::decode(&bytes).expect("decodable");
        let _ = Geometry::new(&header, file_len);
    }
}

#[test]
fn only_changed_fields_are_overwritten() {
    let mut old = plain();
    old.base_img = "a".into();
    let mut raw = old.encode().expect("fits");
    // Values that other programs may leave: bytes after a NUL, and a boolean of 2.
    raw[40] = 0xEE;
    raw[1140] = 0xEE;
    raw[1096..1100].copy_from_slice(&2_i32.to_le_bytes());
    let new = Header {
        base_img: "another".into(),
        virtual_disk_size: 512,
        ..Header::decode(&raw).expect("valid")
    };
    new.write_changes(&Header::decode(&raw).expect("valid"), &mut raw)
        .expect("fits");
    assert_eq!(Header::decode(&raw).expect("valid"), new);
    assert_eq!((raw[40], raw[1140], raw[1096]), (0, 0xEE, 2));
}
