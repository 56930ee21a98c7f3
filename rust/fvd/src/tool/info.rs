//! Information about disks, by path.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::chain::{self, ChainOptions, OpenedFile};
use crate::error::{Error, Result};
use crate::format::StoredPin;
use crate::gate::{Named, beside};
use crate::image::info::{self, Info};
use crate::source::qcow2::{Bitmap, Snapshot, bitmaps, snapshots};
use crate::source::{Qcow2Header, foreign, probe_file};
use crate::storage::Storage as _;

/// The base image that a disk names.
#[derive(Clone, Debug)]
pub struct NamedBacking {
    /// The name as stored in the image.
    pub name: OsString,
    /// The name resolved against the directory of the image. The file is neither opened nor checked.
    pub path: PathBuf,
    /// Its format. `None` if the image does not store it.
    pub format: Option<String>,
    /// Which object it is, if it is a file on another machine that was pinned.
    pub pin: Option<StoredPin>,
}

/// Information about one disk.
#[derive(Clone, Debug)]
pub struct DiskInfo {
    /// The path as given by the user or by the image that names this disk as its base.
    pub path: PathBuf,
    /// `fvd`, `qcow2`, `raw`, or a known format that fvd cannot read.
    pub format: &'static str,
    /// Size of the disk in bytes. `None` if fvd cannot read the format.
    pub virtual_size: Option<u64>,
    /// Bytes that the file occupies on its file system. `None` for a file on another machine.
    pub actual_size: Option<u64>,
    /// Bytes of a cluster or chunk. `None` if the format has none.
    pub cluster_size: Option<u64>,
    /// The base image. `None` if the disk does not need one, or does not need it any more.
    pub backing: Option<NamedBacking>,
    /// Details of an FVD image.
    pub fvd: Option<Info>,
    /// Details of a qcow2 image.
    pub qcow2: Option<Qcow2Info>,
}

/// The metadata of a qcow2 image. Also available if fvd does not support all features of the image.
#[derive(Clone, Debug)]
pub struct Qcow2Info {
    /// The header, with its extensions.
    pub header: Qcow2Header,
    /// The internal snapshots.
    pub snapshots: Vec<Snapshot>,
    /// The persistent bitmaps that are up to date.
    pub bitmaps: Vec<Bitmap>,
}

/// Reads the information about the disk at `path`, which may be a URL. Of `options`, the locks count, and those
/// about the files that images name.
///
/// With `backing_chain` the result also contains all disks of the backing chain, from top to bottom. Without
/// it, no file that the image names is opened.
pub async fn info(
    path: &Path,
    format: Option<&str>,
    backing_chain: bool,
    options: &ChainOptions,
) -> Result<Vec<DiskInfo>> {
    let mut chain = Vec::new();
    let options = ChainOptions {
        writable: false,
        ..options.clone()
    };
    let collected = collect_chain(path, format, backing_chain, &options, &mut chain).await;
    match collected {
        Ok(()) => Ok(chain),
        // Add the names of all disks above the one that failed.
        Err(error) => Err(chain.iter().rev().fold(error, |error, disk| disk.base_failure(error))),
    }
}

/// Like [`info`], but adds the disks to `chain`, so that the caller has them also if a lower one fails.
async fn collect_chain(
    path: &Path,
    format: Option<&str>,
    backing_chain: bool,
    options: &ChainOptions,
    chain: &mut Vec<DiskInfo>,
) -> Result<()> {
    let mut seen = Vec::new();
    let mut next = Some((chain::open_any(path, options)?, format.map(str::to_owned)));
    while let Some((storage, format)) = next.take() {
        if seen.contains(&storage.identity()) {
            let message = "The file is part of its own backing chain";
            return Err(Error::invalid_image(message).with_path(storage.path()));
        }
        seen.push(storage.identity());
        let disk = look(&storage, format.as_deref()).await?;
        let backing = disk.backing.clone();
        chain.push(disk);
        if let Some(backing) = backing.filter(|_| backing_chain) {
            let below = chain::open_below(storage.path(), &backing.name, backing.pin.as_ref(), options)?;
            next = Some((below, backing.format));
        }
    }
    Ok(())
}

impl DiskInfo {
    /// Whether the image was not closed, or a process has it open for writing.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        let qcow2 = self.qcow2.as_ref().is_some_and(|info| info.header.features.is_dirty());
        qcow2 || self.fvd.as_ref().is_some_and(|info| info.dirty)
    }

    /// Converts an error of the backing file to an error that also names this disk.
    fn base_failure(&self, error: Error) -> Error {
        match &self.backing {
            Some(backing) => {
                let named = Named::base(&self.path, &backing.name);
                let is_fvd = self.format == "fvd";
                let named = if is_fvd { named.amendable("backing_file") } else { named };
                named.failure(error)
            }
            None => error,
        }
    }
}

async fn look(storage: &OpenedFile, format: Option<&str>) -> Result<DiskInfo> {
    let path = storage.path();
    let format = match format {
        Some(format) => chain::known_format(format).map_err(|error| error.with_path(path))?,
        None => probe_file(storage)?,
    };
    let mut disk = DiskInfo {
        path: path.to_owned(),
        format,
        virtual_size: None,
        actual_size: storage.allocated_bytes()?,
        cluster_size: None,
        backing: None,
        fvd: None,
        qcow2: None,
    };
    match format {
        "fvd" => look_at_fvd(storage, &mut disk).await?,
        "qcow2" => look_at_qcow2(storage, &mut disk)?,
        _ if foreign(format).is_some() => {}
        _ => disk.virtual_size = Some(storage.len().await?),
    }
    Ok(disk)
}

async fn look_at_fvd(storage: &OpenedFile, disk: &mut DiskInfo) -> Result<()> {
    let info = info::info(storage).await?;
    disk.virtual_size = Some(info.virtual_size);
    disk.cluster_size = info.chunk_size.filter(|_| info.compact);
    let base = info.base.as_ref().filter(|_| !info.all_local);
    disk.backing = base.map(|base| NamedBacking {
        pin: info.base_pin.clone(),
        ..backing(&disk.path, &base.name, base.format.clone())
    });
    disk.fvd = Some(info);
    Ok(())
}

fn look_at_qcow2(storage: &OpenedFile, disk: &mut DiskInfo) -> Result<()> {
    let header = Qcow2Header::read(storage)?;
    disk.virtual_size = Some(header.virtual_size);
    disk.cluster_size = Some(header.cluster_size);
    let format = header.backing_format.as_deref();
    let format = format.map(|format| String::from_utf8_lossy(format).into_owned());
    let name = header.backing_file.clone().map(OsString::from_vec);
    disk.backing = name.map(|name| backing(&disk.path, &name, format));
    disk.qcow2 = Some(Qcow2Info {
        snapshots: snapshots(storage, &header)?,
        bitmaps: bitmaps(storage, &header)?,
        header,
    });
    Ok(())
}

fn backing(image: &Path, name: &OsStr, format: Option<String>) -> NamedBacking {
    NamedBacking {
        name: name.to_owned(),
        path: beside(image, name),
        format,
        pin: None,
    }
}
