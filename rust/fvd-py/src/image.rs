//! The class `Image`.

use std::ffi::OsString;
use std::sync::Arc;

use fvd::chain::OpenedFile;
use fvd::copy::{self, Control};
use fvd::storage::IoBufMut;
use pollster::block_on;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arguments::{self, blocking, check_range};
use crate::buffer::{Buffer, shared_bytes};
use crate::errors::raise;
use crate::handle::{BlockingHandle, describe};
use crate::held::releasing;
use crate::leases::Leasable;
use crate::stats::Counters;
use crate::waiting::wait_for;
use crate::{exit, extents, info, numbers, prefetch, unclosed};

type Engine = fvd::image::Image<OpenedFile>;

/// An open FVD image. `fvd.open` creates it.
///
/// It can be used from several threads at the same time. The GIL is released during I/O. It is a context
/// manager, which closes the image at the end.
///
/// Once the image is closed, and in a process that was forked since it was opened, every method except
/// `close` raises `ValueError` (`file` on a closed image: the object that it returns). An error of a file
/// raises `IoError`; its attribute `offset` says where in the file.
///
/// ```pycon
/// >>> image = fvd.open("disk.fvd", "r+")
/// >>> image
/// <fvd.Image 'disk.fvd', mode 'r+', 67108864 bytes>
/// >>> image.close()
/// ```
#[pyclass(frozen, module = "fvd", weakref)]
pub(crate) struct Image {
    pub(crate) open: Arc<BlockingHandle>,
    /// Size of the virtual disk in bytes: a multiple of 512. It does not change while the image is open.
    ///
    /// ```pycon
    /// >>> image.size
    /// 67108864
    /// ```
    #[pyo3(get)]
    size: u64,
    /// The path as it was passed to `open`, as a string.
    ///
    /// ```pycon
    /// >>> image.path
    /// 'disk.fvd'
    /// ```
    #[pyo3(get)]
    path: OsString,
    /// Whether the image was opened for writing.
    ///
    /// ```pycon
    /// >>> image.writable
    /// True
    /// ```
    #[pyo3(get)]
    writable: bool,
}

impl Image {
    pub(crate) fn new(open: Arc<BlockingHandle>, size: u64, path: OsString, writable: bool) -> Self {
        Self {
            open,
            size,
            path,
            writable,
        }
    }

    /// Reads into `memory` from `offset` (bytes). The memory is released before this returns, unless a signal
    /// handler raises while the file is read.
    fn fill(&self, py: Python<'_>, memory: IoBufMut, offset: u64) -> PyResult<()> {
        self.open.check_process().map_err(|error| raise(&error))?;
        let open = Arc::clone(&self.open);
        let read = async move {
            let read = async |engine: Arc<Engine>| engine.read(memory, offset).await;
            open.with_async(read).await
        };
        releasing(py, || wait_for(py, read).map(drop))
    }
}

#[pymethods]
impl Image {
    /// Whether the image has been closed.
    ///
    /// ```pycon
    /// >>> image.close()
    /// >>> image.closed
    /// True
    /// ```
    #[getter]
    fn closed(&self) -> bool {
        self.open.is_closed()
    }

