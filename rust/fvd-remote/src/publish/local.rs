//! A template in files, which any web server can offer.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fvd::chain::{ChainOptions, open_source};
use fvd::source::BaseSource;
use fvd::{Error, Result};
use pollster::block_on;

use super::scan::{Scan, fits};
use super::target::{Existing, Target};
use super::work::{Job, each};
use crate::fetch::UNIT;
use crate::manifest::{Hash, Head, MANIFEST, Manifest, hash, head_len};

/// What follows the name of a file that is being written.
const UNFINISHED: &str = ".fvd-part";
/// Chunks that a thread takes at a time.
const STEP: u64 = 16;

pub(super) struct Local {
    path: PathBuf,
}

impl Local {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn sidecar(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        name.into()
    }

    /// The head of the manifest that is there. None: there is none that this version can read.
    fn head(&self) -> Result<Option<(Hash, Head)>> {
        let path = self.sidecar(MANIFEST);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", error, &path)),
        };
        let mut bytes = Vec::new();
        let reading = file.take(crate::manifest::MAX_HEAD).read_to_end(&mut bytes);
        reading.map_err(|error| failed("read", error, &path))?;
        let Ok(len) = head_len(&bytes) else { return Ok(None) };
        bytes.truncate(len as usize);
        Ok(Head::decode(&bytes).ok().map(|head| (hash(&bytes), head)))
    }

    /// Gives the finished file its name.
    fn put_in_place(&self, file: &File, from: &Path, suffix: &str) -> Result<()> {
        let to = self.sidecar(suffix);
        file.sync_all().map_err(|error| failed("sync", error, from))?;
        fs::rename(from, &to).map_err(|error| failed("rename", error, &to))?;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| failed("sync", error, folder))
    }
}

impl Target for Local {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn is(&self, source: &dyn BaseSource) -> Result<bool> {
        let identity = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        let is_same = identity(&self.path).is_some_and(|target| identity(source.path()) == Some(target));
        if is_same && source.format() != "raw" {
            let message = "The disk would be written over itself: name another target, or publish the file as it is \
                           (--as-is)";
            return Err(Error::invalid_argument(message).with_path(&self.path));
        }
        Ok(is_same)
    }

    fn existing(&self, _: &mut Job<'_, '_>) -> Result<Existing> {
        let len = match fs::metadata(&self.path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Existing::Nothing),
            Err(error) => return Err(failed("open", error, &self.path)),
        };
        Ok(match self.head()? {
            Some((identity, head)) if head.len() == len => Existing::Template(identity),
            _ => Existing::Object,
        })
    }

    fn object_len(&self, _: &mut Job<'_, '_>) -> Result<u64> {
        let found = fs::metadata(&self.path);
        Ok(found.map_err(|error| failed("open", error, &self.path))?.len())
    }

    fn has_content(&self, manifest: &Manifest, job: &mut Job<'_, '_>) -> Result<bool> {
        let object = block_on(open_source(&self.path, Some("raw"), &ChainOptions::default()))?;
        fits(&*object, manifest, job)
    }

    fn was_begun(&self, _: &Hash) -> bool {
        false
    }

    fn put_object(&mut self, scan: &Scan<'_>, _: bool, job: &mut Job<'_, '_>) -> Result<()> {
        let meter = job.meter;
        let path = self.sidecar(UNFINISHED);
        let file = create_alone(&path)?;
        let write = |error| failed("write", error, &path);
        // What an earlier call has left goes away.
        file.set_len(0).map_err(write)?;
        file.set_len(scan.len()).map_err(write)?;
        let written = each(0..scan.len().div_ceil(UNIT), STEP, job, &|chunks| {
            let bytes = (chunks.end * UNIT).min(scan.len()) - chunks.start * UNIT;
            for index in chunks {
                // Zeros stay holes.
                if let Some(chunk) = scan.chunk(index)? {
                    file.write_all_at(chunk.as_slice(), index * UNIT).map_err(write)?;
                }
            }
            meter.add(bytes);
            Ok(())
        });
        let done = written.and_then(|()| self.put_in_place(&file, &path, ""));
        done.inspect_err(|_| {
            // The next call would write over it, too.
            _ = fs::remove_file(&path);
        })
    }

    fn put(&self, suffix: &str, bytes: Bytes, _: &mut Job<'_, '_>) -> Result<()> {
        let path = self.sidecar(&format!("{suffix}{UNFINISHED}"));
        let write = |error| failed("write", error, &path);
        let mut file = File::create(&path).map_err(write)?;
        let written = file.write_all(&bytes).map_err(write);
        let done = written.and_then(|()| self.put_in_place(&file, &path, suffix));
        done.inspect_err(|_| _ = fs::remove_file(&path))
    }

    fn remove(&self, suffix: &str, _: &mut Job<'_, '_>) -> Result<()> {
        let path = self.sidecar(suffix);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", error, &path)),
            _ => Ok(()),
        }
    }
}

/// A file that no other call writes to: one that gave it its name would publish what this one writes. The lock ends
/// with the file.
fn create_alone(path: &Path) -> Result<File> {
    let create = |error| failed("create", error, path);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    let file = file.map_err(create)?;
    let is_locked = !matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock));
    // The other call may have renamed or removed it before the lock was free.
    let is_named = fs::metadata(path).is_ok_and(|found| file.metadata().is_ok_and(|own| own.ino() == found.ino()));
    if is_locked && is_named {
        return Ok(file);
    }
    let message = "Another process publishes to this name at the moment";
    Err(Error::invalid_argument(message).with_path(path))
}

fn failed(op: &'static str, error: io::Error, path: &Path) -> Error {
    Error::io(op, error).with_path(path)
}
