//! Conversion of one header field to and from its bytes.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use zerocopy::little_endian::{I32, I64};

use crate::error::{Error, Result};

/// The value of a header field, for display and for comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue {
    /// A number, in the unit of its field.
    Int(i64),
    /// A boolean.
    Bool(bool),
    /// A string. Bytes that are not UTF-8 are replaced by U+FFFD.
    Text(String),
}

/// A type in memory that is stored on disk as a `Disk`.
pub(super) trait Field<Disk>: Sized {
    /// The value of the field. `name` is the name of the field in errors.
    fn decode(disk: &Disk, name: &str) -> Result<Self>;

    /// The bytes of the field. `name` is the name of the field in errors.
    fn encode(&self, name: &str) -> Result<Disk>;
}

/// A type in memory that can be displayed.
pub(super) trait Dump {
    /// The value as [`FieldValue`].
    fn dump(&self) -> FieldValue;
}

impl Field<I32> for bool {
    fn decode(disk: &I32, _name: &str) -> Result<Self> {
        Ok(disk.get() != 0)
    }

    fn encode(&self, _name: &str) -> Result<I32> {
        Ok(I32::new(i32::from(*self)))
    }
}

impl Field<I32> for i32 {
    fn decode(disk: &I32, _name: &str) -> Result<Self> {
        Ok(disk.get())
    }

    fn encode(&self, _name: &str) -> Result<I32> {
        Ok(I32::new(*self))
    }
}

impl Field<I64> for i64 {
    fn decode(disk: &I64, _name: &str) -> Result<Self> {
        Ok(disk.get())
    }

    fn encode(&self, _name: &str) -> Result<I64> {
        Ok(I64::new(*self))
    }
}

impl Field<I32> for u64 {
    fn decode(disk: &I32, name: &str) -> Result<Self> {
        Self::try_from(disk.get()).map_err(|_| negative(name, disk))
    }

    fn encode(&self, name: &str) -> Result<I32> {
        i32::try_from(*self).map(I32::new).map_err(|_| too_large(name, *self))
    }
}

impl Field<I64> for u64 {
    fn decode(disk: &I64, name: &str) -> Result<Self> {
        Self::try_from(disk.get()).map_err(|_| negative(name, disk))
    }

    fn encode(&self, name: &str) -> Result<I64> {
        i64::try_from(*self).map(I64::new).map_err(|_| too_large(name, *self))
    }
}

impl<const N: usize> Field<[u8; N]> for OsString {
    fn decode(disk: &[u8; N], name: &str) -> Result<Self> {
        Ok(Self::from_vec(until_nul(disk, name)?.to_vec()))
    }

    fn encode(&self, name: &str) -> Result<[u8; N]> {
        nul_padded(self.as_bytes(), name)
    }
}

impl<const N: usize> Field<[u8; N]> for String {
    fn decode(disk: &[u8; N], name: &str) -> Result<Self> {
        let bytes = until_nul(disk, name)?;
        match str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Error::invalid_image(format!(
                "Invalid header: {name} is \"{}\", not UTF-8",
                bytes.escape_ascii()
            ))),
        }
    }

    fn encode(&self, name: &str) -> Result<[u8; N]> {
        nul_padded(self.as_bytes(), name)
    }
}

fn until_nul<'a>(bytes: &'a [u8], name: &str) -> Result<&'a [u8]> {
    match bytes.iter().position(|&byte| byte == 0) {
        Some(end) => Ok(&bytes[..end]),
        None => Err(Error::invalid_image(format!(
            "Invalid header: {name} does not end within its {} bytes: \"{}\"...",
            bytes.len(),
            bytes[..bytes.len().min(32)].escape_ascii()
        ))),
    }
}

fn nul_padded<const N: usize>(text: &[u8], name: &str) -> Result<[u8; N]> {
    if text.len() >= N {
        return Err(Error::invalid_argument(format!(
            "{name} has {} bytes, an image has room for {}",
            text.len(),
            N - 1
        )));
    }
    if text.contains(&0) {
        return Err(Error::invalid_argument(format!(
            "{name} is \"{}\": a NUL cannot be stored",
            text.escape_ascii()
        )));
    }
    let mut bytes = [0; N];
    bytes[..text.len()].copy_from_slice(text);
    Ok(bytes)
}

fn negative(name: &str, value: impl fmt::Display) -> Error {
    Error::invalid_image(format!("Invalid header: {name} is {value}, a negative number"))
}

fn too_large(name: &str, value: u64) -> Error {
    Error::invalid_argument(format!("{name} is {value}, too large for the format"))
}

impl Dump for bool {
    fn dump(&self) -> FieldValue {
        FieldValue::Bool(*self)
    }
}

impl Dump for i32 {
    fn dump(&self) -> FieldValue {
        FieldValue::Int(i64::from(*self))
    }
}

impl Dump for i64 {
    fn dump(&self) -> FieldValue {
        FieldValue::Int(*self)
    }
}

impl Dump for u64 {
    /// A value that no image can store is shown as the largest one that an image can store.
    fn dump(&self) -> FieldValue {
        FieldValue::Int(i64::try_from(*self).unwrap_or(i64::MAX))
    }
}

impl Dump for OsString {
    fn dump(&self) -> FieldValue {
        FieldValue::Text(self.to_string_lossy().into_owned())
    }
}

impl Dump for String {
    fn dump(&self) -> FieldValue {
        FieldValue::Text(self.clone())
    }
}
