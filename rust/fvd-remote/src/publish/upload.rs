//! A template in a store: the object goes there in parts, several at once.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;
use fvd::source::BaseSource;
use fvd::{Error, ErrorKind, Result};
use tokio::task::AbortHandle;

use super::scan::Scan;
use super::state::{State, StateFile};
use super::target::{Existing, Target};
use super::work::{INTERVAL, Job};
use crate::fetch::UNIT;
use crate::manifest::{Asked, Hash, Manifest, Place, load};
use crate::name::Name;
use crate::opener::Opener;
use crate::store::Writer;
use crate::transport::io_thread;

/// Bytes of a part, if the object is not so long that there would be too many.
const PART: u64 = 8 << 20;
/// Fewer than any store permits.
const PARTS: u64 = 9000;
/// Bytes of all parts that are under way.
const MEMORY: u64 = 128 << 20;
/// Parts that are under way at once.
const PARALLEL: u64 = 8;

pub(super) struct Upload {
    name: Name,
    writer: Arc<Writer>,
    object: Arc<Place>,
    manifest: Arc<Place>,
    file: StateFile,
}

impl Upload {
    pub(super) fn new(opener: &Opener, name: Name) -> Result<Self> {
        let (writer, object, manifest) = opener.writer(&name)?;
        Ok(Self {
            file: StateFile::new(&name.text, opener.environment()),
            name,
            writer: Arc::new(writer),
            object: Arc::new(object),
            manifest: Arc::new(manifest),
        })
    }

    /// Runs `task` on the I/O thread, until it has ended or the job is to end.
    fn run<T: Send + 'static, F: Future<Output = Result<T>> + Send + 'static>(
        &self,
        job: &mut Job<'_, '_>,
        task: impl FnOnce(Arc<Writer>) -> F,
    ) -> Result<T> {
        wait_for(job, task(Arc::clone(&self.writer)))
    }

    fn look(&self, job: &mut Job<'_, '_>) -> Result<Asked> {
        let object = Arc::clone(&self.object);
        wait_for(job, async move { object.ask(0..1, false, |_| true).await })
    }

    /// The length of the object, if the store shows one.
    fn found(&self, job: &mut Job<'_, '_>) -> Result<Option<u64>> {
        Ok(match self.look(job)? {
            Asked::Part(part) => Some(part.total),
            Asked::Nothing(_) | Asked::Hidden(_) => None,
        })
    }

    /// Writes an object, which is refused if there is one.
    fn create(&self, bytes: Bytes, job: &mut Job<'_, '_>) -> Result<()> {
        let is_new = self.run(job, |writer| async move { writer.create(&bytes).await })?;
        if is_new {
            Ok(())
        } else {
            Err(Existing::Object.refused(&self.name.text))
        }
    }

    /// The upload that was begun for this template, or a new one.
    fn begin(&self, scan: &Scan<'_>, job: &mut Job<'_, '_>) -> Result<State> {
        let identity = scan.manifest.identity();
        if let Some(state) = self.file.read() {
            if state.is_of(&identity) {
                return Ok(state);
            }
            // It is for another content: the store can forget it. If that fails, it does so by itself, or not.
            _ = self.run(job, |writer| async move { writer.abort(&state.upload).await });
        }
        let upload = self.run(job, |writer| async move { writer.begin().await })?;
        let state = State::new(&self.name.text, &identity, part_len(scan.len()), upload);
        self.file.write(&state);
        Ok(state)
    }

    fn send(&self, state: &mut State, scan: &Scan<'_>, job: &mut Job<'_, '_>) -> Result<()> {
        let parallel = (MEMORY / state.part).clamp(1, PARALLEL) as usize;
        let mut flying = Flying::new();
        for (index, range) in (0..).zip(parts(scan.len(), state.part)) {
            if state.parts.contains_key(&index) {
                job.meter.add(range.end - range.start);
                continue;
            }
            while flying.count() >= parallel {
                self.take(&mut flying, state, job)?;
            }
            let bytes = Bytes::from(scan.read(&range)?);
            job.report()?;
            flying.start(&self.writer, &state.upload, index, bytes)?;
        }
        while flying.count() > 0 {
            self.take(&mut flying, state, job)?;
        }
        Ok(())
    }

