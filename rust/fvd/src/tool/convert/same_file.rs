//! Refuses a target that is also part of the source, independently of the locks.

use pollster::block_on;

use super::{ConvertRequest, Format, Source, Target};
use crate::error::{Error, Result};
use crate::gate::beside;
use crate::image::read_head;
use crate::remote::{Access, AnyFile, Identity};
use crate::source::{Qcow2Options, Qcow2Source, probe_file};
use crate::storage::{FileStorage, LockMode, Storage as _};
use crate::tool::new_files::{look_at, unlocked};

/// Fails if the target or its data file belongs to the source, or to the base that the target will have.
/// Compares device and inode numbers, so links do not matter. Files that cannot be opened here are ignored:
/// opening them fails later, with a better message.
pub(super) fn check(request: &ConvertRequest) -> Result<()> {
    let Target::File(target) = &request.target else {
        return Ok(());
    };
    let makes_image = request.format == Format::Fvd && !request.no_create;
    let data_file = &request.create.data_file;
    let data = (makes_image && !data_file.is_empty()).then(|| beside(target, data_file));
    let written: Vec<_> = [Some(target), data.as_ref()]
        .into_iter()
        .flatten()
        .filter_map(|path| Some((path, AnyFile::Local(look_at(path)?).identity())))
        .collect();
    if !written.is_empty() {
        let read = identities(request);
        if let Some((path, _)) = written.iter().find(|(_, target)| read.contains(target)) {
            let message = "It is part of the source, and cannot be the target too";
            return Err(Error::invalid_argument(message).with_path(path));
        }
    }
    if makes_image {
        request.new_files(target).check()?;
    }
    Ok(())
}

/// The identities of all files of the source, as far as they can be opened. None that begins with a URL: below
/// it there is no local file.
fn identities(request: &ConvertRequest) -> Vec<Identity> {
    let (path, format) = match &request.source {
        Source::Stream(stream) => {
            let file = stream.try_clone().ok();
            let file = file.and_then(|file| FileStorage::from_file(file, "").ok());
            return file.into_iter().map(|file| AnyFile::Local(file).identity()).collect();
        }
        Source::File { path, format } => (path.clone(), format.clone()),
        Source::Open(disk) => (disk.path().to_owned(), Some(disk.format().to_owned())),
    };
    look_at(&path).map_or_else(Vec::new, |storage| chain_of(storage, format, request.access()))
}

/// The identities of all files of the disk in `storage`, with the backing chain and all data files, as far as
/// they can be opened.
pub(in crate::tool) fn chain_of(storage: FileStorage, format: Option<String>, access: Access<'_>) -> Vec<Identity> {
    let mut found = Vec::new();
    let mut next = Some((AnyFile::Local(storage), format));
    while let Some((storage, format)) = next {
        next = layer(storage, format, access, &mut found);
    }
    found
}

/// Adds the identities of one layer to `found`, and returns the next lower layer with its format. A loop in
/// the chain ends here without an error; opening the chain reports it.
fn layer(
    storage: AnyFile<FileStorage>,
    format: Option<String>,
    access: Access<'_>,
    found: &mut Vec<Identity>,
) -> Option<(AnyFile<FileStorage>, Option<String>)> {
    if found.contains(&storage.identity()) {
        return None;
    }
    found.push(storage.identity());
    let format = format.or_else(|| probe_file(&storage).ok().map(str::to_owned))?;
    match format.as_str() {
        "qcow2" => {
            let options = Qcow2Options {
                lock: LockMode::None,
                direct: false,
                gate: Some(access.gate),
                probe_backing: true,
                remote: access.remote,
            };
            let source = Qcow2Source::from_file(storage, &options).ok()?;
            found.extend(source.identities());
            None
        }
        "fvd" => {
            let head = block_on(read_head(&storage)).ok()?;
            let header = &head.header;
            let named = |name| access.open_named(storage.path(), name, None, &unlocked());
            if !header.data_file.is_empty() {
                found.extend(named(&header.data_file).iter().map(AnyFile::identity));
            }
            let base = head.needs_base().then(|| named(&header.base_img).ok()).flatten()?;
            let format = Some(head.header.base_img_fmt).filter(|format| !format.is_empty());
            Some((base, format))
        }
        _ => None,
    }
}
