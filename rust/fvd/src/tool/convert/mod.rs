//! Convert: copies a disk to a raw file, a device, a pipe or an FVD image, and keeps holes where the target
//! allows it.

mod created;
mod pipeline;
mod plan;
mod queue;
mod raw;
mod request;
mod same_file;
mod sink;
mod stream;
mod target;

use std::fs::File;
use std::path::Path;

use pollster::block_on;

use super::progress::Callback;
use crate::chain::{ChainOptions, open_source};
use crate::error::{ErrorKind, Result};
use crate::source::{BaseSource, RawSource};
use crate::storage::{FileStorage, Storage};

use created::Created;
use pipeline::{How, copy};
use plan::{Input, Zeros};
use raw::RawDisk;
use stream::StreamSink;
use target::Opened;

pub(super) use same_file::chain_of;

pub use request::{Cache, ConvertRequest, DEFAULT_SPARSE_SIZE, Format, MAX_SPARSE_SIZE, Source, Target};

/// The result of a successful conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Converted {
    /// Size of the source disk in bytes. An FVD image has this size rounded up to a multiple of 512.
    pub size: u64,
}

/// Converts a disk with worker threads, and blocks until the target is closed.
///
/// `progress` is called on this thread a few times a second, and once more at the end; a Break cancels. A
/// write to a pipe whose reader reads nothing can delay these calls.
///
/// In every cache mode except [`Cache::Unsafe`] the target is durable if this succeeds. After a failure, a
/// target file that this call created or emptied is removed. A device is not removed, and neither is an
/// existing target with [`ConvertRequest::no_create`]. Such a target, like one left by a kill or a power cut,
/// has a mark, and fvd refuses to open it (see [`format::unfinished`](crate::format::unfinished)).
///
/// # Errors
///
/// [`ErrorKind::Cancelled`] after a Break;
/// [`ErrorKind::InvalidArgument`] if the target is a part of the source,
/// or too short.
pub fn convert(request: &ConvertRequest, progress: &mut Callback<'_>) -> Result<Converted> {
    request.check()?;
    same_file::check(request)?;
    match &request.source {
        Source::File { path, format } => {
            let source = block_on(open_source(path, format.as_deref(), &source_options(request)))?;
            convert_disk(source.as_ref(), request, progress)
        }
        Source::Open(disk) => convert_disk(&**disk, request, progress),
        Source::Stream(stream) => match stream::as_file(stream)? {
            Some(storage) => convert_raw(storage, request, progress),
            None => convert_stream(stream, request, progress),
        },
    }
}

fn source_options(request: &ConvertRequest) -> ChainOptions {
    ChainOptions {
        direct: request.source_cache.is_direct(),
        force_share: request.force_share,
        gate: request.gate.clone(),
        remote: request.remote.clone(),
        ..ChainOptions::default()
    }
}

fn convert_raw(storage: FileStorage, request: &ConvertRequest, progress: &mut Callback<'_>) -> Result<Converted> {
    let source = block_on(RawSource::new(storage))?;
    convert_disk(&source, request, progress)
}

/// Converts a disk with random access.
fn convert_disk(source: &dyn BaseSource, request: &ConvertRequest, progress: &mut Callback<'_>) -> Result<Converted> {
    let input = Input::Disk(source);
    let size = match &request.target {
        Target::Stream(stream) => copy_to_stream(input, stream, request, progress)?,
        Target::File(path) => copy_to_file(input, Some(source.len()), path, request, progress)?,
    };
    Ok(Converted { size })
}

/// Converts from a pipe.
fn convert_stream(stream: &File, request: &ConvertRequest, progress: &mut Callback<'_>) -> Result<Converted> {
    let input = Input::Stream(stream);
    match (&request.target, request.format) {
        (Target::Stream(target), _) => {
            let size = copy_to_stream(input, target, request, progress)?;
            Ok(Converted { size })
        }
        (Target::File(path), Format::Raw) => {
            let size = copy_to_file(input, None, path, request, progress)?;
            Ok(Converted { size })
        }
        (Target::File(path), Format::Fvd) => {
            // An image is created with its final size, and the size of a pipe is only known at its end.
            let spool = fill_spool(stream, path, progress)?;
            convert_raw(spool, request, progress)
        }
    }
}

/// Returns the size of the disk in bytes.
fn copy_to_stream(
    input: Input<'_>,
    target: &File,
    request: &ConvertRequest,
    progress: &mut Callback<'_>,
) -> Result<u64> {
    let sink = StreamSink::new(target);
    let size = copy(input, &sink, How::new(Zeros::Write, false, request.rate), progress)?;
    if request.cache != Cache::Unsafe {
        sink.sync()?;
    }
    Ok(size)
}

/// Returns the size of the disk in bytes. `size` is the same, if it is known in advance.
fn copy_to_file(
    input: Input<'_>,
    size: Option<u64>,
    path: &Path,
    request: &ConvertRequest,
    progress: &mut Callback<'_>,
) -> Result<u64> {
    let mut created = Created::default();
    let Opened { disk, zeros } = Opened::new(path, size, request, &mut created, progress)?;
    let out_of_order = request.out_of_order || !disk.order_matters();
    let copied = copy(
        input,
        disk.sink(),
        How::new(zeros, out_of_order, request.rate),
        progress,
    );
    let outcome = copied.and_then(|end| {
        if !request.no_create {
            disk.complete(end)?;
        }
        disk.finish().map_err(|error| error.during("write"))?;
        Ok(end)
    });
    match &outcome {
        Ok(_) => created.keep(),
        Err(_) if request.no_create => disk.abandon(),
        Err(_) => {}
    }
    outcome
}

/// Copies a pipe up to its end to a sparse temporary file in the directory of `target`.
fn fill_spool(stream: &File, target: &Path, progress: &mut Callback<'_>) -> Result<FileStorage> {
    let disk = RawDisk::new(stream::spool(target)?, Cache::Unsafe);
    let zeros = Zeros::Skip {
        unit: DEFAULT_SPARSE_SIZE,
    };
    let copied = copy(Input::Stream(stream), &disk, How::new(zeros, false, None), progress);
    let len = copied.map_err(|error| match error.kind() {
        ErrorKind::NoSpace => error.with_hint(
            "what comes from a pipe is stored here before it becomes an image, which takes twice the room meanwhile: \
             convert it to raw first, and that to fvd",
        ),
        _ => error,
    })?;
    let storage = disk.into_storage();
    block_on(storage.set_len(len))?;
    Ok(storage)
}
