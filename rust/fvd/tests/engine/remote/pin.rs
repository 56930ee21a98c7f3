//! The pin: where it comes from, and what keeps it.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bytes::Bytes;
use fvd::chain::open_image;
use fvd::format::records::{self, BASE_PIN};
use fvd::format::{Area, PinKind, StoredPin, Value};
use fvd::image::amend::Changes;
use fvd::image::check::Repair;
use fvd::remote::{Pin, Validator};
use fvd::{Error, ErrorKind, tool};
use pollster::block_on;

use super::chain::{BASE, LEN, Place, pattern, read_source};

const OTHER: &str = "https://images.example.org/other.raw";

/// The bytes of the record area.
fn area(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()[records::PLACE].to_vec()
}

fn pin(path: &Path) -> Option<StoredPin> {
    let info = block_on(tool::info(path, None, false, &fvd::chain::ChainOptions::default())).unwrap();
    info[0].fvd.as_ref().unwrap().base_pin.clone()
}

fn etag(tag: &str) -> StoredPin {
    StoredPin::new(LEN as u64, PinKind::ETag, format!("\"{tag}\"").as_bytes())
}

fn amend(place: &Place, path: &Path, changes: &[(&str, &str)], unchecked: bool) -> Result<(), Error> {
    let mut all = Changes::new(true);
    for (name, value) in changes {
        let value = match value.parse() {
            Ok(number) => Value::Int(number),
            Err(_) if *value == "on" => Value::Bool(true),
            Err(_) => Value::Text(value.into()),
        };
        all.set(name, value)?;
    }
    block_on(tool::amend(path, None, &all, unchecked, &place.trusting())).map(drop)
}

/// Adds a record that this version does not know.
fn add_unknown(path: &Path) {
    let Area::Records(mut all) = Area::decode(&std::fs::read(path).unwrap()) else {
        panic!("valid");
    };
    all.set(0x7001, Some(b"from a later version".to_vec()));
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&all.encode().unwrap(), records::PLACE.start as u64)
        .unwrap();
}

#[test]
fn a_new_overlay_knows_its_object_and_asks_for_it() {
    let place = Place::new();
    let path = place.overlay("vm.fvd", BASE, "raw");
    assert_eq!(pin(&path), Some(etag("first")));
    place.store.opened();
    block_on(open_image(&path, &place.trusting())).unwrap();
    let asked = Pin {
        len: LEN as u64,
        validator: Validator::ETag("\"first\"".to_owned()),
    };
    assert_eq!(place.store.opened(), [(BASE.to_owned(), Some(asked))]);
}

#[test]
fn an_image_without_a_remote_base_has_zeros_there() {
    let place = Place::new();
    std::fs::write(place.path("base.raw"), &place.base).unwrap();
    let path = place.overlay("vm.fvd", "base.raw", "raw");
    assert_eq!(area(&path), [0; records::SIZE]);
    amend(
        &place,
        &path,
        &[("copy_on_read", "on"), ("base_img", "./base.raw")],
        false,
    )
    .unwrap();
    use_it(&place, &path);
    assert_eq!(area(&path), [0; records::SIZE]);
}

/// Opens, writes, closes, which also writes the totals.
fn use_it(place: &Place, path: &Path) {
    let image = block_on(open_image(path, &place.writable())).unwrap();
    block_on(image.write(Bytes::from(vec![9; 70_000]), 4096)).unwrap();
    block_on(image.flush()).unwrap();
    block_on(image.close()).unwrap();
}

#[test]
fn everything_that_writes_to_an_image_keeps_its_records() {
    let place = Place::new();
    let path = place.overlay("vm.fvd", BASE, "raw");
    add_unknown(&path);
    let before = area(&path);
    let check = |what: &str| assert_eq!(area(&path), before, "{what}");
    use_it(&place, &path);
    check("a session with totals");
    amend(&place, &path, &[("copy_on_read", "on"), ("base_img_fmt", "raw")], false).unwrap();
    check("amend");
    amend(
        &place,
        &path,
        &[("size", "2097152"), ("prefetch_start_delay", "5")],
        false,
    )
    .unwrap();
    check("a larger disk");
    amend(&place, &path, &[("size", "1048576")], false).unwrap();
    check("a smaller disk");
    let image = block_on(open_image(&path, &place.writable())).unwrap();
    block_on(image.write(Bytes::from(vec![8; 70_000]), 200_000)).unwrap();
    block_on(image.flush()).unwrap();
    drop(image);
    check("a crash");
    block_on(tool::check(&path, None, Repair::All, false, &place.trusting())).unwrap();
    check("a repair");
    let image = block_on(open_image(&path, &place.writable())).unwrap();
    block_on(image.write(Bytes::from(vec![7; 512]), 900_000)).unwrap();
    block_on(image.flush()).unwrap();
    drop(image);
    use_it(&place, &path);
    check("a recovery");
    // An update of the pin keeps the other record.
    place.store.put(BASE, &place.base, "second");
    amend(&place, &path, &[("backing_pin", "update")], false).unwrap();
    let Area::Records(all) = Area::decode(&std::fs::read(&path).unwrap()) else {
        panic!("valid");
    };
    assert_eq!(all.get(0x7001), Some(&b"from a later version"[..]));
    assert_eq!(all.get(BASE_PIN), Some(etag("second").encode().as_slice()));
}

