//! `AsyncImage`: the methods of `Image`, which return awaitables here. `fvd.aio` wraps them in coroutines and
//! takes the docstrings from `Image`.

use std::convert::Infallible;
use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fvd::Error;
use fvd::copy::{self, Control};
use fvd::process::Owned;
use fvd::storage::IoBufMut;
use pollster::block_on;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::answer::{Answer, Nothing, at_once, droppable, unstoppable};
use super::open::{self, AsyncHandle, Engine};
use super::order::Order;
use crate::arguments::{self, Opening, blocking, check_range, outage};
use crate::buffer::{Buffer, shared_bytes};
use crate::errors::raise;
use crate::handle::describe;
use crate::held::{Held, releasing};
use crate::leases::Leasable;
use crate::remote::{Far, Remote};
use crate::source::{Source, Sources};
use crate::{exit, extents, info, numbers, prefetch, runtime, stats, unclosed};

/// Opens an FVD image. Returns an awaitable of it. See `fvd.aio.open`.
#[pyfunction]
#[pyo3(signature = (
    path, *, writable = false, write_base = false, cache = "writeback", discard = "unmap", detect_zeroes = "off",
    copy_on_read = None, base_error = None, base_timeout = None, force_share = false, trust = Vec::new(),
    cache_dir = None, remote = None, base = None
))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
pub(crate) fn open_async<'py>(
    py: Python<'py>,
    path: PathBuf,
    writable: bool,
    write_base: bool,
    cache: &str,
    discard: &str,
    detect_zeroes: &str,
    copy_on_read: Option<bool>,
    base_error: Option<&str>,
    #[pyo3(from_py_with = numbers::base_timeout)] base_timeout: Option<Duration>,
    force_share: bool,
    trust: Vec<PathBuf>,
    cache_dir: Option<PathBuf>,
    remote: Option<Remote>,
    base: Option<Bound<'_, Source>>,
) -> PyResult<Bound<'py, PyAny>> {
    let opening = Opening {
        writable,
        write_base,
        cache,
        discard,
        detect_zeroes,
        copy_on_read,
        on_outage: outage(base_error, base_timeout)?,
        limits_local: true,
        force_share,
        trust: &trust,
        far: Far::new(cache_dir, remote),
        base: base.map(|base| Arc::clone(&base.get().0)),
        sources: Sources::new(),
    };
    let options = opening.options()?;
    droppable(py, async move {
        may_block(move || {
            let (open, size) = open::open(&path, &options)?;
            Ok(AsyncImage {
                open: Arc::new(open),
                order: Owned::new(Order::default()),
                started: AtomicBool::new(false),
                size,
                path: path.into_os_string(),
                writable,
            })
        })
        .await
    })
}

/// Runs blocking code on a thread where that is allowed.
async fn may_block<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let task = runtime::shared()?.spawn_blocking(work);
    task.await.unwrap_or_else(|error| {
        Err(Error::io(
            "finish the operation",
            std::io::Error::other(error.to_string()),
        ))
    })
}

/// An open FVD image. See `fvd.aio.Image`.
#[pyclass(frozen, module = "fvd._fvd", weakref)]
pub(crate) struct AsyncImage {
    pub(crate) open: Arc<AsyncHandle>,
    order: Owned<Order>,
    /// Whether a caller has received the image.
    started: AtomicBool,
    #[pyo3(get)]
    size: u64,
    #[pyo3(get)]
    path: OsString,
    #[pyo3(get)]
    writable: bool,
}

#[pymethods]
impl AsyncImage {
    #[getter]
    fn closed(&self) -> bool {
        self.open.is_closed()
    }

