//! Refuses to write to a file that is being read, whatever the locks say.

use std::path::{Path, PathBuf};

use pollster::block_on;

use super::{ConvertRequest, Source, Target};
use crate::chain::{base_path, probe_format};
use crate::error::{Error, Result};
use crate::gate::beside;
use crate::image::read_head;
use crate::source::{Qcow2Options, Qcow2Source};
use crate::storage::{FileOptions, FileStorage, LockMode};

/// Fails if the target, or its data file, belongs to the source. Goes by identity, so links do
/// not hide anything. What cannot be opened here fails with a better message later.
pub(super) fn check(request: &ConvertRequest) -> Result<()> {
    let Target::File(target) = &request.target else {
        return Ok(());
    };
    let mut targets = vec![target.clone()];
    let data_file = &request.create.data_file;
    if !data_file.is_empty() && !request.no_create {
        targets.push(beside(target, data_file));
    }
    let written: Vec<_> = targets
        .iter()
        .filter_map(|path| Some((path, open(path)?.identity())))
        .collect();
    if let [(path, a), (_, b)] = written[..]
        && a == b
    {
        let message = "The image and its data file are the same file";
        return Err(Error::invalid_argument(message).with_path(path));
    }
    if written.is_empty() {
        return Ok(());
    }
    let read = identities(request);
    match written.iter().find(|(_, target)| read.contains(target)) {
        None => Ok(()),
        Some((path, _)) => {
            let message = "It is part of the source, and cannot be the target too";
            Err(Error::invalid_argument(message).with_path(path))
        }
    }
}

fn open(path: &Path) -> Option<FileStorage> {
    let options = FileOptions {
        lock: LockMode::None,
        ..FileOptions::default()
    };
    FileStorage::open(path, &options).ok()
}

/// Every file of the source that can be found.
fn identities(request: &ConvertRequest) -> Vec<(u64, u64)> {
    let (path, format) = match &request.source {
        Source::Stream(stream) => {
            let file = stream.try_clone().ok();
            let file = file.and_then(|file| FileStorage::from_file(file, "").ok());
            return file.iter().map(FileStorage::identity).collect();
        }
        Source::File { path, format } => (path.clone(), format.clone()),
        Source::Open(disk) => (disk.path().to_owned(), Some(disk.format().to_owned())),
    };
    let mut found = Vec::new();
    let mut next = Some((path, format));
    while let Some((path, format)) = next {
        next = layer(&path, format, request, &mut found);
    }
    found
}

/// Adds the files of one layer, and gives the layer below with its format. A chain that bites its
/// tail ends here; opening it says so.
fn layer(
    path: &Path,
    format: Option<String>,
    request: &ConvertRequest,
    found: &mut Vec<(u64, u64)>,
) -> Option<(PathBuf, Option<String>)> {
    let storage = open(path)?;
    if found.contains(&storage.identity()) {
        return None;
    }
    found.push(storage.identity());
    let format = format.or_else(|| block_on(probe_format(&storage)).ok().map(str::to_owned))?;
    match format.as_str() {
        "qcow2" => {
            let options = Qcow2Options {
                lock: LockMode::None,
                direct: false,
                gate: Some(&request.gate),
                probe_backing: true,
            };
            let source = Qcow2Source::from_storage(storage, &options).ok()?;
            found.extend(source.identities());
            None
        }
        "fvd" => {
            let head = block_on(read_head(&storage)).ok()?;
            if !head.header.data_file.is_empty()
                && let Ok(data) = request.gate.permit(path, &head.header.data_file)
            {
                found.extend(open(&data).iter().map(FileStorage::identity));
            }
            let base = base_path(path, &head, &request.gate).ok()??;
            let format = Some(head.header.base_img_fmt).filter(|format| !format.is_empty());
            Some((base, format))
        }
        _ => None,
    }
}
