//! Reads qcow2 disks, versions 2 and 3, after QEMU's specification. Read-only.
//!
//! It opens every file of a backing chain with the locks of [`storage`](crate::storage), and the files that
//! an image names through the [`Gate`]. Everything runs on the caller's thread. An image is untrusted input:
//! memory is bounded, and a walk over a disk takes time in proportion to its tables (`docs/design/trust.md`,
//! "qcow2").

mod bitmaps;
mod bytes;
mod cache;
mod compressed;
mod extensions;
mod features;
mod header;
mod layer;
mod open;
mod remote;
mod snapshots;
mod tables;

use std::fmt;
use std::future::ready;
use std::path::Path;
use std::sync::Arc;

use pollster::block_on;

pub use bitmaps::{Bitmap, bitmaps};
pub use features::{Compression, Features};
pub use header::Header;
pub use snapshots::{Snapshot, snapshots};

use super::{BaseSource, BoxFuture, Content, Location, Run};
use crate::error::Result;
use crate::gate::Gate;
use crate::remote::{AnyFile, Identity, OutageState, RemoteOpener};
use crate::storage::{Allocation, FileOptions, FileStorage, IoBufMut, LockMode, Storage};

pub use remote::RemoteQcow2;

use compressed::{Clusters, Compressed, clusters};
use layer::{Image, Layer};
use open::open_chain;
use remote::Begun;
use tables::{Place, Tables, tables};

/// How to open a qcow2 disk and the files that it names.
#[derive(Clone, Copy, Debug, Default)]
pub struct Qcow2Options<'a> {
    /// Lock for every file of the chain. [`LockMode::Exclusive`] is for the first file only: backing files
    /// get a shared lock.
    pub lock: LockMode,
    /// Bypass the page cache.
    pub direct: bool,
    /// Which backing and data files the image may name. `None`: none.
    pub gate: Option<&'a Gate>,
    /// Guess the format of a backing file if the image does not name it. Dangerous if a guest wrote to a raw
    /// backing file: see [`probe`](super::probe).
    pub probe_backing: bool,
    /// Opens the backing files that are on other machines. `None`: such a chain is refused.
    pub remote: Option<&'a Arc<dyn RemoteOpener>>,
}

/// A file of a chain.
pub(crate) type File = AnyFile<FileStorage>;

/// A qcow2 disk with its backing chain, read-only.
pub struct Qcow2Source {
    /// The image first, the last backing file last. Their files hold the locks.
    layers: Vec<Layer>,
    tables: Tables,
    clusters: Clusters,
}

impl fmt::Debug for Qcow2Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.layers.iter().flat_map(Layer::files).map(Storage::path);
        f.debug_list().entries(files).finish()
    }
}

/// What a range of the disk contains.
struct Found<'a> {
    place: Place,
    /// Bytes, at least 1.
    len: u64,
    /// The layer that has it. `depth`: its index.
    layer: &'a Layer,
    depth: u32,
}

impl Qcow2Source {
    /// Opens the image at `path`, and the files that it names as far as `options` allow.
    ///
    /// # Errors
    ///
    /// * [`ErrorKind::NotPermitted`](crate::ErrorKind::NotPermitted) if it names a file that the gate
    ///   refuses.
    /// * [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for encryption, unknown features, and
    ///   backing files in other formats than `raw` and `qcow2`.
    /// * [`ErrorKind::InvalidImage`](crate::ErrorKind::InvalidImage) if it violates the format or is marked
    ///   corrupt.
    pub fn open(path: impl AsRef<Path>, options: &Qcow2Options<'_>) -> Result<Self> {
        let how = FileOptions {
            direct: options.direct,
            lock: options.lock,
            ..FileOptions::default()
        };
        Self::from_file(AnyFile::Local(FileStorage::open(path, &how)?), options)
    }

    /// As [`Qcow2Source::open`], for a file that is already open. Does not change its lock.
    pub fn from_file(file: File, options: &Qcow2Options<'_>) -> Result<Self> {
        Ok(Self {
            layers: open_chain(file, options)?,
            tables: tables(),
            clusters: clusters(),
        })
    }

    /// The identity of every file of the chain, that of the image first.
    pub fn identities(&self) -> impl Iterator<Item = Identity> {
        self.layers.iter().flat_map(Layer::files).map(File::identity)
    }

    /// Whether a file of the chain is on another machine.
    pub(crate) fn has_remote(&self) -> bool {
        self.layers
            .iter()
            .flat_map(Layer::files)
            .any(|file| file.remote().is_some())
    }

    /// Fails in a process that was forked after it was opened, before any lock of the caches is taken.
    fn check_process(&self) -> Result<()> {
        self.file().check_process()
    }

    /// The file of the image itself.
    fn file(&self) -> &File {
        self.layers[0].files().next().expect("a layer has a file")
    }

