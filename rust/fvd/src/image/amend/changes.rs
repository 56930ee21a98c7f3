//! The changes that a caller requests. Each one is checked when it is added, and all of them together against
//! the image.

use std::ffi::{OsStr, OsString};

use super::attribute::{ATTRIBUTES, Attribute, Kind};
use crate::error::{Error, Result};
use crate::format::{Header, SECTOR};

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// On or off.
    Bool(bool),
    /// A number, in the unit of its field.
    Int(i64),
    /// A keyword or a file name.
    Text(OsString),
}

/// The requested changes of an image.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    size: Option<u64>,
    clean: Option<bool>,
    /// Index into [`ATTRIBUTES`] and new value. The value has the right kind and is in range.
    fields: Vec<(usize, Value)>,
    /// Whether the disk may become smaller.
    shrink: bool,
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

    /// Adds a change of the attribute `name`: `size` (in bytes, rounded up to a multiple of 512), or the name
    /// of a header field that can be amended. If one attribute is set twice, the last value is used.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument), naming the attribute, if it is unknown or
    /// cannot be changed, or if the value has the wrong type or is out of range.
    pub fn set(&mut self, name: &str, value: Value) -> Result<()> {
        match (name, value) {
            ("size", Value::Int(size)) => self.size = Some(whole_sectors(size)?),
            ("clean_shutdown", Value::Bool(clean)) => self.clean = Some(clean),
            ("size", value) => return Err(refuse(name, "a size", &value)),
            ("clean_shutdown", value) => return Err(refuse(name, "'on' or 'off'", &value)),
            (name, value) => {
                let number = ATTRIBUTES.iter().position(|attribute| attribute.name == name);
                let number = number.ok_or_else(|| Error::invalid_argument(format!("Invalid parameter '{name}'")))?;
                check(&ATTRIBUTES[number], &value)?;
                self.fields.push((number, value));
            }
        }
        Ok(())
    }

    /// The new value of the field `name`, which must be a keyword or a file name. `None` if it does not
    /// change.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&OsStr> {
        let mut of_name = self
            .fields
            .iter()
            .rev()
            .filter(|(number, _)| ATTRIBUTES[*number].name == name);
        match of_name.next() {
            Some((_, Value::Text(text))) => Some(text),
            _ => None,
        }
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
        self.clean == Some(false)
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
        new.clean_shutdown = !self.unclean();
        for (number, value) in &self.fields {
            set(&ATTRIBUTES[*number], &mut new, value.clone());
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
        let of_base = self.fields.iter().filter(|(number, _)| ATTRIBUTES[*number].of_base);
        for (number, value) in of_base {
            let attribute = &ATTRIBUTES[*number];
            let mut changed = old.clone();
            set(attribute, &mut changed, value.clone());
            if changed != *old {
                let name = attribute.name;
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

fn check(attribute: &Attribute, value: &Value) -> Result<()> {
    let expected = match (attribute.kind, value) {
        (Kind::Flag(_), Value::Bool(_)) | (Kind::Name(_), Value::Text(_)) => return Ok(()),
        (Kind::Number { least, most, .. }, Value::Int(number)) if (least..=most).contains(number) => return Ok(()),
        (Kind::Word(words, _), Value::Text(text)) if words.iter().any(|word| text == word) => return Ok(()),
        (Kind::Flag(_), _) => "'on' or 'off'".to_owned(),
        (Kind::Name(_), _) => "a name".to_owned(),
        (Kind::Number { least, most, .. }, _) => format!("a number from {least} to {most}"),
        (Kind::Word(words, _), _) => {
            let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
            format!("one of {}", words.join(", "))
        }
    };
    Err(refuse(attribute.name, &expected, value))
}

fn set(attribute: &Attribute, header: &mut Header, value: Value) {
    match (attribute.kind, value) {
        (Kind::Flag(set), Value::Bool(on)) => set(header, on),
        (Kind::Number { set, .. }, Value::Int(number)) => set(header, number),
        (Kind::Word(_, set), Value::Text(word)) => set(header, word.to_string_lossy().into_owned()),
        (Kind::Name(set), Value::Text(name)) => set(header, name),
        _ => unreachable!("the value was checked when it was added"),
    }
}

fn refuse(name: &str, expected: &str, value: &Value) -> Error {
    let value = match value {
        Value::Bool(true) => "on".to_owned(),
        Value::Bool(false) => "off".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Text(text) => format!("'{}'", text.display()),
    };
    Error::invalid_argument(format!("Parameter '{name}' expects {expected}, not {value}"))
}