#[test]
fn an_update_accepts_the_object_that_is_there() {
    let place = Place::new();
    let path = place.overlay("vm.fvd", BASE, "raw");
    let new = pattern(2);
    place.store.put(BASE, &new, "second");
    block_on(open_image(&path, &place.trusting())).err().unwrap();
    amend(&place, &path, &[("backing_pin", "update")], false).unwrap();
    assert_eq!(pin(&path), Some(etag("second")));
    let image = block_on(open_image(&path, &place.trusting())).unwrap();
    assert!(read_source(&image) == new);
}

#[test]
fn an_update_that_pins_nothing_is_refused() {
    let place = Place::new();
    std::fs::write(place.path("base.raw"), &place.base).unwrap();
    let local = place.overlay("local.fvd", "base.raw", "raw");
    let remote = place.overlay("vm.fvd", BASE, "raw");
    for (path, unchecked, why) in [(&local, false, "on this machine"), (&remote, true, "has to be opened")] {
        let error = amend(&place, path, &[("backing_pin", "update")], unchecked).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    amend(&place, &remote, &[("backing_pin", "keep")], false).unwrap_err();
    assert_eq!(pin(&remote), Some(etag("first")));
}

#[test]
fn the_pin_follows_the_name_of_the_base() {
    let place = Place::new();
    std::fs::write(place.path("base.raw"), &place.base).unwrap();
    place.store.put(OTHER, &place.base, "other");
    let path = place.overlay("vm.fvd", BASE, "raw");
    amend(&place, &path, &[("base_img", OTHER)], false).unwrap();
    assert_eq!(pin(&path), Some(etag("other")));
    // The same name again is the same object.
    place.store.put(OTHER, &place.base, "changed");
    let error = amend(&place, &path, &[("base_img", OTHER)], false).unwrap_err();
    assert!(error.to_string().contains("Another object is there"), "{error}");
    amend(&place, &path, &[("base_img", BASE)], true).unwrap();
    assert_eq!(
        (pin(&path), area(&path)),
        (None, vec![0; records::SIZE]),
        "no lookup so far"
    );
    amend(&place, &path, &[("backing_pin", "update")], false).unwrap();
    amend(&place, &path, &[("base_img", "base.raw")], false).unwrap();
    assert_eq!(area(&path), [0; records::SIZE]);
    block_on(open_image(&path, &place.options(&[]))).unwrap();
}

#[test]
fn a_validator_that_is_too_long_is_known_by_its_hash() {
    let place = Place::new();
    let long = "x".repeat(1000);
    place.store.put(BASE, &place.base, &long);
    let path = place.overlay("vm.fvd", BASE, "raw");
    assert!(pin(&path).unwrap().is_digest());
    place.store.opened();
    block_on(open_image(&path, &place.trusting())).unwrap();
    assert_eq!(place.store.opened(), [(BASE.to_owned(), None)]);
    place.store.put(BASE, &place.base, &format!("{long}y"));
    let error = block_on(open_image(&path, &place.trusting())).err().unwrap();
    assert!(error.to_string().contains("SHA-256"), "{error}");
}

#[test]
fn a_damaged_area_is_neither_believed_nor_written_over_in_silence() {
    let place = Place::new();
    std::fs::write(place.path("base.raw"), &place.base).unwrap();
    place.store.put(OTHER, &place.base, "other");
    let path = place.overlay("vm.fvd", BASE, "raw");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0xff], records::PLACE.start as u64 + 30).unwrap();
    let damaged = area(&path);
    let error = block_on(open_image(&path, &place.trusting())).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidImage, "{error}");
    assert!(error.to_string().contains("backing_pin=update"), "{error}");
    let error = amend(&place, &path, &[("base_img", OTHER)], false).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    amend(&place, &path, &[("copy_on_read", "on")], false).unwrap();
    assert_eq!(area(&path), damaged);
    // A local base needs no pin.
    amend(&place, &path, &[("base_img", "base.raw")], false).unwrap();
    use_it(&place, &path);
    assert_eq!(area(&path), damaged);
    amend(&place, &path, &[("base_img", OTHER), ("backing_pin", "update")], false).unwrap();
    assert_eq!(pin(&path), Some(etag("other")));
    block_on(open_image(&path, &place.trusting())).unwrap();
}
