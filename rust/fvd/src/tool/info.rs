//! What disks say of themselves, by path.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::chain;
use crate::error::{Error, Result};
use crate::gate::{Gate, Named, beside};
use crate::image::info::{self, Info};
use crate::source::qcow2::{Bitmap, Snapshot, bitmaps, snapshots};
use crate::source::{Qcow2Header, foreign, probe_file};
use crate::storage::{FileOptions, FileStorage, LockMode, Storage as _};

/// The base that a disk names.
#[derive(Clone, Debug)]
pub struct NamedBacking {
    /// As it stands in the image.
    pub name: OsString,
    /// Relative to the directory of the image, neither opened nor checked.
    pub path: PathBuf,
    /// Its format; None: the image does not say.
    pub format: Option<String>,
}

/// One disk.
#[derive(Clone, Debug)]
pub struct DiskInfo {
    /// As the user, or the image above, named it.
    pub path: PathBuf,
    /// `fvd`, `qcow2` or `raw`, or a format that is known and not read.
    pub format: &'static str,
    /// Bytes; None: the format is not read.
    pub virtual_size: Option<u64>,
    /// Bytes that the file takes on its file system.
    pub actual_size: u64,
    /// Bytes per unit of allocation, where the format has one.
    pub cluster_size: Option<u64>,
    /// The base, while the disk needs one.
    pub backing: Option<NamedBacking>,
    /// What only FVD images have.
    pub fvd: Option<Info>,
    /// What only qcow2 images have.
    pub qcow2: Option<Qcow2Info>,
}

/// What a qcow2 image says of itself, whether or not it can be read.
#[derive(Clone, Debug)]
pub struct Qcow2Info {
    /// Its header, with the extensions.
    pub header: Qcow2Header,
    /// Snapshots inside the image.
    pub snapshots: Vec<Snapshot>,
    /// Bitmaps that are up to date.
    pub bitmaps: Vec<Bitmap>,
}

/// Looks at the disk at `path`; with `backing_chain` at all those below it as well, the last base
/// last. Only then is something opened that an image names.
pub async fn info(
    path: &Path,
    format: Option<&str>,
    force_share: bool,
    backing_chain: Option<&Gate>,
) -> Result<Vec<DiskInfo>> {
    let mut chain = Vec::new();
    let looked = look_down(path, format, force_share, backing_chain, &mut chain).await;
    match looked {
        Ok(()) => Ok(chain),
        // All that were looked at led to the one that failed.
        Err(error) => Err(chain.iter().rev().fold(error, |error, disk| disk.led_to(error))),
    }
}

/// As [`info`], which is told of the disks in `chain` also where one below them fails.
async fn look_down(
    path: &Path,
    format: Option<&str>,
    force_share: bool,
    backing_chain: Option<&Gate>,
    chain: &mut Vec<DiskInfo>,
) -> Result<()> {
    let lock = if force_share { LockMode::None } else { LockMode::Shared };
    let mut seen = Vec::new();
    let options = FileOptions {
        lock,
        ..FileOptions::default()
    };
    let mut next = Some((FileStorage::open(path, &options)?, format.map(str::to_owned)));
    while let Some((storage, format)) = next.take() {
        if seen.contains(&storage.identity()) {
            let message = "The file is part of its own backing chain";
            return Err(Error::invalid_image(message).with_path(storage.path()));
        }
        seen.push(storage.identity());
        let disk = look(&storage, format.as_deref()).await?;
        let backing = disk.backing.clone();
        chain.push(disk);
        if let (Some(gate), Some(backing)) = (backing_chain, backing) {
            let below = gate.open(storage.path(), &backing.name, &options)?;
            next = Some((below, backing.format));
        }
    }
    Ok(())
}

impl DiskInfo {
    /// The image was not closed, or is open for writing somewhere.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        let qcow2 = self.qcow2.as_ref().is_some_and(|info| info.header.features.is_dirty());
        qcow2 || self.fvd.as_ref().is_some_and(|info| info.dirty)
    }

    /// The error of this disk for one of its backing file.
    fn led_to(&self, error: Error) -> Error {
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

async fn look(storage: &FileStorage, format: Option<&str>) -> Result<DiskInfo> {
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

async fn look_at_fvd(storage: &FileStorage, disk: &mut DiskInfo) -> Result<()> {
    let info = info::info(storage).await?;
    disk.virtual_size = Some(info.virtual_size);
    disk.cluster_size = info.chunk_size.filter(|_| info.compact);
    let base = info.base.as_ref().filter(|_| !info.all_local);
    disk.backing = base.map(|base| backing(&disk.path, &base.name, base.format.clone()));
    disk.fvd = Some(info);
    Ok(())
}

fn look_at_qcow2(storage: &FileStorage, disk: &mut DiskInfo) -> Result<()> {
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
    }
}
