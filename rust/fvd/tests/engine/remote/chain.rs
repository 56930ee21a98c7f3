//! Chains with remote files, in every format.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fvd::ErrorKind;
use fvd::chain::{AsyncIo, Blocking, ChainOptions, Files, open_image, open_image_on, open_source, open_source_on};
use fvd::gate::Gate;
use fvd::image::CreateOptions;
use fvd::source::{BaseSource, Content};
use fvd::storage::{Backend, IoBufMut};
use fvd::tool::compare::{Comparison, compare};
use fvd::tool::convert::{ConvertRequest, Format, Source, Target, convert};
use fvd::tool::map::map;
use fvd::tool::{self, Backing, CreateRequest};
use pollster::block_on;
use tempfile::{TempDir, tempdir};

use super::store::Store;

pub(crate) const BASE: &str = "https://images.example.org/base.raw";
pub(crate) const LEN: usize = 1 << 20;

pub(crate) fn pattern(seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(1..)).take(LEN).collect()
}

/// A folder, and a store with a raw base.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) store: Store,
    pub(crate) base: Vec<u8>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let (folder, store, base) = (tempdir().unwrap(), Store::new(), pattern(1));
        store.put(BASE, &base, "first");
        Self { folder, store, base }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn options(&self, trusted: &[&str]) -> ChainOptions {
        let trusted: Vec<PathBuf> = trusted.iter().map(PathBuf::from).collect();
        ChainOptions {
            gate: Gate::new(&trusted).unwrap(),
            remote: Some(self.store.opener()),
            ..ChainOptions::default()
        }
    }

    /// Options that trust the whole server.
    pub(crate) fn trusting(&self) -> ChainOptions {
        self.options(&["https://images.example.org"])
    }

    pub(crate) fn writable(&self) -> ChainOptions {
        ChainOptions {
            writable: true,
            ..self.trusting()
        }
    }

    pub(crate) fn request(&self, name: &str, base: &str, format: &str) -> CreateRequest {
        CreateRequest {
            path: self.path(name),
            size: None,
            backing: Some(Backing {
                name: base.into(),
                format: Some(format.to_owned()),
                unchecked: false,
            }),
            options: CreateOptions::default(),
            gate: Gate::default(),
            remote: Some(self.store.opener()),
            force: false,
        }
    }

    pub(crate) fn overlay(&self, name: &str, base: &str, format: &str) -> PathBuf {
        let request = self.request(name, base, format);
        block_on(tool::create(&request)).unwrap();
        request.path
    }

    /// Moves a file to the store.
    pub(crate) fn upload(&self, name: &str, url: &str) {
        let bytes = std::fs::read(self.path(name)).unwrap();
        self.store.put(url, &bytes, name);
    }
}

pub(crate) fn read_source(source: &dyn BaseSource) -> Vec<u8> {
    let buf = IoBufMut::zeroed(source.len() as usize);
    block_on(source.read(buf, 0)).unwrap().as_slice().to_vec()
}

/// Overwrites 10,000 bytes of the image at `path` and of `model`.
fn use_image<F: Files>(files: &F, path: &Path, options: &ChainOptions, model: &mut [u8]) {
    let image = block_on(open_image_on(files, path, options)).unwrap();
    assert!(read_source(&image) == model);
    model[5000..15000].fill(7);
    block_on(image.write(Bytes::copy_from_slice(&model[5000..15000]), 5000)).unwrap();
    assert!(read_source(&image) == model);
    block_on(image.close()).unwrap();
}

#[test]
fn an_overlay_stands_on_a_remote_raw_base() {
    let place = Place::new();
    let path = place.overlay("vm.fvd", BASE, "raw");
    let mut model = place.base.clone();
    use_image(&Blocking, &path, &place.writable(), &mut model);
    for backend in [Backend::Threads, Backend::Uring] {
        let files = AsyncIo::with_backend(backend).unwrap();
        use_image(&files, &path, &place.writable(), &mut model);
    }
}

