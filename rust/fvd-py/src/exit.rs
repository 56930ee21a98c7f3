//! At the exit of the interpreter, flushes and closes images that are still open, and ends threads.

use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::wrap_pyfunction;

use fvd::Error;

use crate::arguments::blocking;
use crate::{calls, held, logs, runtime};

/// An object that must be closed before the process ends.
pub(crate) trait Closable: Send + Sync {
    /// Whether this process, not a parent process, opened it.
    fn is_ours(&self) -> bool;

    fn is_closed(&self) -> bool;

    /// Whether all leases have ended. If so, no new lease begins after this call. Fails while a server serves
    /// the object. Must be called without the GIL.
    fn try_return(&self) -> Result<bool, Error>;

    /// Closes it. Must be called without the GIL.
    fn close_now(&self) -> Result<(), Error>;

    /// Marks it as closed without closing it. Its file stays as after a crash.
    fn abandon(&self);
}

/// The interval at which a close checks whether a server has ended.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// Waits until servers that are being stopped have returned their leases. A Python signal handler that raises
/// ends the waiting, as in `Server.stop`.
pub(crate) fn wait_for_servers<C: Closable + ?Sized>(py: Python<'_>, image: &C) -> PyResult<()> {
    while !blocking(py, || image.try_return())? {
        py.check_signals()?;
        py.detach(|| thread::sleep(CHECK_INTERVAL));
    }
    Ok(())
}

/// Closes an object that cannot be closed later. If a server never returns its lease (a base that hangs), a
/// signal ends the waiting, and the object is abandoned.
pub(crate) fn close_last<C: Closable + ?Sized>(py: Python<'_>, image: &C) -> PyResult<()> {
    wait_for_servers(py, image).inspect_err(|_| image.abandon())?;
    blocking(py, || image.close_now())
}

static IMAGES: Mutex<Vec<Weak<dyn Closable>>> = Mutex::new(Vec::new());

/// Registers `close_all` to be called before the interpreter exits.
pub(crate) fn register(py: Python<'_>) -> PyResult<()> {
    let close = wrap_pyfunction!(close_all, py)?;
    py.import("atexit")?.call_method1("register", (close,))?;
    Ok(())
}

/// Adds an object, and removes those that no longer exist.
pub(crate) fn remember<C: Closable + 'static>(open: &Arc<C>) {
    let mut images = IMAGES.lock().unwrap_or_else(PoisonError::into_inner);
    images.retain(|image| image.strong_count() > 0);
    let open = Arc::downgrade(open);
    images.push(open);
}

#[pyfunction]
fn close_all(py: Python<'_>) {
    let deadline = Deadline::begin();
    let images = std::mem::take(&mut *IMAGES.lock().unwrap_or_else(PoisonError::into_inner));
    // In reverse order: a server is created after the images that are leased to it, and must be closed first.
    let open = images.iter().rev().filter_map(Weak::upgrade);
    for image in open.filter(|image| image.is_ours()) {
        if let Err(error) = close_last(py, &*image) {
            error.write_unraisable(py, None);
        }
    }
    py.detach(|| deadline.end());
    end_python_threads(py);
    py.detach(runtime::end);
    held::release(py);
    logs::deliver_last(py);
}

/// How long Python code may go on that a close waits for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Refuses the calls of Python code after a while: what they wait for may never come.
struct Deadline {
    over: mpsc::Sender<()>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Deadline {
    fn begin() -> Self {
        let (over, ended) = mpsc::channel();
        let wait = move || {
            let _ = ended.recv_timeout(PATIENCE);
            calls::refuse_all(&exits());
        };
        // Without a thread there is no limit.
        let thread = calls::any().then(|| thread::Builder::new().name("fvd-exit".to_owned()).spawn(wait));
        Self {
            over,
            thread: thread.and_then(Result::ok),
        }
    }

    /// Refuses the calls now.
    fn end(self) {
        drop(self.over);
        match self.thread {
            // A panic has been reported on stderr.
            Some(thread) => drop(thread.join()),
            None => calls::refuse_all(&exits()),
        }
    }
}

fn exits() -> Error {
    Error::io("call it", std::io::Error::other("the interpreter exits"))
}

/// Waits a moment for the threads that carried out calls. Those that are within Python code are left alone.
fn end_python_threads(py: Python<'_>) {
    let join = || {
        let modules = py.import("sys")?.getattr("modules")?;
        let module = modules.call_method1("get", ("fvd._calls",))?;
        if !module.is_none() {
            module.call_method1("join", (PATIENCE.as_secs_f64(),))?;
        }
        Ok::<_, PyErr>(())
    };
    if let Err(error) = join() {
        error.write_unraisable(py, None);
    }
}
