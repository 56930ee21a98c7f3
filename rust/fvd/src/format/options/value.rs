//! The value of an option, and the fields that it can be stored in.

use std::ffi::OsString;
use std::fmt;

use crate::format::BaseUpdate;

/// The value of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// On or off.
    Bool(bool),
    /// A number, in the unit of its option.
    Int(i64),
    /// A number beyond those of `Int`, in decimal: no option accepts it.
    Beyond(String),
    /// A keyword or a file name.
    Text(OsString),
}

impl Value {
    /// Stores the value in `field`, or returns false if the field cannot hold it.
    pub(super) fn store<T: FromValue>(&self, field: &mut T) -> bool {
        let value = T::from_value(self);
        let fits = value.is_some();
        if let Some(value) = value {
            *field = value;
        }
        fits
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(on) => f.write_str(if *on { "on" } else { "off" }),
            Self::Int(number) => number.fmt(f),
            Self::Beyond(digits) => f.write_str(digits),
            Self::Text(text) => write!(f, "'{}'", text.display()),
        }
    }
}

/// The type of a field that an option is stored in.
pub(super) trait FromValue: Sized {
    /// `value` in this type. `None` if it has another type or is out of range.
    fn from_value(value: &Value) -> Option<Self>;
}

/// Says for each type which values it can hold, and how.
macro_rules! from_value {
    ($($type:ty: $pattern:pat => $converted:expr;)+) => {
        $( impl FromValue for $type {
            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    $pattern => $converted,
                    _ => None,
                }
            }
        } )+
    };
}

from_value! {
    bool: Value::Bool(on) => Some(*on);
    i32: Value::Int(number) => (*number).try_into().ok();
    i64: Value::Int(number) => Some(*number);
    u64: Value::Int(number) => (*number).try_into().ok();
    OsString: Value::Text(text) => Some(text.clone());
    String: Value::Text(text) => text.to_str().map(str::to_owned);
    BaseUpdate: Value::Text(text) => text.to_str().and_then(BaseUpdate::from_name);
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Option<Self> {
        T::from_value(value).map(Some)
    }
}
