//! One layer of a qcow2 chain.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::File;
use super::header::Header;
use super::tables::{Lookup, Tables};

/// A qcow2 image, or the raw disk at the end of a chain.
pub(super) enum Layer {
    Image(Box<Image>),
    Raw {
        file: File,
        /// Length of the disk in bytes: that of the file when it was opened, rounded up to whole sectors as
        /// in QEMU.
        len: u64,
    },
}

/// A qcow2 image.
pub(super) struct Image {
    pub(super) header: Header,
    pub(super) file: File,
    /// The external data file.
    pub(super) data: Option<File>,
}

impl Layer {
    /// Length of the disk in bytes.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Image(image) => image.header.virtual_size,
            Self::Raw { len, .. } => *len,
        }
    }

    /// Its files, the one with the metadata first.
    pub(super) fn files(&self) -> impl Iterator<Item = &File> {
        let (first, second) = match self {
            Self::Image(image) => (&image.file, image.data.as_ref()),
            Self::Raw { file, .. } => (file, None),
        };
        [Some(first), second].into_iter().flatten()
    }

    /// The file with the guest's data.
    pub(super) fn data(&self) -> &File {
        match self {
            Self::Image(image) => image.data.as_ref().unwrap_or(&image.file),
            Self::Raw { file, .. } => file,
        }
    }
}

impl Image {
    pub(super) fn backing_name(&self) -> Option<&OsStr> {
        self.header.backing_file.as_deref().map(OsStr::from_bytes)
    }

    pub(super) fn lookup<'a>(&'a self, tables: &'a Tables, layer: u32) -> Lookup<'a> {
        Lookup {
            header: &self.header,
            file: &self.file,
            has_data_file: self.data.is_some(),
            tables,
            layer,
        }
    }
}
