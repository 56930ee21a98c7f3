//! A base that the user gives in place of the one that the image names.

use std::path::Path;

use fvd::chain::{AsyncIo, ChainOptions, open_image, open_image_on};
use fvd::remote::GivenBase;
use fvd::storage::Backend;
use fvd::{Error, ErrorKind};
use pollster::block_on;

use super::chain::{BASE, LEN, Place, pattern, read_source};

const OTHER: &str = "https://other.example.org/disk";

/// Options that trust nothing, with what is at `OTHER` as the base.
fn giving(place: &Place) -> ChainOptions {
    let file = place.store.opener().open(OTHER, None).unwrap();
    ChainOptions {
        base: Some(GivenBase(file)),
        ..place.options(&[])
    }
}

fn refused(path: &Path, options: &ChainOptions) -> Error {
    block_on(open_image(path, options)).err().unwrap()
}

#[test]
fn a_given_base_needs_no_trust_and_is_read() {
    let place = Place::new();
    let path = place.overlay("vm.fvd", BASE, "raw");
    place.store.remove(BASE);
    place.store.put(OTHER, &place.base, "first");
    let image = block_on(open_image(&path, &giving(&place))).unwrap();
    assert!(read_source(&image) == place.base);
    let files = AsyncIo::with_backend(Backend::Threads).unwrap();
    let image = block_on(open_image_on(&files, &path, &giving(&place))).unwrap();
    assert!(read_source(&image) == place.base);
}

#[test]
fn a_given_base_must_be_the_object_of_the_pin() {
    let place = Place::new();
    let path = place.overlay("vm.fvd", BASE, "raw");
    place.store.put(OTHER, &place.base, "second");
    let error = refused(&path, &giving(&place));
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Io, "{text}");
    assert!(text.contains("expected 1048576 bytes, ETag \"first\""), "{text}");
    assert!(text.contains("identity \"second\""), "{text}");
    place.store.put(OTHER, &pattern(1)[..LEN / 2], "first");
    let text = refused(&path, &giving(&place)).to_string();
    assert!(text.contains("given 524288 bytes"), "{text}");
}

#[test]
fn a_base_is_given_to_the_image_alone_and_not_to_its_bases() {
    let place = Place::new();
    place.overlay("middle.fvd", BASE, "raw");
    place.upload("middle.fvd", OTHER);
    let mut request = place.request("top.fvd", "middle.fvd", "fvd");
    request.size = Some(LEN as u64);
    request.backing.as_mut().unwrap().unchecked = true;
    block_on(fvd::tool::create(&request)).unwrap();
    let top = request.path;
    // What is given names its own base, which the gate refuses.
    let error = refused(&top, &giving(&place));
    assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
    let options = ChainOptions {
        base: giving(&place).base,
        ..place.trusting()
    };
    let image = block_on(open_image(&top, &options)).unwrap();
    assert!(read_source(&image) == place.base);
}

#[test]
fn an_image_without_a_base_takes_none() {
    let place = Place::new();
    place.store.put(OTHER, &place.base, "first");
    let mut request = place.request("plain.fvd", BASE, "raw");
    request.backing = None;
    request.size = Some(LEN as u64);
    block_on(fvd::tool::create(&request)).unwrap();
    let error = refused(&request.path, &giving(&place));
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}
