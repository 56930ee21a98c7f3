//! The changes that a caller requests. Each one is checked when it is added, and all of them together against
//! the image.

use std::ffi::OsStr;

use crate::error::{Error, Result};
use crate::format::options::{self, FormatOption, Set, Value};
use crate::format::{Header, SECTOR, StoredPin};

/// The requested changes of an image.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    size: Option<u64>,
    fields: Vec<Change>,
    /// Whether the disk may become smaller.
    shrink: bool,
    /// Whether the user accepts the object that the base is now.
    updates_pin: bool,
    /// The pin of the base after the changes.
    pin: Option<StoredPin>,
}

/// The new value of a header field, which has the right type and is in range.
#[derive(Clone, Debug)]
struct Change {
    option: &'static FormatOption,
    name: &'static str,
    set: Set<Header>,
    value: Value,
}

impl Change {
    fn apply(&self, header: &mut Header) {
        let stored = (self.set)(header, &self.value);
        debug_assert!(stored, "the value was checked when it was added");
    }
}

impl Changes {
    /// No changes. `shrink` allows a smaller size, which deletes the data after the new end.
    #[must_use]
    pub fn new(shrink: bool) -> Self {
        Self {
            shrink,
            ..Self::default()
        }
    }

    /// Adds a change of the attribute `name`: `size` (in bytes, rounded up to a multiple of 512), `backing_pin`
    /// (`update`), or the name of a header field that can be amended. If one attribute is set twice, the last value is used.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument), naming the attribute, if it is unknown or
    /// cannot be changed, or if the value has the wrong type or is out of range.
    pub fn set(&mut self, name: &str, value: Value) -> Result<()> {
        let (option, amend) = options::of_amend()
            .find(|(_, amend)| amend.name == name)
            .ok_or_else(|| options::unknown(name))?;
        match (amend.set, &value) {
            (None, Value::Int(size)) => self.size = Some(whole_sectors(*size)?),
            (None, Value::Text(_)) if option.accepts(&value) => self.updates_pin = true,
            (Some(set), _) if option.accepts(&value) => self.fields.push(Change {
                option,
                name: amend.name,
                set,
                value,
            }),
            _ => return Err(option.refuse(name, &value)),
        }
        Ok(())
    }

    /// The new value of the field `name`, which must be a keyword or a file name. `None` if it does not
    /// change.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&OsStr> {
        match self.last(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn last(&self, name: &str) -> Option<&Value> {
        let mut of_name = self.fields.iter().rev().filter(|change| change.name == name);
        of_name.next().map(|change| &change.value)
    }

    /// Whether the user accepts the object that the base is now.
    #[must_use]
    pub fn updates_pin(&self) -> bool {
        self.updates_pin
    }

    /// Sets the pin of the base after the changes.
    pub fn set_pin(&mut self, pin: StoredPin) {
        self.pin = Some(pin);
    }

    pub(super) fn pin(&self) -> Option<&StoredPin> {
        self.pin.as_ref()
    }

    /// The requested size of the disk, in bytes.
    pub(super) fn size(&self) -> Option<u64> {
        self.size
    }

    /// Whether the disk may become smaller.
    pub(super) fn may_shrink(&self) -> bool {
        self.shrink
    }

    /// Whether the image must be marked unclean.
    pub(super) fn unclean(&self) -> bool {
        self.last("clean_shutdown") == Some(&Value::Bool(false))
    }

    /// The header `old` with all changes except that of the size. Without a request to the contrary it is
    /// marked clean.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if an attribute does not apply to the image, or
    /// if a name is too long or not allowed.
    pub(super) fn apply(&self, old: &Header) -> Result<Header> {
        let mut new = old.clone();
        new.clean_shutdown = true;
        for change in &self.fields {
            change.apply(&mut new);
        }
        // Round these up to whole units, as at creation.
        if new.bytes_per_prefetch != old.bytes_per_prefetch {
            new.bytes_per_prefetch = whole_blocks(&new)?;
        }
        if new.compact_image {
            new.storage_grow_unit = new.storage_grow_unit.max(new.chunk_size);
        }
        super::names::check(old, &new)?;
        if new.base_img.is_empty() {
            self.check_of_base(old)?;
        }
        new.encode()?;
        Ok(new)
    }

    /// Refuses changes of attributes that need a base. A value that equals the present one is accepted.
    fn check_of_base(&self, old: &Header) -> Result<()> {
        for change in self.fields.iter().filter(|change| change.option.of_base) {
            let mut changed = old.clone();
            change.apply(&mut changed);
            if changed != *old {
                let name = change.name;
                return Err(Error::invalid_argument(format!("{name} needs a backing file")));
            }
        }
        Ok(())
    }
}

/// `size` rounded up to whole sectors.
fn whole_sectors(size: i64) -> Result<u64> {
    let rounded = u64::try_from(size)
        .ok()
        .and_then(|size| size.checked_next_multiple_of(SECTOR));
    let rounded = rounded.filter(|size| i64::try_from(*size).is_ok());
    rounded.ok_or_else(|| Error::invalid_argument(format!("size is {size}, it must be from 0 to 2^63 - 512")))
}

/// `bytes_per_prefetch` rounded up to whole blocks.
fn whole_blocks(header: &Header) -> Result<i32> {
    let bytes = u64::from(header.bytes_per_prefetch.unsigned_abs());
    let rounded = bytes.next_multiple_of(header.block_size.max(1));
    i32::try_from(rounded).map_err(|_| {
        Error::invalid_argument(format!(
            "bytes_per_prefetch is {bytes}, rounded up to whole blocks of {} more than {}",
            header.block_size,
            i32::MAX
        ))
    })
}