    /// Waits for one part.
    fn take(&self, flying: &mut Flying, state: &mut State, job: &mut Job<'_, '_>) -> Result<()> {
        let (index, len, ended) = flying.wait(job)?;
        state.parts.insert(index, ended?);
        self.file.write(state);
        job.meter.add(len);
        Ok(())
    }

    fn put_parts(&self, scan: &Scan<'_>, job: &mut Job<'_, '_>) -> Result<()> {
        let mut state = self.begin(scan, job)?;
        if state.is_whole && self.found(job)? == Some(scan.len()) {
            return Ok(());
        }
        self.send(&mut state, scan, job)?;
        let (upload, all) = (state.upload.clone(), state.parts.values().cloned().collect::<Vec<_>>());
        self.run(job, |writer| async move { writer.complete(&upload, &all).await })?;
        state.is_whole = true;
        self.file.write(&state);
        Ok(())
    }
}

impl Target for Upload {
    fn name(&self) -> String {
        self.name.text.clone()
    }

    fn is(&self, _: &dyn BaseSource) -> Result<bool> {
        Ok(false)
    }

    fn existing(&self, job: &mut Job<'_, '_>) -> Result<Existing> {
        let manifest = Arc::clone(&self.manifest);
        let loaded = wait_for(job, async move { load(&manifest, None).await })?;
        Ok(match (loaded, self.look(job)?) {
            (_, Asked::Nothing(_)) => Existing::Nothing,
            (_, Asked::Hidden(_)) => Existing::Hidden,
            (Some(loaded), Asked::Part(part)) if loaded.head.len() == part.total => Existing::Template(loaded.identity),
            _ => Existing::Object,
        })
    }

    fn object_len(&self, job: &mut Job<'_, '_>) -> Result<u64> {
        let missing = || Error::new(ErrorKind::Io, "There is no such object").with_path(&self.name.text);
        self.found(job)?.ok_or_else(missing)
    }

    fn has_content(&self, manifest: &Manifest, job: &mut Job<'_, '_>) -> Result<bool> {
        let len = manifest.head.len();
        // Of longer ones the state tells how far they are, and to find out would be to fetch all of it.
        if len > PART || self.found(job)? != Some(len) {
            return Ok(false);
        }
        let object = Arc::clone(&self.object);
        let asked = wait_for(job, async move { object.ask(0..len, true, |_| false).await })?;
        let fits = |bytes: &[u8]| {
            (0..)
                .zip(bytes.chunks(UNIT as usize))
                .all(|(index, chunk)| manifest.fits(index, chunk))
        };
        Ok(matches!(asked, Asked::Part(part) if part.total == len && fits(&part.bytes)))
    }

    fn was_begun(&self, identity: &Hash) -> bool {
        self.file.read().is_some_and(|state| state.is_of(identity))
    }

    fn forget(&self) {
        if self.file.read().is_some_and(|state| state.is_whole) {
            self.file.remove();
        }
    }

    fn put_object(&mut self, scan: &Scan<'_>, is_hidden: bool, job: &mut Job<'_, '_>) -> Result<()> {
        if scan.len() <= PART {
            let bytes = Bytes::from(scan.read(&(0..scan.len()))?);
            if is_hidden {
                self.create(bytes, job)?;
            } else {
                self.put("", bytes, job)?;
            }
            job.meter.add(scan.len());
            return Ok(());
        }
        if is_hidden {
            // An upload in parts replaces whatever is there. An empty object, which nothing can be read from,
            // takes the name before.
            self.create(Bytes::new(), job)?;
        }
        match self.put_parts(scan, job) {
            // The store has forgotten the upload that was begun.
            Err(error) if error.errno() == Some(libc::ENOENT) => {
                self.file.remove();
                self.put_parts(scan, job)
            }
            ended => ended,
        }
    }

