//! Templates: what a reader gets of an object whose manifest says what it must be.

mod support;

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};

use fvd::chain::{ChainOptions, open_source};
use fvd::remote::{Pin, RemoteFile, Validator};
use fvd::storage::Allocation;
use fvd_remote::{
    CacheOptions, Config, OpenOptions, Opener, PublishOptions, Published, publish, publish_profile, set_memory_limit,
};
use pollster::block_on;
use sha2::{Digest as _, Sha256};
use support::{Reply, Request, Server, UNIT, config, content, open, read, read_aside};
use tempfile::TempDir;

/// Two chunks of data, three of zeros, one of data, and a short one.
fn disk() -> Vec<u8> {
    let mut bytes = content(6 * UNIT + 1000);
    bytes[2 * UNIT as usize..5 * UNIT as usize].fill(0);
    bytes
}

fn published(folder: &Path, bytes: &[u8], options: &PublishOptions) -> Published {
    let source = folder.join("source");
    std::fs::write(&source, bytes).expect("written");
    let disk = block_on(open_source(&source, Some("raw"), &ChainOptions::default())).expect("opened");
    let target = folder.join("disk");
    let opener = Opener::new(Config::new());
    publish(&opener, &*disk, &target, options, &mut |_| ControlFlow::Continue(())).expect("published")
}

type Object = (Vec<u8>, String);

/// Objects by name, each with its `ETag`.
#[derive(Clone, Default)]
struct Objects(Arc<Mutex<HashMap<String, Object>>>);

impl Objects {
    /// The template in a folder.
    fn of(folder: &Path) -> Self {
        let objects = Self::default();
        for name in ["disk", "disk.fvd-manifest", "disk.fvd-profile"] {
            if let Ok(bytes) = std::fs::read(folder.join(name)) {
                objects.put(name, bytes, "\"one\"");
            }
        }
        objects
    }

    fn put(&self, name: &str, bytes: Vec<u8>, tag: &str) {
        let object = (bytes, tag.to_owned());
        self.0.lock().expect("locked").insert(format!("/{name}"), object);
    }

    fn remove(&self, name: &str) {
        self.0.lock().expect("locked").remove(&format!("/{name}"));
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        change(
            &mut self
                .0
                .lock()
                .expect("locked")
                .get_mut(&format!("/{name}"))
                .expect("there")
                .0,
        );
    }

    fn serve(&self, request: &Request) -> Reply {
        let objects = self.0.lock().expect("locked");
        let Some((bytes, tag)) = objects.get(&request.path) else {
            return Reply::status(404);
        };
        if request.header("if-match").is_some_and(|wanted| wanted != tag) {
            return Reply::status(412);
        }
        if bytes.is_empty() {
            return Reply::ok(Vec::new());
        }
        let (first, last) = request.range().expect("a range");
        let last = last.min(bytes.len() as u64 - 1);
        if first > last {
            return Reply::status(416).with("Content-Range", &format!("bytes */{}", bytes.len()));
        }
        Reply::status(206)
            .with("Content-Range", &format!("bytes {first}-{last}/{}", bytes.len()))
            .with("ETag", tag)
            .body(bytes[first as usize..=last as usize].to_vec())
    }

    fn server(&self) -> Server {
        let objects = self.clone();
        Server::start(move |request, _| objects.serve(request))
    }
}

/// A template that a server has.
struct Template {
    folder: TempDir,
    bytes: Vec<u8>,
    published: Published,
    objects: Objects,
    server: Server,
}

impl Template {
    fn new() -> Self {
        Self::with(&PublishOptions::default())
    }

    fn with(options: &PublishOptions) -> Self {
        let folder = tempfile::tempdir().expect("made");
        let bytes = disk();
        let published = published(folder.path(), &bytes, options);
        let objects = Objects::of(folder.path());
        let server = objects.server();
        Self {
            folder,
            bytes,
            published,
            objects,
            server,
        }
    }

    fn pin(&self) -> Pin {
        Pin {
            len: self.bytes.len() as u64,
            validator: Validator::Manifest(self.published.identity),
        }
    }

    fn open(&self, pin: Option<&Pin>) -> fvd::Result<Arc<dyn RemoteFile>> {
        open(&opener(), &self.server.url("/disk"), pin)
    }

    /// As [`Template::open`], with the host cache, as another process.
    fn open_cached(&self) -> fvd::Result<Arc<dyn RemoteFile>> {
        let mut config = looking();
        config.cache = Some(CacheOptions::new(self.folder.path().join("cache")));
        let pin = self.pin();
        Opener::new(config).open_with(&self.server.url("/disk"), Some(&pin), &OpenOptions::default())
    }

