//! Creates an image at a path, with its base and its data file.

use std::ffi::OsString;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::new_files::NewFiles;
use super::profile::store_ranges;
use crate::chain::{self, ChainOptions, NewBase};
use crate::error::{Error, Result};
use crate::format::{BaseUpdate, Header, SECTOR, profile};
use crate::gate::{Gate, beside};
use crate::image::{self, CreateOptions};
use crate::process::Process;
use crate::remote::{Access, RemoteOpener};
use crate::source::BaseSource;
use crate::storage::{FileStorage, Storage as _};
use crate::url::is_url;

/// The base of a new image, named by the user.
#[derive(Clone, Debug)]
pub struct Backing {
    /// The name that goes into the header: a path or a URL. A relative name is relative to the directory of the
    /// image.
    pub name: OsString,
    /// `raw`, `qcow2` or `fvd`. `None`: the format is detected, now and at every open.
    pub format: Option<String>,
    /// Do not open the base (`-u`). It is assumed to be as large as the image.
    pub unchecked: bool,
}

/// The parameters of a new image.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    /// The file to create. An existing file is overwritten. This fails if another process uses it.
    pub path: PathBuf,
    /// Size of the disk in bytes. `None`: the size of the base.
    pub size: Option<u64>,
    /// The base image, if any.
    pub backing: Option<Backing>,
    /// All other options. Their size, base and base format are set from the fields above.
    pub options: CreateOptions,
    /// Decides which files the base, in turn, may name.
    pub gate: Gate,
    /// Opens the files that URLs name. None: URLs are refused.
    pub remote: Option<Arc<dyn RemoteOpener>>,
    /// Allow to overwrite a data file that is not empty.
    pub force: bool,
}

/// Creates the image and, if one is named, its data file. Returns the header.
///
/// All checks are made before an existing file is changed. After a failure, files that this call created are
/// removed.
pub async fn create(request: &CreateRequest) -> Result<Header> {
    request.new_files().check()?;
    let Planned { options, base, profile } = planned(request).await?;
    options.header().map_err(|error| error.with_path(&request.path))?;
    let data_path = data_path(request);
    let new = RemoveOnDrop::new([Some(request.path.as_path()), data_path.as_deref()]);
    // Lock both files before either is emptied.
    let file = FileStorage::claim(&request.path, false)?;
    let data = data_path.map(|path| FileStorage::claim(path, false)).transpose()?;
    for storage in [Some(&file), data.as_ref()].into_iter().flatten() {
        storage.empty()?;
    }
    let header = image::create(&file, data.as_ref(), &options, base.as_ref().map(|base| &*base.source)).await?;
    if !profile.is_empty() {
        store_ranges(&file, &profile).await?;
    }
    new.keep();
    Ok(header)
}

/// The header of the image that [`create`] would make. Changes nothing; the path of the image only says which
/// base a relative name means.
pub async fn plan(request: &CreateRequest) -> Result<Header> {
    planned(request).await?.options.header()
}

/// An image that can be created.
struct Planned {
    options: CreateOptions,
    base: Option<NewBase>,
    /// The ranges of the boot profile that the image gets.
    profile: Vec<Range<u64>>,
}

async fn planned(request: &CreateRequest) -> Result<Planned> {
    let base = open_backing(request).await?;
    let mut options = complete(request, base.as_ref())?;
    let profile = boot_profile(&mut options, base.as_ref()).await;
    Ok(Planned { options, base, profile })
}

/// The boot profile that was published with the base, unless the user has decided otherwise. Makes room for it,
/// and has it used.
async fn boot_profile(options: &mut CreateOptions, base: Option<&NewBase>) -> Vec<Range<u64>> {
    let is_decided = options.generate_prefetch_profile || options.layout.prefetch_profile_size == Some(0);
    let remote = base.and_then(|base| base.remote.as_ref());
    let Some(remote) = remote.filter(|_| !is_decided && options.layout.base_size != Some(0)) else {
        return Vec::new();
    };
    let ranges = remote.boot_profile().await.unwrap_or_default();
    if !ranges.is_empty() {
        let needed = ranges.len() as u64 * profile::ENTRY_SIZE;
        let room = needed.clamp(profile::DEFAULT_SIZE, profile::MAX_SIZE);
        options.layout.prefetch_profile_size.get_or_insert(room);
        options.profile_directed_prefetch_start_delay.get_or_insert(0);
    }
    ranges
}

