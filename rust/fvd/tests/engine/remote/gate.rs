//! Which URLs in an image are opened.

use std::path::{Path, PathBuf};

use fvd::ErrorKind;
use fvd::chain::open_image;
use fvd::gate::{Gate, check_storable};
use pollster::block_on;

use super::chain::{BASE, Place};

#[test]
fn a_url_in_an_image_needs_a_trusted_prefix() {
    let place = Place::new();
    let path = place.overlay("vm.fvd", BASE, "raw");
    place.store.opened();
    for trusted in [
        &[][..],
        &["https://images.example.org.evil.net"],
        &["https://images.example.org/b"],
        &["http://images.example.org"],
        &["https://images.example.org:444"],
        &["s3://images.example.org"],
        &["/"],
    ] {
        let error = block_on(open_image(&path, &place.options(trusted))).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::NotPermitted, "{trusted:?}: {error}");
        assert_eq!(error.needs_trust(), Some(Path::new("https://images.example.org/")));
        assert!(error.to_string().contains("is not trusted"), "{error}");
    }
    assert_eq!(place.store.opened(), [], "the store learns nothing of a refused name");
    for trusted in [
        "https://IMAGES.example.org:443/",
        "https://images.example.org/base.raw",
        "https://images.example.org",
    ] {
        block_on(open_image(&path, &place.options(&[trusted]))).unwrap();
    }
}

#[test]
fn what_a_new_image_will_need_is_known() {
    let image = Path::new("/d/vm.fvd");
    let gate = |trusted: &[&str]| Gate::new(&trusted.iter().map(PathBuf::from).collect::<Vec<_>>()).unwrap();
    let missing = |gate: &Gate, name: &str| gate.missing_trust(image, name.as_ref());
    assert_eq!(
        missing(&gate(&[]), "s3://images/a/debian.raw?versionId=7"),
        Some(PathBuf::from("s3://images/a/"))
    );
    assert_eq!(missing(&gate(&["s3://images"]), "s3://images/a/debian.raw"), None);
    assert_eq!(
        missing(&gate(&[]), "nbd+unix:///e?socket=/run/s"),
        Some(PathBuf::from("nbd+unix:///e?socket=/run/s"))
    );
}

#[test]
fn a_prefix_must_be_a_whole_url_without_a_query() {
    for prefix in ["https://", "https://me:secret@x", "https://x/?a=b", "nbd+unix:///"] {
        let error = Gate::new(&[PathBuf::from(prefix)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn an_image_holds_no_credential() {
    let store = |field: &str, name: &str| check_storable(field, name.as_ref());
    store("backing_file", BASE).unwrap();
    store("backing_file", "s3://images/debian.raw?versionId=7").unwrap();
    for name in [
        "https://me:s3cr3t@x/a",
        "https://x/a?X-Amz-Signature=s3cr3t",
        "https://x/a?sv=1&sig=s3cr3t",
        "https://x/a?x-goog-signature=s3cr3t",
        "https://x/a?Signature=s3cr3t&Expires=1",
    ] {
        let error = store("backing_file", name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(!error.to_string().contains("s3cr3t"), "{error}");
    }
    let error = store("data_file", BASE).unwrap_err();
    assert!(error.to_string().contains("nothing is written there"), "{error}");
}