#[test]
fn an_image_on_a_remote_file_is_read_only() {
    let place = Place::new();
    let path = place.path("disk.fvd");
    let request = ConvertRequest::new(
        Source::File {
            path: raw_file(&place, "disk.raw"),
            format: Some("raw".to_owned()),
        },
        Target::File(path),
        Format::Fvd,
    );
    convert(&request, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    let url = "https://images.example.org/disk.fvd";
    place.upload("disk.fvd", url);
    let image = block_on(open_image(Path::new(url), &place.options(&[]))).unwrap();
    assert!(read_source(&image) == place.base);
    assert!(!image.is_writable());
    let error = block_on(image.write(Bytes::from_static(&[1; 512]), 0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
    block_on(image.close()).unwrap();
    let options = ChainOptions {
        writable: true,
        ..place.options(&[])
    };
    let error = block_on(open_image(Path::new(url), &options)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
    assert!(error.to_string().contains("only be opened for reading"), "{error}");
}

fn raw_file(place: &Place, name: &str) -> PathBuf {
    let path = place.path(name);
    std::fs::write(&path, &place.base).unwrap();
    path
}

#[test]
fn a_chain_can_be_remote_from_any_layer_on() {
    let place = Place::new();
    let other = "https://images.example.org/layers/middle.fvd";
    // A relative name in a remote image starts at its URL.
    place
        .store
        .put("https://images.example.org/layers/base.raw", &place.base, "first");
    raw_file(&place, "base.raw");
    place.overlay("middle.fvd", "base.raw", "raw");
    place.upload("middle.fvd", other);
    let top = place.overlay("top.fvd", other, "fvd");
    std::fs::remove_file(place.path("base.raw")).unwrap();
    let files = AsyncIo::with_backend(Backend::Threads).unwrap();
    let image = block_on(open_image_on(&files, &top, &place.trusting())).unwrap();
    assert!(read_source(&image) == place.base);
    let image = block_on(open_image(&top, &place.trusting())).unwrap();
    assert!(read_source(&image) == place.base);
}

#[test]
fn a_remote_image_cannot_name_a_local_file() {
    let place = Place::new();
    let secret = raw_file(&place, "secret");
    place.overlay("middle.fvd", secret.to_str().unwrap(), "raw");
    let url = "https://images.example.org/middle.fvd";
    place.upload("middle.fvd", url);
    let folder = place.folder.path().to_str().unwrap().to_owned();
    for trusted in [vec![], vec![folder.as_str(), "https://images.example.org"]] {
        let options = place.options(&trusted);
        let error = block_on(open_source(Path::new(url), None, &options)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
        assert!(error.to_string().contains("lies on another one"), "{error}");
    }
}

#[test]
fn a_remote_file_that_is_its_own_base_is_refused() {
    let place = Place::new();
    raw_file(&place, "loop.fvd.base");
    place.overlay("loop.fvd", "loop.fvd.base", "raw");
    let mut bytes = std::fs::read(place.path("loop.fvd")).unwrap();
    // The names in the header: the image itself, as fvd, under another spelling of the same URL.
    let name = b"./x/../loop.fvd\0";
    bytes[28..28 + name.len()].copy_from_slice(name);
    bytes[1052..1056].copy_from_slice(b"fvd\0");
    let url = "https://images.example.org/loop.fvd";
    place.store.put(url, &bytes, "loop");
    let error = block_on(open_source(Path::new(url), None, &place.options(&[])))
        .err()
        .unwrap();
    assert!(error.to_string().contains("part of its own backing chain"), "{error}");
}

#[test]
fn every_command_that_reads_takes_a_url() {
    let place = Place::new();
    let options = place.options(&[]);
    let url = Path::new(BASE);
    let info = block_on(tool::info(url, None, true, &options)).unwrap();
    assert_eq!((info[0].format, info[0].virtual_size), ("raw", Some(LEN as u64)));
    assert_eq!((info[0].actual_size, info[0].path.as_path()), (None, url));
    let source = block_on(open_source(url, None, &options)).unwrap();
    let mut entries = Vec::new();
    block_on(map(&*source, 0, None, |entry| entries.push(entry))).unwrap();
    assert_eq!(entries[0].location.as_ref().unwrap().path, url);
    let target = place.path("copy.raw");
    let mut request = ConvertRequest::new(
        Source::File {
            path: url.to_owned(),
            format: None,
        },
        Target::File(target.clone()),
        Format::Raw,
    );
    request.remote = Some(place.store.opener());
    convert(&request, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    assert!(std::fs::read(&target).unwrap() == place.base);
    let copy = block_on(open_source(&target, Some("raw"), &options)).unwrap();
    let compared = compare(&*source, &*copy, false, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    assert_eq!(compared, Comparison::Identical);
}

#[test]
fn a_new_overlay_costs_one_open_and_no_extra_read() {
    let place = Place::new();
    place.overlay("vm.fvd", BASE, "raw");
    assert_eq!(place.store.opened().len(), 1);
    assert_eq!(place.store.reads(), 0);
}

#[test]
fn info_follows_a_chain_to_its_remote_base() {
    let place = Place::new();
    let path = place.overlay("vm.fvd", BASE, "raw");
    let info = block_on(tool::info(&path, None, true, &place.trusting())).unwrap();
    let names: Vec<_> = info.iter().map(|disk| disk.path.clone()).collect();
    assert_eq!(names, [path.clone(), PathBuf::from(BASE)]);
    // Without the chain, nothing is opened.
    place.store.opened();
    let info = block_on(tool::info(&path, None, false, &place.options(&[]))).unwrap();
    assert_eq!(info[0].backing.as_ref().unwrap().path, Path::new(BASE));
    assert_eq!(place.store.opened(), []);
}

#[test]
fn an_async_host_never_waits_on_its_thread() {
    use std::task::{Context, Waker};
    let place = Place::new();
    let path = place.overlay("vm.fvd", BASE, "raw");
    let files = AsyncIo::with_backend(Backend::Threads).unwrap();
    let image = block_on(open_image_on(&files, &path, &place.trusting())).unwrap();
    let mut read = Box::pin(image.read(IoBufMut::zeroed(4096), 0));
    // The store answers at the second poll: a wait would have polled it again.
    let mut context = Context::from_waker(Waker::noop());
    let before = place.store.reads();
    while place.store.reads() == before {
        assert!(read.as_mut().poll(&mut context).is_pending());
    }
    assert_eq!(block_on(read).unwrap().as_slice(), &place.base[..4096]);
}

#[test]
fn a_source_of_an_async_host_has_the_same_content() {
    let place = Place::new();
    let files = AsyncIo::with_backend(Backend::Threads).unwrap();
    let options = place.options(&[]);
    let source = block_on(open_source_on(&files, Path::new(BASE), Some("raw"), &options)).unwrap();
    assert!(read_source(&*source) == place.base);
    let run = block_on(source.status(0, 4096)).unwrap();
    assert_eq!((run.content, run.len), (Content::Data, 4096));
    let _: Arc<dyn BaseSource> = source.into();
}
