//! The spans that are open.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use fvd::process::{PerProcess, Process};
use tracing::Metadata;
use tracing::span::Id;

use crate::record::{Scope, Visitor};

/// A span that is wanted.
pub(crate) struct Span {
    pub(crate) metadata: &'static Metadata<'static>,
    fields: Mutex<Visitor>,
    pub(crate) begun: Instant,
    parent: Option<Arc<Self>>,
    process: Process,
    handles: AtomicUsize,
}

impl Span {
    pub(crate) fn fields(&self) -> MutexGuard<'_, Visitor> {
        lock(&self.fields)
    }

    pub(crate) fn scope(&self) -> Scope {
        Scope {
            name: self.metadata.name(),
            fields: self.fields().fields.clone(),
        }
    }

    /// This span and those around it, the outermost first.
    pub(crate) fn scopes(&self) -> Vec<Scope> {
        let mut scopes = self.outer_scopes();
        scopes.push(self.scope());
        scopes
    }

    /// The spans around this one.
    pub(crate) fn outer_scopes(&self) -> Vec<Scope> {
        self.parent.as_ref().map_or_else(Vec::new, |parent| parent.scopes())
    }
}

/// The open spans by number. A forked child has its own, so no thread of the parent holds their lock; numbers
/// of the parent mean nothing there.
static OPEN: PerProcess<Mutex<HashMap<u64, Arc<Span>>>> = PerProcess::new(Mutex::default);

/// Never given twice, in any process.
static NEXT: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// The spans in which this thread is, the innermost last. Gone while the thread ends.
    static ENTERED: RefCell<Vec<Arc<Span>>> = const { RefCell::new(Vec::new()) };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a span in `parent`, or in the span in which this thread is.
pub(crate) fn open(
    metadata: &'static Metadata<'static>,
    fields: Visitor,
    parent: Option<&Id>,
    is_root: bool,
) -> (Id, Arc<Span>) {
    let parent = match parent {
        Some(id) => find(id),
        None if is_root => None,
        None => current(),
    };
    let span = Arc::new(Span {
        metadata,
        fields: Mutex::new(fields),
        begun: Instant::now(),
        parent,
        process: Process::current(),
        handles: AtomicUsize::new(1),
    });
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    lock(OPEN.get()).insert(number, Arc::clone(&span));
    (Id::from_u64(number), span)
}

pub(crate) fn find(id: &Id) -> Option<Arc<Span>> {
    lock(OPEN.get()).get(&id.into_u64()).cloned()
}

/// The span in which this thread is.
pub(crate) fn current() -> Option<Arc<Span>> {
    let last = ENTERED.try_with(|entered| entered.borrow().last().cloned());
    // Those of the parent process are of no use: one of its threads may hold their locks.
    last.ok().flatten().filter(|span| span.process.is_current())
}

pub(crate) fn enter(id: &Id) {
    if let Some(span) = find(id) {
        let _ = ENTERED.try_with(|entered| entered.borrow_mut().push(span));
    }
}

pub(crate) fn exit(id: &Id) {
    if let Some(span) = find(id) {
        let _ = ENTERED.try_with(|entered| {
            let mut entered = entered.borrow_mut();
            if let Some(at) = entered.iter().rposition(|entered| Arc::ptr_eq(entered, &span)) {
                entered.remove(at);
            }
        });
    }
}

pub(crate) fn keep(id: &Id) {
    if let Some(span) = find(id) {
        span.handles.fetch_add(1, Ordering::Relaxed);
    }
}

/// Gives up a handle. Returns the span if it was the last one.
pub(crate) fn release(id: &Id) -> Option<Arc<Span>> {
    let mut open = lock(OPEN.get());
    let span = open.get(&id.into_u64())?;
    if span.handles.fetch_sub(1, Ordering::Relaxed) > 1 {
        return None;
    }
    open.remove(&id.into_u64())
}