    fn requests(&self, path: &str) -> usize {
        self.server.log().iter().filter(|request| request.path == path).count()
    }
}

fn looking() -> Config {
    let mut config = config();
    config.ignore_manifests = false;
    config
}

fn opener() -> Opener {
    Opener::new(looking())
}

#[test]
fn a_template_is_pinned_by_its_manifest_and_read_as_it_was_published() {
    let template = Template::new();
    let len = template.bytes.len() as u64;
    let file = template.open(None).expect("opened");
    assert_eq!(*file.pin(), template.pin());
    assert_eq!(template.server.count(), 2, "object and manifest, and nothing else");
    assert!(read(&*file, 0, len).expect("read") == template.bytes);
    assert_eq!(
        template.requests("/disk.fvd-manifest"),
        1,
        "the hashes came with the head"
    );
    assert_eq!(template.published.data, 3 * UNIT + 1000);
}

#[test]
fn zeros_are_holes_and_are_not_fetched() {
    let template = Template::new();
    let file = template.open(None).expect("opened");
    assert_eq!(
        read(&*file, 2 * UNIT, 3 * UNIT).expect("read"),
        vec![0; 3 * UNIT as usize]
    );
    assert_eq!(template.requests("/disk"), 1);
    let at = |offset| block_on(file.allocation(offset, u64::MAX - offset)).expect("known");
    assert_eq!(at(0), (Allocation::Data, 2 * UNIT));
    assert_eq!(at(2 * UNIT + 5), (Allocation::Hole, 3 * UNIT - 5));
    assert_eq!(at(5 * UNIT), (Allocation::Data, UNIT + 1000));
    // A read across them.
    let around = read(&*file, 2 * UNIT - 7, 3 * UNIT + 14).expect("read");
    assert!(around[..] == template.bytes[2 * UNIT as usize - 7..5 * UNIT as usize + 7]);
}

#[test]
fn an_object_that_was_copied_again_is_the_same_template() {
    let template = Template::new();
    let file = template.open(Some(&template.pin())).expect("opened");
    template.objects.put("disk", template.bytes.clone(), "\"two\"");
    let found = read(&*file, 5 * UNIT, 1000).expect("read");
    assert!(found[..] == template.bytes[5 * UNIT as usize..5 * UNIT as usize + 1000]);
    template.open(Some(&template.pin())).expect("opened again");
}

#[test]
fn a_chunk_that_is_damaged_once_is_fetched_again() {
    let folder = tempfile::tempdir().expect("made");
    let bytes = disk();
    published(folder.path(), &bytes, &PublishOptions::default());
    let objects = Objects::of(folder.path());
    let served = Mutex::new(HashSet::new());
    let server = Server::start(move |request, _| {
        let mut reply = objects.serve(request);
        let is_first = served.lock().expect("locked").insert(request.range());
        if request.path == "/disk" && is_first {
            reply.body[77] ^= 1;
        }
        reply
    });
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    // The first answer for each chunk is damaged.
    let second = read(&*file, 5 * UNIT, UNIT).expect("read");
    assert!(second[..] == bytes[5 * UNIT as usize..6 * UNIT as usize]);
    let first = read(&*file, 0, UNIT).expect("read");
    assert!(first[..] == bytes[..UNIT as usize]);
    let connections: Vec<_> = server.log().iter().map(|request| request.connection).collect();
    let mut distinct = connections.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert!(
        distinct.len() >= 3,
        "each chunk came over a connection of its own: {connections:?}"
    );
}

#[test]
fn a_chunk_that_stays_damaged_fails_the_read_and_nothing_of_it_is_used() {
    let template = Template::new();
    template
        .objects
        .change("disk", |bytes| bytes[5 * UNIT as usize + 9] ^= 1);
    let file = template.open_cached().expect("opened");
    let error = read(&*file, 5 * UNIT + 100, 4).expect_err("damaged");
    let text = error.to_string();
    assert_eq!(error.errno(), Some(libc::EIO), "{text}");
    assert!(text.contains("Chunk 5") && text.contains("/disk"), "{text}");
    let digits = text.matches(|c: char| c.is_ascii_hexdigit()).count();
    assert!(digits >= 128, "both hashes: {text}");
    let asked = template.requests("/disk");
    assert!(read(&*file, 0, UNIT).expect("read")[..] == template.bytes[..UNIT as usize]);
    read(&*file, 5 * UNIT, 1).expect_err("it is not kept");
    assert!(template.requests("/disk") >= asked + 2, "it was fetched again, twice");
    drop(file);
    template.objects.put("disk", template.bytes.clone(), "\"one\"");
    let file = template.open_cached().expect("opened");
    let found = read(&*file, 5 * UNIT, UNIT).expect("read");
    assert!(
        found[..] == template.bytes[5 * UNIT as usize..6 * UNIT as usize],
        "not from the cache"
    );
}