    fn put(&self, suffix: &str, bytes: Bytes, job: &mut Job<'_, '_>) -> Result<()> {
        let suffix = suffix.to_owned();
        self.run(job, |writer| async move { writer.put(&suffix, &bytes).await })
    }

    fn remove(&self, suffix: &str, job: &mut Job<'_, '_>) -> Result<()> {
        let suffix = suffix.to_owned();
        self.run(job, |writer| async move { writer.delete(&suffix).await })
    }

    fn finish(&mut self) {
        self.file.remove();
    }
}

/// Runs `task` on the I/O thread. If the job is to end, it ends, too.
fn wait_for<T: Send + 'static>(
    job: &mut Job<'_, '_>,
    task: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let (sender, ended) = channel();
    let handle = io_thread::spawn(async move {
        // Who has given up needs no result.
        _ = sender.send(task.await);
    })?;
    job.wait(&ended).inspect_err(|_| handle.abort())?
}

/// Bytes of a part of an object of `len` bytes: whole chunks.
fn part_len(len: u64) -> u64 {
    len.div_ceil(PARTS).next_multiple_of(UNIT).max(PART)
}

fn parts(len: u64, part: u64) -> impl Iterator<Item = Range<u64>> {
    (0..len.div_ceil(part)).map(move |index| index * part..((index + 1) * part).min(len))
}

type Ended = (usize, u64, Result<String>);

/// Parts that are under way. Those that are left end when it is dropped.
struct Flying {
    sender: Sender<Ended>,
    ended: Receiver<Ended>,
    tasks: Vec<(usize, AbortHandle)>,
}

impl Flying {
    fn new() -> Self {
        let (sender, ended) = channel();
        Self {
            sender,
            ended,
            tasks: Vec::new(),
        }
    }

    fn count(&self) -> usize {
        self.tasks.len()
    }

    fn start(&mut self, writer: &Arc<Writer>, upload: &str, index: usize, bytes: Bytes) -> Result<()> {
        let (writer, upload, sender) = (Arc::clone(writer), upload.to_owned(), self.sender.clone());
        let task = io_thread::spawn(async move {
            let put = writer.put_part(&upload, index, &bytes).await;
            // Who has given up needs no result.
            _ = sender.send((index, bytes.len() as u64, put));
        })?;
        self.tasks.push((index, task));
        Ok(())
    }

    /// Waits until one has ended.
    fn wait(&mut self, job: &mut Job<'_, '_>) -> Result<Ended> {
        loop {
            match self.ended.recv_timeout(INTERVAL) {
                Ok(ended) => {
                    self.tasks.retain(|(index, _)| *index != ended.0);
                    return Ok(ended);
                }
                // A task that has ended has sent its result, unless it panicked: a store may answer anything.
                Err(_) if self.tasks.iter().any(|(_, task)| task.is_finished()) => {
                    let ended = self.ended.try_recv();
                    let ended = ended.map_err(|_| Error::new(ErrorKind::Io, "The store's answer makes no sense"))?;
                    self.tasks.retain(|(index, _)| *index != ended.0);
                    return Ok(ended);
                }
                Err(_) => job.report()?,
            }
        }
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        self.tasks.iter().for_each(|(_, task)| task.abort());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_object_has_too_many_parts_and_each_has_whole_chunks() {
        for len in [PART + 1, 100 << 30, (5 << 40) - 1, 16 << 40] {
            let part = part_len(len);
            let all: Vec<_> = parts(len, part).collect();
            assert!(
                all.len() <= 10_000 && part.is_multiple_of(UNIT) && part >= PART,
                "{len}"
            );
            assert_eq!(all.last().map(|last| last.end), Some(len));
            assert!(all.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }
}
