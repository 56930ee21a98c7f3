//! What the host cache keeps, and for which opens (`docs/design/cache.md`).

mod support;

use std::sync::Arc;

use fvd::gate::Gate;
use fvd_remote::{CacheOptions, OpenOptions, Opener, Redirects, list_cache};
use support::nbd::NbdServer;
use support::{Disk, Reply, Server, UNIT, config, content, open, read, until};
use tempfile::TempDir;

const LEN: u64 = 4 * UNIT;

/// An opener as another process would have it.
fn opener(folder: &TempDir) -> Opener {
    let mut config = config();
    config.cache = Some(CacheOptions::new(folder.path().join("cache")));
    Opener::new(config)
}

/// Bytes in the cache of the object at `url`.
fn present(folder: &TempDir, url: &str) -> u64 {
    let objects = list_cache(&folder.path().join("cache")).expect("listed");
    objects
        .iter()
        .filter(|object| object.url == url)
        .map(|object| object.present)
        .sum()
}

fn without_trust() -> OpenOptions {
    OpenOptions {
        redirects: Redirects::Within(Gate::default()),
        ..OpenOptions::default()
    }
}

#[test]
fn what_one_open_has_fetched_another_process_reads_whatever_redirects_it_allows() {
    let disk = Disk::new(LEN);
    let served = disk.clone();
    let server = Server::start(move |request, _| match request.path.as_str() {
        "/real" => served.serve(request),
        _ => Reply::redirect(302, "/real"),
    });
    let folder = tempfile::tempdir().expect("made");
    let url = server.url("/disk");
    let first = opener(&folder);
    let file = open(&first, &url, None).expect("opened");
    assert!(disk.is_at(&read(&*file, 0, LEN).expect("read"), 0));
    until(|| present(&folder, &url) == LEN);
    let asked = server.count();
    let second = opener(&folder);
    let again = second
        .open_with(&url, Some(file.pin()), &without_trust())
        .expect("opened");
    assert!(disk.is_at(&read(&*again, 0, LEN).expect("read"), 0));
    assert_eq!(server.count(), asked);
    assert_eq!(second.counters().cache_found, LEN / UNIT);
    assert_eq!(first.counters().cache_stored, LEN / UNIT);
}

#[test]
fn what_a_redirect_brings_from_another_host_is_not_kept() {
    let disk = Disk::new(LEN);
    let served = disk.clone();
    let target = Server::start(move |request, _| served.serve(request));
    let location = target.url("/disk");
    let server = Server::start(move |_, _| Reply::redirect(302, &location));
    let folder = tempfile::tempdir().expect("made");
    let (url, direct) = (server.url("/disk"), target.url("/disk"));
    let opener_of_user = opener(&folder);
    let file = open(&opener_of_user, &url, None).expect("opened");
    assert!(disk.is_at(&read(&*file, 0, LEN).expect("read"), 0));
    // What is stored later is there: so would be what was read before.
    let other = open(&opener_of_user, &direct, None).expect("opened");
    assert!(disk.is_at(&read(&*other, 0, LEN).expect("read"), 0));
    until(|| present(&folder, &direct) == LEN);
    assert_eq!(present(&folder, &url), 0);
    let refused = opener(&folder).open_with(&url, Some(file.pin()), &without_trust());
    let error = refused.err().expect("refused");
    assert!(error.to_string().contains("no trusted prefix covers"), "{error}");
}

#[test]
fn an_export_of_an_nbd_server_is_not_kept() {
    let data = Arc::new(content(LEN));
    let exporting = NbdServer::honest(&data);
    let disk = Disk::new(LEN);
    let served = disk.clone();
    let server = Server::start(move |request, _| served.serve(request));
    let folder = tempfile::tempdir().expect("made");
    let opener = opener(&folder);
    let export = open(&opener, &exporting.url(), None).expect("opened");
    assert!(read(&*export, 0, LEN).expect("read") == *data);
    let file = open(&opener, &server.url("/disk"), None).expect("opened");
    assert!(disk.is_at(&read(&*file, 0, LEN).expect("read"), 0));
    until(|| present(&folder, &server.url("/disk")) == LEN);
    let objects = list_cache(&folder.path().join("cache")).expect("listed");
    assert_eq!(objects.len(), 1, "{objects:?}");
}