    /// Starts the background work of the image, once a caller has received it. An image that no caller
    /// received (the opening was cancelled) is closed without a warning.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        blocking(py, || self.open.start())?;
        self.started.store(true, Ordering::Release);
        exit::remember(&self.open);
        Ok(())
    }

    fn pread<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = numbers::count)] count: u64,
        #[pyo3(from_py_with = numbers::offset)] offset: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        check_range(count, offset, self.size)?;
        let (bytes, memory) = shared_bytes(py, count as usize)?;
        let fill = self.fill(memory, offset)?;
        droppable(py, async move { fill.await.map(|memory| Filled { bytes, memory }) })
    }

    fn readinto<'py>(
        &self,
        py: Python<'py>,
        buffer: &Bound<'py, PyAny>,
        #[pyo3(from_py_with = numbers::offset)] offset: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let buffer = Buffer::get(buffer)?;
        let count = buffer.len();
        let fill = self.fill(buffer.into_memory()?, offset)?;
        droppable(py, async move { fill.await.map(|_memory| count) })
    }

    fn pwrite<'py>(
        &self,
        py: Python<'py>,
        buffer: &Bound<'py, PyAny>,
        #[pyo3(from_py_with = numbers::offset)] offset: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let bytes = Buffer::get(buffer)?.into_bytes();
        let count = bytes.len();
        self.change(py, count as u64, offset, async move |engine: Arc<Engine>| {
            engine.write(bytes, offset).await.map(|()| count)
        })
    }

    fn zero<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = numbers::count)] count: u64,
        #[pyo3(from_py_with = numbers::offset)] offset: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.change(py, count, offset, async move |engine: Arc<Engine>| {
            engine.write_zeroes(offset, count).await.map(|()| Nothing)
        })
    }

    fn discard<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = numbers::count)] count: u64,
        #[pyo3(from_py_with = numbers::offset)] offset: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.change(py, count, offset, async move |engine: Arc<Engine>| {
            engine.discard(offset, count).await.map(|()| Nothing)
        })
    }

    fn flush<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let open = self.ours()?;
        let flush = async |engine: Arc<Engine>| engine.flush().await.map(|()| Nothing);
        unstoppable(py, async move { open.with_async(flush).await })
    }

    #[pyo3(signature = (offset = 0, length = None))]
    fn extents<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = numbers::offset)] offset: u64,
        #[pyo3(from_py_with = numbers::length)] length: Option<u64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let open = self.ours()?;
        droppable(py, async move {
            let collect = async |engine: Arc<Engine>| extents::collect(&*engine, offset, length).await;
            open.with_async(collect).await.map(extents::Entries)
        })
    }

    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (open, path) = (self.ours()?, self.path.clone());
        droppable(py, async move {
            // `with` fails if the image is closed. The information itself is read from the file at this path.
            open.with_async(async |_| Ok(())).await?;
            may_block(move || info::of_open_image(path.as_ref())).await
        })
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let open = self.ours()?;
        droppable(py, async move {
            let stats = open.with_async(async |engine: Arc<Engine>| Ok(engine.stats())).await?;
            Ok(stats::Counters(stats))
        })
    }

    fn prefetch_status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let open = self.ours()?;
        droppable(py, async move {
            let status = async |engine: Arc<Engine>| copy::status(&engine, open.running().as_ref()).await;
            open.with_async(status).await.map(prefetch::Status)
        })
    }

    /// Whether a caller that waits for prefetch since there were `retries` gets an answer.
    fn prefetch_is_over<'py>(&self, py: Python<'py>, retries: u64) -> PyResult<Bound<'py, PyAny>> {
        let open = self.ours()?;
        droppable(py, async move {
            let is_over = async |_| {
                let control = open.running();
                Ok(control.is_none_or(|control| prefetch::is_over(&control.status(), retries)))
            };
            open.with_async(is_over).await
        })
    }

    /// Returns the final status of prefetch, or raises its error. Must be called when it is over.
    fn prefetch_outcome<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let open = self.ours()?;
        droppable(py, async move {
            let outcome = async |engine: Arc<Engine>| {
                let status = copy::status(&engine, open.running().as_ref()).await?;
                prefetch::outcome(status)
            };
            open.with_async(outcome).await.map(prefetch::Status)
        })
    }

    fn pause_prefetch<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.steer(py, Control::pause)
    }

    fn resume_prefetch<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.steer(py, Control::resume)
    }

    fn set_prefetch_rate<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = numbers::rate)] rate: Option<u64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let rate = arguments::rate(rate);
        self.steer(py, move |control| control.set_rate(rate))
    }

    /// The same, for the argument of `prefetch`.
    fn limit_prefetch<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = numbers::rate_limit)] rate_limit: Option<u64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let rate = arguments::rate(rate_limit);
        self.steer(py, move |control| control.set_rate(rate))
    }

    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let open = Arc::clone(&self.open);
        if !open.is_ours() {
            // In a forked child this does nothing, so no runtime is started for it.
            block_on(open.close()).map_err(|error| raise(&error))?;
            return at_once(py, Ok(Nothing));
        }
        unstoppable(py, async move { open.close().await.map(|()| Nothing) })
    }

    fn __repr__(&self) -> String {
        describe(
            "fvd.aio.Image",
            self.path.as_ref(),
            self.writable,
            self.size,
            self.closed(),
        )
    }
}

impl AsyncImage {
    /// Fails in a child process that was forked while the image was open.
    fn ours(&self) -> PyResult<Arc<AsyncHandle>> {
        self.open.check_process().map_err(|error| raise(&error))?;
        Ok(Arc::clone(&self.open))
    }

    fn order(&self) -> PyResult<&Order> {
        self.order.get().map_err(|error| raise(&error))
    }

    /// Reads into `memory` from `offset` (bytes), after earlier writes that overlap, and returns it.
    fn fill(
        &self,
        memory: IoBufMut,
        offset: u64,
    ) -> PyResult<impl Future<Output = Result<IoBufMut, Error>> + Send + use<>> {
        let open = self.ours()?;
        let mut turn = self.order()?.read(offset, memory.len() as u64);
        Ok(async move {
            turn.come().await;
            let read = async |engine: Arc<Engine>| engine.read(memory, offset).await;
            open.with_async(read).await
        })
    }

    /// Changes `count` bytes at `offset`, after earlier writes that overlap with them.
    fn change<'py, T, W, F>(&self, py: Python<'py>, count: u64, offset: u64, work: W) -> PyResult<Bound<'py, PyAny>>
    where
        T: Answer,
        W: FnOnce(Arc<Engine>) -> F + Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let open = self.ours()?;
        let mut turn = self.order()?.write(offset, count);
        unstoppable(py, async move {
            turn.come().await;
            open.with_async(work).await
        })
    }

    fn steer<'py>(&self, py: Python<'py>, command: impl Fn(&Control) + Send + 'static) -> PyResult<Bound<'py, PyAny>> {
        let open = self.ours()?;
        droppable(py, async move {
            let control = async |engine: Arc<Engine>| open.control(&engine);
            open.with_async(control).await?.iter().for_each(command);
            Ok(Nothing)
        })
    }
}

/// The bytes object that a read has filled, and its memory.
struct Filled {
    bytes: Held<Py<PyBytes>>,
    memory: IoBufMut,
}

impl<'py> IntoPyObject<'py> for Filled {
    type Target = PyBytes;
    type Output = Bound<'py, PyBytes>;
    type Error = Infallible;

    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Self::Error> {
        releasing(py, || drop(self.memory));
        Ok(self.bytes.into_inner().into_bound(py))
    }
}

impl Drop for AsyncImage {
    fn drop(&mut self) {
        if !self.started.load(Ordering::Acquire) {
            return open::close_soon(&self.open);
        }
        unclosed::close(&*self.open, || format!("image {}", self.path.display()));
    }
}
