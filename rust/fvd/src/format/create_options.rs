//! The values that are chosen for a new image. `options/table.rs` declares the options, with their help.

use std::ffi::OsString;

use super::options::{self, Value};
use super::{BaseUpdate, LayoutOptions, StoredPin};
use crate::error::Result;

/// Options of a new image.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// Sizes. The caller sets `base_size` from the base.
    pub layout: LayoutOptions,
    /// Name of the base as it is stored in the header; empty: no base.
    pub base_img: OsString,
    /// Format of the base; empty: it is detected at open.
    pub base_img_fmt: String,
    /// Which object the base is, if it is a file on another machine.
    pub base_pin: Option<StoredPin>,
    /// Name of the separate data file as it is stored in the header; empty: none.
    pub data_file: OsString,
    /// Format of the data file: empty or `raw`.
    pub data_file_fmt: String,
    /// Command with which the original grew the storage. It is stored, and never run.
    pub add_storage_cmd: OsString,
    /// Store data that is read from the base.
    pub copy_on_read: bool,
    /// Seconds from an open until prefetch of the whole base starts; None, 0 or less: never.
    pub prefetch_start_delay: Option<i32>,
    /// Whether the first session records a prefetch profile: what it needs of the base.
    pub generate_prefetch_profile: bool,
    /// Seconds from an open until what the profile names is fetched; None or negative: never.
    pub profile_directed_prefetch_start_delay: Option<i32>,
    /// What a write does to the base.
    pub write_updates_base_img: BaseUpdate,
    /// Length in bytes of aligned regions of the base. Those that are all zeros are marked local, so that
    /// they are never read from the base. None: the base is not searched.
    pub detect_sparse_hole: Option<u64>,
}

impl CreateOptions {
    /// Sets the option that `create` calls `name`. Whether the values go together is checked by
    /// [`header`](Self::header).
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument), naming the option, if it is unknown, or if
    /// the value has the wrong type or does not fit.
    pub fn set(&mut self, name: &str, value: &Value) -> Result<()> {
        let of_name = options::of_create().find(|(_, create)| create.name == name);
        let Some((option, Some(set))) = of_name.map(|(option, create)| (option, create.set)) else {
            return Err(options::unknown(name));
        };
        if set(self, value) {
            Ok(())
        } else {
            Err(option.refuse(name, value))
        }
    }
}