    /// Reads `count` bytes from `offset` (bytes, any alignment), and returns them as `bytes`.
    ///
    /// `ValueError` if a byte lies beyond the end of the disk, `IoError` if the image, its base or its data
    /// file cannot be read, or if the base has changed since the image was opened.
    ///
    /// ```pycon
    /// >>> image.pread(4, 0)
    /// b'\x00\x00\x00\x00'
    /// ```
    fn pread<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = numbers::count)] count: u64,
        #[pyo3(from_py_with = numbers::offset)] offset: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        check_range(count, offset, self.size)?;
        let (object, memory) = shared_bytes(py, count as usize)?;
        let filled = self.fill(py, memory, offset);
        let object = object.into_inner().into_bound(py);
        filled.map(|()| object)
    }

    /// Fills `buffer` with the data at `offset` (bytes, any alignment), and returns its length in bytes.
    /// `buffer` is any writable, C-contiguous object with the buffer protocol.
    ///
    /// `ValueError` if a byte lies beyond the end of the disk, `BufferError` if the buffer is read-only or
    /// not contiguous, `IoError` as for `pread`.
    ///
    /// ```pycon
    /// >>> buffer = bytearray(512)
    /// >>> image.readinto(buffer, 4096)
    /// 512
    /// ```
    fn readinto(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = numbers::offset)] offset: u64,
    ) -> PyResult<usize> {
        let memory = Buffer::get(buffer)?.into_memory()?;
        let len = memory.len();
        self.fill(py, memory, offset)?;
        Ok(len)
    }

    /// Writes `buffer` at `offset` (bytes, any alignment), and returns its length in bytes. `buffer` is any
    /// C-contiguous object with the buffer protocol. The data is durable after the next `flush`.
    ///
    /// `ValueError` if a byte lies beyond the end of the disk: nothing is written then. `BufferError` if the
    /// buffer is not contiguous, `NotPermittedError` if the image was opened read-only, `NoSpaceError` if
    /// there is no room, `PoisonedError` after an earlier error of the metadata, `IoError` if a file cannot
    /// be written.
    ///
    /// ```pycon
    /// >>> image.pwrite(b"hello", 1000)
    /// 5
    /// >>> image.pread(7, 999)
    /// b'\x00hello\x00'
    /// ```
    fn pwrite(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = numbers::offset)] offset: u64,
    ) -> PyResult<usize> {
        let buffer = Buffer::get(buffer)?;
        let bytes = buffer.lease();
        blocking(py, || self.open.with(|engine| block_on(engine.write(bytes, offset))))?;
        Ok(buffer.len())
    }

    /// Discards `count` bytes from `offset` (bytes, any alignment) and frees their space. The whole sectors
    /// of the range then read as zeroes. Sectors that are only partly in the range keep their content, and so
    /// do blocks that are still in the base and only partly in the range. In an image that writes to its
    /// base, the region of the base does not change.
    ///
    /// Does nothing if the image was opened with `discard="ignore"`. `ValueError` if a byte lies beyond the
    /// end of the disk, `NotPermittedError` if the image was opened read-only, `PoisonedError` and `IoError`
    /// as for `pwrite`.
    ///
    /// ```pycon
    /// >>> image.pwrite(b"not needed" * 100, 0)
    /// 1000
    /// >>> image.discard(1000, 0)
    /// >>> image.pread(4, 0), image.pread(4, 996)  # a whole sector, and a part of one
    /// (b'\x00\x00\x00\x00', b'eded')
    /// ```
    fn discard(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = numbers::count)] count: u64,
        #[pyo3(from_py_with = numbers::offset)] offset: u64,
    ) -> PyResult<()> {
        blocking(py, || self.open.with(|engine| block_on(engine.discard(offset, count))))
    }

    /// Makes `count` bytes from `offset` (bytes, any alignment) read as zeroes. Frees their space where the
    /// storage can. With `discard="ignore"`, allocated space stays allocated.
    ///
    /// `ValueError` if a byte lies beyond the end of the disk. The other errors are those of `pwrite`.
    ///
    /// ```pycon
    /// >>> image.pwrite(b"abcdef", 0)
    /// 6
    /// >>> image.zero(2, 1)
    /// >>> image.pread(6, 0)
    /// b'a\x00\x00def'
    /// ```
    fn zero(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = numbers::count)] count: u64,
        #[pyo3(from_py_with = numbers::offset)] offset: u64,
    ) -> PyResult<()> {
        blocking(py, || {
            self.open.with(|engine| block_on(engine.write_zeroes(offset, count)))
        })
    }

    /// Makes all writes durable that returned before this call. With `cache="unsafe"` they only reach the
    /// page cache.
    ///
    /// `IoError` if a sync fails; every further write and flush then raises `PoisonedError`. `NoSpaceError`
    /// if there is no room for the metadata; a flush can be repeated after that.
    ///
    /// ```pycon
    /// >>> image.pwrite(b"hello", 0)
    /// 5
    /// >>> image.flush()
    /// ```
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        blocking(py, || self.open.with(|engine| block_on(engine.flush())))
    }

    /// Describes where the data of the disk is stored, through the whole backing chain: a list of
    /// dictionaries with the field names of `qemu-img map --output=json`.
    ///
    /// `offset` and `length` are in bytes, from 0, of any alignment; `length` None: up to the end of the
    /// disk. What lies beyond the end is left out. Adjacent extents with the same properties are merged.
    /// `IoError` if the metadata or a base cannot be read.
    ///
    /// ```pycon
    /// >>> extents = image.extents(4096)
    /// >>> [(extent["start"], extent["length"], extent["zero"]) for extent in extents]
    /// [(4096, 67104768, True)]
    /// ```
    #[pyo3(signature = (offset = 0, length = None))]
    fn extents(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = numbers::offset)] offset: u64,
        #[pyo3(from_py_with = numbers::length)] length: Option<u64>,
    ) -> PyResult<extents::Entries> {
        let entries = blocking(py, || {
            self.open
                .with(|engine| block_on(extents::collect(&**engine, offset, length)))
        })?;
        Ok(extents::Entries(entries))
    }

    /// Returns what `fvd.info` returns for this image: a dictionary. Sizes are in bytes. It is read from the
    /// file that has the name `path` now: `IoError` if there is none, because the file was renamed or `path`
    /// is relative and the current directory has changed.
    ///
    /// ```pycon
    /// >>> info = image.info()
    /// >>> info["format"], info["virtual-size"]
    /// ('fvd', 67108864)
    /// ```
    fn info(&self, py: Python<'_>) -> PyResult<info::Described> {
        // `with` fails if the image is closed. The information itself is read from the file at this path.
        blocking(py, || self.open.with(|_| info::of_open_image(self.path.as_ref())))
    }

    /// Returns counters since the image was opened: a dictionary from names to numbers. Those whose names end
    /// in `bytes`, `copied-on-read`, `prefetched` and `prefetched-zeros` are in bytes; `journal-sectors` are
    /// sectors of 512 bytes; the others are numbers of requests or events.
    ///
    /// ```pycon
    /// >>> image.pwrite(b"hello", 0)
    /// 5
    /// >>> stats = image.stats()
    /// >>> stats["writes"], stats["written-bytes"]
    /// (1, 5)
    /// ```
    fn stats(&self, py: Python<'_>) -> PyResult<Counters> {
        blocking(py, || self.open.with(|engine| Ok(Counters(engine.stats()))))
    }

    /// Copies everything that is still in the base to the image. After that, the base is never needed again.
    ///
    /// Returns when this is done. The result is that of `prefetch_status`. `progress(status)` is called
    /// several times a second. If it raises an exception, or a signal handler does, prefetch is paused and
    /// the exception is raised. `rate_limit` is that of `set_prefetch_rate`; None: as it is.
    ///
    /// `NotPermittedError` if the image was opened read-only and has a base, `IoError` if the base cannot be
    /// read, `NoSpaceError` if there is no room, `IoError` with EINTR if the image is closed meanwhile.
    ///
    /// ```pycon
    /// >>> overlay = fvd.open("overlay.fvd", "r+")
    /// >>> status = overlay.prefetch()
    /// >>> status["state"], status["local"], status["total"]
    /// ('finished', 1048576, 1048576)
    /// ```
    #[pyo3(signature = (progress = None, *, rate_limit = None))]
    fn prefetch(
        &self,
        py: Python<'_>,
        progress: Option<Py<PyAny>>,
        #[pyo3(from_py_with = numbers::rate_limit)] rate_limit: Option<u64>,
    ) -> PyResult<prefetch::Status> {
        let rate = arguments::rate(rate_limit);
        prefetch::run(py, &self.open, progress, rate).map(prefetch::Status)
    }

    /// Returns the progress of prefetch, which may run in the background or in another thread: a dictionary,
    /// in bytes and bytes per second (`fvd.types.PrefetchStatus`). The first call may read the bitmap
    /// (`IoError`).
    ///
    /// ```pycon
    /// >>> overlay = fvd.open("overlay.fvd")
    /// >>> status = overlay.prefetch_status()
    /// >>> status["state"], status["local"], status["total"]
    /// ('waiting', 0, 1048576)
    /// ```
    fn prefetch_status(&self, py: Python<'_>) -> PyResult<prefetch::Status> {
        let status = |engine: &Arc<_>| block_on(copy::status(engine, self.open.running().as_ref()));
        blocking(py, || self.open.with(status)).map(prefetch::Status)
    }

    /// Pauses prefetch: no further copy begins until `resume_prefetch`. Does nothing if the image has no
    /// base. `NotPermittedError` if the image was opened read-only and has a base.
    ///
    /// ```pycon
    /// >>> overlay = fvd.open("overlay.fvd", "r+")
    /// >>> overlay.pause_prefetch()
    /// ```
    fn pause_prefetch(&self, py: Python<'_>) -> PyResult<()> {
        let control = blocking(py, || self.open.with(|engine| self.open.control(engine)))?;
        control.iter().for_each(Control::pause);
        Ok(())
    }

    /// Starts prefetch in the background immediately, or resumes it after `pause_prefetch`. Does nothing if
    /// the image has no base. `prefetch_status` tells how it goes, and whether it has failed.
    /// `NotPermittedError` if the image was opened read-only and has a base.
    ///
    /// ```pycon
    /// >>> overlay = fvd.open("overlay.fvd", "r+")
    /// >>> overlay.resume_prefetch()
    /// ```
    fn resume_prefetch(&self, py: Python<'_>) -> PyResult<()> {
        let control = blocking(py, || self.open.with(|engine| self.open.control(engine)))?;
        control.iter().for_each(Control::resume);
        Ok(())
    }

    /// From now on prefetch reads at most `rate` bytes in a second, and never more than the options of the image
    /// allow; None or 0: only they limit it. `ValueError` if it is negative. Does nothing if the image has no base.
    ///
    /// ```pycon
    /// >>> overlay = fvd.open("overlay.fvd", "r+")
    /// >>> overlay.set_prefetch_rate(20 << 20)
    /// ```
    fn set_prefetch_rate(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = numbers::rate)] rate: Option<u64>,
    ) -> PyResult<()> {
        let rate = arguments::rate(rate);
        let control = blocking(py, || self.open.with(|engine| self.open.control(engine)))?;
        if let Some(control) = control {
            control.set_rate(rate);
        }
        Ok(())
    }

    /// Returns a buffered, seekable binary file object for the disk (see the module `io`), at offset 0. Its
    /// size is that of the disk; a write beyond the end raises an `OSError` with ENOSPC. To close it writes
    /// what it has buffered, and leaves the image open. Only `Image.flush` makes data durable.
    ///
    /// ```pycon
    /// >>> with image.file() as file:
    /// ...     position = file.seek(512)
    /// ...     file.write(b"hello")
    /// 5
    /// >>> image.pread(5, 512)
    /// b'hello'
    /// ```
    fn file<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().open.check_process().map_err(|error| raise(&error))?;
        slf.py().import("fvd._file")?.call_method1("image_file", (slf,))
    }

    /// Flushes, marks the image clean and releases its files. Does nothing if the image is already closed, or
    /// in a process that was forked since the image was opened.
    ///
    /// Raises `InUseError` while `fvd.serve` serves the image. The image then stays open. Raises `IoError`,
    /// `NoSpaceError` or `PoisonedError` if the flush fails. The image is closed even so, and not marked
    /// clean.
    ///
    /// ```pycon
    /// >>> image.close()
    /// >>> image.pread(4, 0)
    /// Traceback (most recent call last):
    /// ValueError: I/O operation on a closed image
    /// ```
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.open.is_ours() {
            exit::wait_for_servers(py, &*self.open)?;
        }
        blocking(py, || block_on(self.open.close()))
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        describe("fvd.Image", self.path.as_ref(), self.writable, self.size, self.closed())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        unclosed::close(&*self.open, || format!("image {}", self.path.display()));
    }
}
