//! A store in memory, and the faults that a real one can have.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::thread::{self, ThreadId};

use fvd::host::BoxFuture;
use fvd::remote::{Pin, RemoteFile, RemoteOpener, Urgency, Validator};
use fvd::storage::{Allocation, IoBufMut};
use fvd::{Error, ErrorKind, Result};

/// Objects by URL. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Store(Arc<Shared>);

#[derive(Default)]
struct Shared {
    objects: Mutex<HashMap<String, Object>>,
    opened: Mutex<Vec<(String, Option<Pin>)>>,
    reads: AtomicUsize,
    /// How urgent each read was when it began, and on which thread that was.
    began: Mutex<Vec<(Urgency, ThreadId)>>,
    in_flight: AtomicUsize,
    is_held: AtomicBool,
}

#[derive(Clone)]
struct Object {
    bytes: Arc<[u8]>,
    validator: Validator,
}

impl Object {
    fn pin(&self) -> Pin {
        Pin {
            len: self.bytes.len() as u64,
            validator: self.validator.clone(),
        }
    }
}

impl Store {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Puts an object at `url`, in place of any other.
    pub(crate) fn put(&self, url: &str, bytes: &[u8], etag: &str) {
        self.put_with(url, bytes, Validator::ETag(format!("\"{etag}\"")));
    }

    pub(crate) fn put_with(&self, url: &str, bytes: &[u8], validator: Validator) {
        let object = Object {
            bytes: bytes.into(),
            validator,
        };
        self.objects().insert(url.to_owned(), object);
    }

    /// Cuts the object to `len` bytes. The store does not notice: the validator stays.
    pub(crate) fn truncate(&self, url: &str, len: usize) {
        let mut objects = self.objects();
        let object = objects.get_mut(url).unwrap();
        object.bytes = object.bytes[..len].into();
    }

    pub(crate) fn remove(&self, url: &str) {
        self.objects().remove(url).unwrap();
    }

    pub(crate) fn opener(&self) -> Arc<dyn RemoteOpener> {
        Arc::new(self.clone())
    }

    /// The URLs that were opened, each with the pin that was asked for.
    pub(crate) fn opened(&self) -> Vec<(String, Option<Pin>)> {
        std::mem::take(&mut self.0.opened.lock().unwrap())
    }

    /// How many reads have begun.
    pub(crate) fn reads(&self) -> usize {
        self.0.reads.load(Ordering::SeqCst)
    }

    /// How urgent each read since the last call was when it began, and on which thread that was.
    pub(crate) fn began(&self) -> Vec<(Urgency, ThreadId)> {
        std::mem::take(&mut self.0.began.lock().unwrap())
    }

    /// How many reads wait for an answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.0.in_flight.load(Ordering::SeqCst)
    }

    /// While it is held, the store answers no read.
    pub(crate) fn hold(&self, is_held: bool) {
        self.0.is_held.store(is_held, Ordering::SeqCst);
    }

    fn objects(&self) -> MutexGuard<'_, HashMap<String, Object>> {
        self.0.objects.lock().unwrap()
    }

    /// The object at `url`, if it is the expected one.
    fn object(&self, url: &str, expected: Option<&Pin>) -> Result<Object> {
        let object = self.objects().get(url).cloned();
        let Some(object) = object else {
            return Err(Error::io("open", io::Error::from_raw_os_error(libc::ENOENT)).with_path(url));
        };
        match expected {
            Some(pin) if *pin != object.pin() => {
                let message = format!("Another object is there: expected {pin}, found {}", object.pin());
                Err(Error::new(ErrorKind::Io, message).with_path(url))
            }
            _ => Ok(object),
        }
    }
}

impl RemoteOpener for Store {
    fn open(&self, url: &str, pin: Option<&Pin>) -> Result<Arc<dyn RemoteFile>> {
        self.0.opened.lock().unwrap().push((url.to_owned(), pin.cloned()));
        let object = self.object(url, pin)?;
        Ok(Arc::new(OpenObject {
            store: self.clone(),
            url: url.to_owned(),
            pin: object.pin(),
        }))
    }
}

struct OpenObject {
    store: Store,
    url: String,
    pin: Pin,
}

impl OpenObject {
    async fn fill(&self, mut buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        let shared = &self.store.0;
        shared.reads.fetch_add(1, Ordering::SeqCst);
        shared
            .began
            .lock()
            .unwrap()
            .push((Urgency::current(), thread::current().id()));
        shared.in_flight.fetch_add(1, Ordering::SeqCst);
        answer().await;
        poll_fn(|context| {
            if shared.is_held.load(Ordering::SeqCst) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        shared.in_flight.fetch_sub(1, Ordering::SeqCst);
        let object = self.store.object(&self.url, Some(&self.pin))?;
        let start = object.bytes.len().min(offset as usize);
        let end = object.bytes.len().min(start + buf.len());
        buf.as_mut_slice()[..end - start].copy_from_slice(&object.bytes[start..end]);
        buf.as_mut_slice()[end - start..].fill(0);
        Ok(buf)
    }
}

impl RemoteFile for OpenObject {
    fn url(&self) -> &str {
        &self.url
    }

    fn pin(&self) -> &Pin {
        &self.pin
    }

    fn read(&self, buf: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        Box::pin(self.fill(buf, offset))
    }

    fn allocation(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<(Allocation, u64)>> {
        let inside = self.pin.len.saturating_sub(offset);
        let found = if inside == 0 {
            (Allocation::Hole, len)
        } else {
            (Allocation::Data, len.min(inside))
        };
        Box::pin(async move {
            answer().await;
            Ok(found)
        })
    }
}

/// A server answers later: the first poll finds nothing yet.
async fn answer() {
    let mut asked = false;
    poll_fn(|context| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