#[test]
fn a_manifest_of_another_template_fails_the_open() {
    let template = Template::new();
    let other = tempfile::tempdir().expect("made");
    let mut bytes = template.bytes.clone();
    bytes[1] ^= 1;
    published(other.path(), &bytes, &PublishOptions::default());
    let manifest = std::fs::read(other.path().join("disk.fvd-manifest")).expect("written");
    template.objects.put("disk.fvd-manifest", manifest, "\"two\"");
    let error = template
        .open(Some(&template.pin()))
        .err()
        .expect("another one")
        .to_string();
    assert!(
        error.contains("no longer what it was") && error.contains("backing_pin=update"),
        "{error}"
    );
    template.objects.remove("disk.fvd-manifest");
    let error = template.open(Some(&template.pin())).err().expect("none").to_string();
    assert!(error.contains("disk.fvd-manifest") && error.contains("404"), "{error}");
}

#[test]
fn without_a_manifest_an_object_is_what_it_was_before() {
    for answer in [403, 404, 405, 410] {
        let template = Template::new();
        let objects = template.objects.clone();
        let server = Server::start(move |request, _| match request.path.as_str() {
            "/disk" => objects.serve(request),
            _ => Reply::status(answer),
        });
        let file = open(&opener(), &server.url("/disk"), None).expect("opened");
        assert_eq!(
            file.pin().validator,
            Validator::ETag("\"one\"".to_owned()),
            "status {answer}"
        );
        assert_eq!(server.count(), 2);
        assert!(read(&*file, 0, 100).expect("read")[..] == template.bytes[..100]);
    }
}

#[test]
fn a_page_for_every_name_is_no_manifest() {
    let template = Template::new();
    for page in [
        "<!doctype html><title>Sign in</title>".repeat(9000),
        "short".to_owned(),
        String::new(),
    ] {
        template.objects.put("disk.fvd-manifest", page.into_bytes(), "\"one\"");
        let server = template.objects.server();
        let file = open(&opener(), &server.url("/disk"), None).expect("opened");
        assert!(matches!(file.pin().validator, Validator::ETag(_)));
    }
}

#[test]
fn a_manifest_that_is_damaged_fails_the_open_and_says_so() {
    let template = Template::new();
    for at in [12, 16, 40, 60] {
        let good = std::fs::read(template.folder.path().join("disk.fvd-manifest")).expect("written");
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        template.objects.put("disk.fvd-manifest", bad, "\"one\"");
        let error = template.open(None).err().expect("refused").to_string();
        assert!(error.contains("manifest"), "byte {at}: {error}");
    }
}

#[test]
fn an_object_that_was_replaced_without_its_manifest_is_refused_with_the_remedy() {
    let template = Template::new();
    template.objects.put("disk", content(2 * UNIT), "\"two\"");
    let error = template.open(None).err().expect("refused").to_string();
    assert!(
        error.contains("fvd publish") && error.contains("manifest = false"),
        "{error}"
    );
}

#[test]
fn a_rule_turns_manifests_off_but_not_for_images_that_stand_on_one() {
    let template = Template::new();
    let text = format!(
        "[[remote]]\nprefix = \"{}\"\nmanifest = false",
        template.server.url("/")
    );
    let mut config = Config::parse(&text).expect("valid");
    config.tuning = support::tuning();
    let opener = Opener::new(config);
    let file = open(&opener, &template.server.url("/disk"), None).expect("opened");
    assert!(matches!(file.pin().validator, Validator::ETag(_)));
    assert_eq!(template.server.count(), 1);
    let file = open(&opener, &template.server.url("/disk"), Some(&template.pin())).expect("opened");
    assert_eq!(*file.pin(), template.pin());
}

#[test]
fn a_template_that_the_host_cache_has_needs_no_server() {
    let template = Template::new();
    let len = template.bytes.len() as u64;
    let file = template.open_cached().expect("opened");
    assert!(read(&*file, 0, len).expect("read") == template.bytes);
    // It waits for what is still being stored.
    drop(file);
    let asked = template.server.count();
    let again = template.open_cached().expect("opened");
    assert!(read(&*again, 0, len).expect("read") == template.bytes);
    assert_eq!(template.server.count(), asked);
    template.server.stop();
    let last = template.open_cached().expect("opened without the server");
    assert!(read(&*last, 0, len).expect("read") == template.bytes);
}

