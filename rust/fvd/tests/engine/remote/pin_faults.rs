//! A base that is no longer the object it was.

use std::path::Path;

use bytes::Bytes;
use fvd::chain::{OpenedFile, open_image};
use fvd::copy;
use fvd::image::{Image, local_bytes, read_head};
use fvd::remote::Validator;
use fvd::storage::{FileOptions, FileStorage, IoBufMut};
use fvd::{Error, ErrorKind};
use pollster::block_on;

use super::chain::{BASE, LEN, Place, pattern, read_source};

/// What can happen to an object.
const FAULTS: [fn(&Place); 3] = [
    |place| place.store.put(BASE, &pattern(2), "second"),
    |place| place.store.truncate(BASE, LEN / 2),
    |place| place.store.remove(BASE),
];

fn local(path: &Path) -> u64 {
    let file = FileStorage::open(path, &FileOptions::default()).unwrap();
    let head = block_on(read_head(&file)).unwrap();
    block_on(local_bytes(&file, &head)).unwrap()
}

fn open_copying(place: &Place, path: &Path) -> Result<Image<OpenedFile>, Error> {
    let options = fvd::chain::ChainOptions {
        copy_on_read: Some(true),
        ..place.writable()
    };
    block_on(open_image(path, &options))
}

#[test]
fn another_object_fails_the_open_and_says_what_is_there() {
    for (fault, found) in FAULTS.iter().zip(["ETag \"second\"", "524288 bytes", "No such file"]) {
        let place = Place::new();
        let path = place.overlay("vm.fvd", BASE, "raw");
        fault(&place);
        let error = open_copying(&place, &path).err().unwrap();
        let text = error.to_string();
        assert_eq!(error.path(), Some(path.as_path()), "{text}");
        assert!(text.contains(BASE) && text.contains(found), "{text}");
        if !found.starts_with("No") {
            assert!(text.contains("expected 1048576 bytes, ETag \"first\""), "{text}");
            assert!(text.contains("backing_pin=update"), "{text}");
        }
    }
}

#[test]
fn an_object_that_changes_in_use_fails_reads_and_nothing_of_it_is_stored() {
    for fault in FAULTS {
        let place = Place::new();
        let path = place.overlay("vm.fvd", BASE, "raw");
        let image = open_copying(&place, &path).unwrap();
        let read = |offset| block_on(image.read(IoBufMut::zeroed(4096), offset));
        assert_eq!(read(0).unwrap().as_slice(), &place.base[..4096]);
        fault(&place);
        let error = read(65536).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        // What the guest writes itself needs nothing from the store.
        block_on(image.write(Bytes::from(vec![5; 8192]), 131_072)).unwrap();
        assert_eq!(read(131_072).unwrap().as_slice(), [5; 4096]);
        // Half a block has to be filled from the base.
        block_on(image.write(Bytes::from(vec![5; 512]), 524_288 - 512)).unwrap_err();
        block_on(copy::fetch(&image, 0..LEN as u64)).unwrap_err();
        block_on(image.close()).unwrap();
        drop(image);
        // What was read before, in units of 64 KiB, and the write.
        let stored = local(&path);
        assert!(stored <= 65536 + 8192, "{stored} bytes are local");
        place.store.put(BASE, &place.base, "first");
        let mut expected = place.base.clone();
        expected[131_072..][..8192].fill(5);
        let image = block_on(open_image(&path, &place.trusting())).unwrap();
        assert!(
            read_source(&image) == expected,
            "something of another object was stored"
        );
    }
}

#[test]
fn an_image_whose_blocks_are_all_local_opens_without_the_store() {
    for is_closed in [true, false] {
        let place = Place::new();
        let path = place.overlay("vm.fvd", BASE, "raw");
        let image = block_on(open_image(&path, &place.writable())).unwrap();
        block_on(image.write(Bytes::from(vec![5; LEN]), 0)).unwrap();
        block_on(image.flush()).unwrap();
        if is_closed {
            block_on(image.close()).unwrap();
        }
        drop(image);
        place.store.remove(BASE);
        for options in [place.trusting(), place.writable()] {
            let image = block_on(open_image(&path, &options)).unwrap();
            let buf = block_on(image.read(IoBufMut::zeroed(LEN), 0)).unwrap();
            assert_eq!(buf.as_slice(), vec![5; LEN], "closed: {is_closed}");
        }
    }
}

#[test]
fn an_image_that_needs_a_block_does_not_open_without_the_store() {
    let place = Place::new();
    let path = place.overlay("vm.fvd", BASE, "raw");
    let image = block_on(open_image(&path, &place.writable())).unwrap();
    block_on(image.write(Bytes::from(vec![5; LEN - 4096]), 0)).unwrap();
    block_on(image.close()).unwrap();
    drop(image);
    place.store.remove(BASE);
    let error = block_on(open_image(&path, &place.writable())).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(error.to_string().contains("its backing file"), "{error}");
}

#[test]
fn a_length_is_all_that_some_servers_say() {
    let place = Place::new();
    place.store.put_with(BASE, &place.base, Validator::Length);
    let path = place.overlay("vm.fvd", BASE, "raw");
    block_on(open_image(&path, &place.trusting())).unwrap();
    place.store.truncate(BASE, LEN - 512);
    let error = block_on(open_image(&path, &place.trusting())).err().unwrap();
    assert!(
        error
            .to_string()
            .contains("expected 1048576 bytes, found 1048064 bytes"),
        "{error}"
    );
}