/// Creates an empty raw disk of `request.size` bytes, rounded up to whole sectors. Returns the rounded size.
pub async fn create_raw(request: &CreateRequest) -> Result<u64> {
    if request.backing.is_some() {
        return Err(Error::invalid_argument(
            "Backing file not supported for file format 'raw'",
        ));
    }
    let size = complete(request, None)?.layout.virtual_size;
    let size = size
        .checked_next_multiple_of(SECTOR)
        .filter(|&size| i64::try_from(size).is_ok());
    let size = size.ok_or_else(|| Error::invalid_argument("The size is more than a file can have"))?;
    let new = RemoveOnDrop::new([Some(request.path.as_path())]);
    let file = FileStorage::create(&request.path, false)?;
    if file.can_resize() {
        file.set_len(size).await?;
    } else if file.len().await? < size {
        return Err(Error::invalid_argument("The device is smaller than the disk is to be").with_path(&request.path));
    }
    new.keep();
    Ok(size)
}

async fn open_backing(request: &CreateRequest) -> Result<Option<NewBase>> {
    let Some(backing) = request.backing.as_ref().filter(|backing| !backing.unchecked) else {
        return Ok(None);
    };
    let path = beside(&request.path, &backing.name);
    let options = ChainOptions {
        gate: request.gate.clone(),
        remote: request.remote.clone(),
        ..ChainOptions::default()
    };
    let base = chain::open_new_base(&path, backing.format.as_deref(), files_of(&request.options), &options).await?;
    Ok(Some(base))
}

/// Number of files of an image with these options: 1, or 2 with a data file.
pub(super) fn files_of(options: &CreateOptions) -> usize {
    1 + usize::from(!options.data_file.is_empty())
}

/// The options with size and base filled in.
fn complete(request: &CreateRequest, base: Option<&NewBase>) -> Result<CreateOptions> {
    let pin = base.and_then(NewBase::pin);
    let base = base.map(|base| &*base.source);
    let mut options = request.options.clone();
    let size = request.size.or(base.map(|base| base.len().next_multiple_of(SECTOR)));
    let size = size.ok_or_else(|| Error::invalid_argument("Image creation needs a size parameter"))?;
    options.layout.virtual_size = size;
    if let Some(backing) = &request.backing {
        options.layout.base_size = Some(base.map_or(size, BaseSource::len));
        options.base_img.clone_from(&backing.name);
        options.base_pin = pin;
        options.base_img_fmt = backing.format.clone().unwrap_or_default();
        if options.write_updates_base_img != BaseUpdate::No {
            options.base_img_fmt = written_format(backing, base)?;
        }
    }
    Ok(options)
}

/// The format of a base to which guest writes go. It is stored in the header and not detected at every open:
/// a guest that writes to a raw base could otherwise change the detected format.
fn written_format(backing: &Backing, base: Option<&dyn BaseSource>) -> Result<String> {
    if is_url(&backing.name) {
        let message = "write_updates_base_img: the backing file is on another machine, and nothing is written there";
        return Err(Error::invalid_argument(message));
    }
    let format = backing.format.as_deref().or(base.map(BaseSource::format));
    let Some(format) = format else {
        return Err(Error::invalid_argument(
            "write_updates_base_img needs the format of the backing file (backing_fmt)",
        ));
    };
    chain::check_writable_format(format)?;
    Ok(format.to_owned())
}

fn data_path(request: &CreateRequest) -> Option<PathBuf> {
    let name = &request.options.data_file;
    (!name.is_empty()).then(|| beside(&request.path, name))
}

impl CreateRequest {
    fn new_files(&self) -> NewFiles<'_> {
        let base = self.backing.as_ref();
        NewFiles {
            image: &self.path,
            data_file: &self.options.data_file,
            base: base.map(|base| (base.name.as_os_str(), base.format.as_deref())),
            access: Access {
                gate: &self.gate,
                remote: self.remote.as_ref(),
            },
            force: self.force,
        }
    }
}

/// Files that did not exist before. Removes them on drop unless [`keep`](Self::keep) is called.
struct RemoveOnDrop {
    paths: Vec<PathBuf>,
    /// The process that created them. A forked child must not remove them.
    process: Process,
}

impl RemoveOnDrop {
    fn new<const N: usize>(paths: [Option<&Path>; N]) -> Self {
        let missing = |path: &&Path| fs::symlink_metadata(path).is_err();
        let paths = paths.into_iter().flatten().filter(missing);
        Self {
            paths: paths.map(Path::to_owned).collect(),
            process: Process::current(),
        }
    }

    fn keep(mut self) {
        self.paths.clear();
    }
}

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        if !self.process.is_current() {
            return;
        }
        for path in &self.paths {
            // The file may not have been created. Other errors cannot be reported here.
            let _ = fs::remove_file(path);
        }
    }
}
