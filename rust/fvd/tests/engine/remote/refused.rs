//! Where a URL cannot be used, and what the error says.

use std::path::Path;

use fvd::ErrorKind;
use fvd::chain::{ChainOptions, open_image, open_source};
use fvd::image::amend::Changes;
use fvd::image::check::Repair;
use fvd::storage::FileStorage;
use fvd::tool;
use pollster::block_on;

use super::chain::{BASE, Place};

#[test]
fn a_program_without_an_opener_says_so() {
    let place = Place::new();
    let path = place.overlay("vm.fvd", BASE, "raw");
    let options = ChainOptions {
        remote: None,
        ..place.trusting()
    };
    let error = block_on(open_source(Path::new(BASE), None, &options)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("no URL"), "{error}");
    let error = block_on(open_image(&path, &options)).err().unwrap();
    assert_eq!(
        (error.kind(), error.path()),
        (ErrorKind::Unsupported, Some(path.as_path()))
    );
    assert!(error.to_string().contains(BASE), "{error}");
}

#[test]
fn what_needs_a_local_file_refuses_a_url() {
    let place = Place::new();
    let url = Path::new(BASE);
    let options = place.options(&[]);
    let create = block_on(tool::create(&place.request(BASE, BASE, "raw"))).err();
    let errors = [
        FileStorage::open(url, &fvd::storage::FileOptions::default()).err(),
        FileStorage::create(url, false).err(),
        block_on(tool::amend(url, None, &Changes::new(false), false, &options)).err(),
        block_on(tool::check(url, None, Repair::All, false, &options)).err(),
        block_on(tool::stats(url, false)).err(),
    ];
    assert!(create.is_some());
    for error in errors {
        let error = error.unwrap();
        assert!(error.to_string().contains("a file on this machine"), "{error}");
        assert!(error.to_string().contains(BASE), "its slashes are whole: {error}");
    }
}

#[test]
fn a_url_with_credentials_is_refused_without_showing_them() {
    let place = Place::new();
    for url in [
        "https://me:s3cr3t@images.example.org/base.raw",
        "https://images.example.org/base.raw?sig=s3cr3t",
    ] {
        let error = block_on(tool::create(&place.request("vm.fvd", url, "raw"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{error}");
        assert!(!place.path("vm.fvd").exists());
    }
}

#[test]
fn a_remote_base_is_never_written_to() {
    let place = Place::new();
    let mut request = place.request("vm.fvd", BASE, "raw");
    request.options.write_updates_base_img = fvd::format::BaseUpdate::Writeback;
    let error = block_on(tool::create(&request)).unwrap_err();
    assert!(error.to_string().contains("another machine"), "{error}");
}

#[test]
fn an_error_of_the_store_names_image_and_url() {
    let place = Place::new();
    let path = place.overlay("vm.fvd", BASE, "raw");
    place.store.remove(BASE);
    let error = block_on(open_image(&path, &place.trusting())).err().unwrap();
    assert_eq!(error.path(), Some(path.as_path()));
    let text = error.to_string();
    assert!(text.contains(BASE) && text.contains("No such file"), "{text}");
}