    /// Looks up the bytes from `offset`, which must lie within the disk, for up to `len` bytes.
    fn find(&self, offset: u64, len: u64) -> Result<Found<'_>> {
        let mut len = len.min(self.len() - offset);
        let mut above = &self.layers[0];
        for (depth, layer) in (0_u32..).zip(&self.layers) {
            if offset >= layer.len() {
                // The layer above is longer, and has nothing here.
                let depth = depth.saturating_sub(1);
                return Ok(Found {
                    place: Place::Unallocated,
                    len,
                    layer: above,
                    depth,
                });
            }
            len = len.min(layer.len() - offset);
            let place = match layer {
                Layer::Raw { .. } => Place::Data { host: offset },
                Layer::Image(image) => {
                    let (place, found) = image.lookup(&self.tables, depth).find(offset, len)?;
                    len = found;
                    place
                }
            };
            if place != Place::Unallocated {
                return Ok(Found {
                    place,
                    len,
                    layer,
                    depth,
                });
            }
            above = layer;
        }
        let depth = self.layers.len() as u32 - 1;
        Ok(Found {
            place: Place::Unallocated,
            len,
            layer: above,
            depth,
        })
    }

    fn read_now(&self, buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        block_on(self.begin_read(buf, offset)?.finish())
    }

    /// Fills `buf`, except where plain bytes lie in remote files: [`Begun::finish`] reads those.
    fn begin_read(&self, mut buf: IoBufMut, offset: u64) -> Result<Begun> {
        self.check_process()?;
        let inside = self.len().saturating_sub(offset).min(buf.len() as u64);
        let mut rest = buf.split_off(inside as usize);
        rest.as_mut_slice().fill(0);
        let (mut begun, mut at) = (Begun::default(), offset);
        while !buf.is_empty() {
            let found = self.find(at, buf.len() as u64)?;
            let next = buf.split_off(found.len as usize);
            if let (Place::Data { host }, AnyFile::Remote(file)) = (found.place, found.layer.data()) {
                begun.add_remote(buf, file, host);
            } else {
                self.fill(&mut buf, at, &found)?;
                begun.add(buf);
            }
            at += found.len;
            buf = next;
        }
        begun.add(buf);
        begun.add(rest);
        Ok(begun)
    }

    /// Fills `buf`, which is as long as `found`, from `offset` of the disk.
    fn fill(&self, buf: &mut IoBufMut, offset: u64, found: &Found<'_>) -> Result<()> {
        match (found.place, found.layer) {
            (Place::Unallocated | Place::Zeros { .. }, _) => buf.as_mut_slice().fill(0),
            (Place::Compressed { host, len }, Layer::Image(image)) => {
                let content = self.decompressed(image, found.depth, host, len)?;
                let at = (offset % image.header.cluster_size) as usize;
                buf.as_mut_slice()
                    .copy_from_slice(&content[at..at + found.len as usize]);
            }
            (Place::Data { host } | Place::Compressed { host, .. }, layer) => {
                layer.data().read_blocking(buf, host)?;
            }
        }
        Ok(())
    }

    fn decompressed(&self, image: &Image, depth: u32, host: u64, len: usize) -> Result<Arc<[u8]>> {
        let compressed = Compressed {
            file: &image.file,
            method: image.header.compression().expect("checked when it was opened"),
            cluster_size: image.header.cluster_size,
            host,
            len,
        };
        compressed.content(&self.clusters, (depth, host))
    }

    fn status_now(&self, offset: u64, len: u64) -> Result<Run> {
        self.check_process()?;
        if offset >= self.len() {
            return Ok(Run::zeros(len));
        }
        let found = self.find(offset, len)?;
        let data = found.layer.data();
        let at = |host| {
            let path = data.path().to_owned();
            Some(Location { path, offset: host })
        };
        let run = Run {
            depth: found.depth,
            present: true,
            ..Run::zeros(found.len)
        };
        Ok(match found.place {
            Place::Unallocated => Run { present: false, ..run },
            Place::Zeros { host } => Run {
                location: host.and_then(at),
                ..run
            },
            Place::Compressed { .. } => Run {
                content: Content::Data,
                compressed: true,
                ..run
            },
            Place::Data { host } => {
                let (content, len) = match found.layer {
                    Layer::Raw { .. } => block_on(data.allocation(host, found.len))?,
                    Layer::Image(_) => (Allocation::Data, found.len),
                };
                Run {
                    content: content.into(),
                    len,
                    location: at(host),
                    ..run
                }
            }
        })
    }
}

impl BaseSource for Qcow2Source {
    fn path(&self) -> &Path {
        self.file().path()
    }

    fn format(&self) -> &'static str {
        "qcow2"
    }

    fn len(&self) -> u64 {
        self.layers[0].len()
    }

    fn read(&self, buf: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        Box::pin(ready(self.read_now(buf, offset)))
    }

    fn status(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<Run>> {
        Box::pin(ready(self.status_now(offset, len)))
    }

    fn outage(&self) -> Option<OutageState> {
        self.layers.iter().flat_map(Layer::files).find_map(Storage::outage)
    }
}