#[test]
fn a_boot_profile_can_change_and_the_template_stays_what_it_is() {
    let options = PublishOptions {
        profile: Some(vec![4096..8192, 0..100]),
        ..PublishOptions::default()
    };
    let template = Template::with(&options);
    let file = template.open(None).expect("opened");
    assert_eq!(block_on(file.boot_profile()), options.profile);
    let target = template.folder.path().join("disk");
    let go_on = &mut |_| ControlFlow::Continue(());
    let done = publish_profile(&Opener::new(Config::new()), &target, &[0..512, 4096..4097], go_on).expect("published");
    assert_eq!((done.identity, done.is_new), (template.published.identity, false));
    let profile = std::fs::read(template.folder.path().join("disk.fvd-profile")).expect("written");
    template.objects.put("disk.fvd-profile", profile, "\"two\"");
    let again = template.open(Some(&template.pin())).expect("opened");
    assert_eq!(block_on(again.boot_profile()), Some(vec![0..512, 4096..4097]));
    template.objects.put("disk.fvd-profile", b"{}".to_vec(), "\"three\"");
    assert_eq!(block_on(again.boot_profile()), None, "advice that makes no sense");
}

/// A manifest without zeros, made by hand as `docs/format-manifest.md` says, and its identity.
fn manifest_by_hand(len: u64, hash_of: impl Fn(u64) -> [u8; 32]) -> (Vec<u8>, [u8; 32]) {
    let hashes: Vec<u8> = (0..len.div_ceil(UNIT)).flat_map(hash_of).collect();
    let pages: Vec<[u8; 32]> = hashes
        .chunks(8192 * 32)
        .map(|page| Sha256::digest(page).into())
        .collect();
    let mut head = b"FVDMNFST".to_vec();
    let mut put = |value: u32| head.extend_from_slice(&value.to_le_bytes());
    let lengths = [1, 64 + 32 * pages.len() as u32, len as u32, (len >> 32) as u32];
    let kinds = [262_144, 1, 8192, 0, pages.len() as u32];
    for number in lengths.into_iter().chain(kinds) {
        put(number);
    }
    head.resize(64, 0);
    for page in &pages {
        head.extend_from_slice(page);
    }
    let identity = Sha256::digest(&head).into();
    head.extend_from_slice(&hashes);
    (head, identity)
}

#[test]
fn hashes_that_do_not_come_with_the_head_are_fetched_and_checked() {
    // Three pages of hashes: more than 4 GiB, of which almost all is the same chunk.
    let units = [0, 8191, 8192, 16_383, 16_384, 16_499];
    let len = 16_500 * UNIT;
    let chunk = move |unit: u64| {
        let mut chunk = vec![7; UNIT as usize];
        if units.contains(&unit) {
            chunk[8..16].copy_from_slice(&unit.to_le_bytes());
        }
        chunk
    };
    let common: [u8; 32] = Sha256::digest(chunk(1)).into();
    let (manifest, identity) = manifest_by_hand(len, |unit| {
        if units.contains(&unit) {
            Sha256::digest(chunk(unit)).into()
        } else {
            common
        }
    });
    let manifest = Arc::new(Mutex::new(manifest));
    let served = Arc::clone(&manifest);
    let server = Server::start(move |request, _| {
        let (first, last) = request.range().expect("a range");
        let (body, total) = if request.path == "/disk" {
            ((first / UNIT..=last / UNIT).flat_map(chunk).collect::<Vec<u8>>(), len)
        } else {
            let manifest = served.lock().expect("locked");
            let last = last.min(manifest.len() as u64 - 1);
            (manifest[first as usize..=last as usize].to_vec(), manifest.len() as u64)
        };
        let last = first + body.len() as u64 - 1;
        let part = format!("bytes {first}-{last}/{total}");
        Reply::status(206).with("Content-Range", &part).body(body)
    });
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    assert_eq!(file.pin().validator, Validator::Manifest(identity));
    for unit in units {
        assert_eq!(read(&*file, unit * UNIT + 8, 8).expect("read"), unit.to_le_bytes());
    }
    let asked = server.log().iter().filter(|request| request.path != "/disk").count();
    assert_eq!(asked, 3, "the head with page 0, then pages 1 and 2");
    drop(file);
    // Hashes wait for no memory, so reads that wait for hashes do not hold up one another.
    set_memory_limit(UNIT);
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    let reads = units.map(|unit| read_aside(&file, unit * UNIT + 8, 8));
    for (unit, read) in units.into_iter().zip(reads) {
        assert_eq!(read.join().expect("no panic").expect("read"), unit.to_le_bytes());
    }
    drop(file);
    let end = manifest.lock().expect("locked").len();
    manifest.lock().expect("locked")[end - 1] ^= 1;
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    let error = read(&*file, 16_499 * UNIT, 1).expect_err("damaged").to_string();
    assert!(
        error.contains("Page 2 of the manifest") && error.contains("disk.fvd-manifest"),
        "{error}"
    );
}
