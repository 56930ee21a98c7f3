//! The options of the format: names, types, ranges, defaults, texts, and where each one is stored.
//!
//! [`OPTIONS`] is the only place that says these things. `create` and `amend`, their help and the Python
//! package use it.

mod table;
#[cfg(test)]
mod tests;
mod value;

pub use table::OPTIONS;
pub use value::Value;

use super::{CreateOptions, Header, PAGE};
use crate::error::Error;

/// The type of an option, with its legal values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On or off.
    Bool,
    /// A number from the first to the second one.
    Number(i64, i64),
    /// A number of bytes, from the first to the second one.
    Size(i64, i64),
    /// A number of bytes; a negative one has a meaning of its own.
    SignedSize,
    /// One of these keywords.
    Word(&'static [&'static str]),
    /// Any text.
    Text,
    /// The name of a file.
    File,
}

/// How one command (`create` or `amend`) offers an option. `T` is the struct that the command fills.
#[derive(Debug)]
pub struct Use<T: 'static> {
    /// The name of the option for this verb.
    pub name: &'static str,
    /// What the option is for.
    pub description: &'static str,
    /// Unit, range and default, with placeholders: see [`FormatOption::limits`].
    limits: &'static str,
    /// Stores a value. `None`: the verb does more with it than to store it.
    pub(crate) set: Option<Set<T>>,
}

/// Stores a value, or returns false if the field cannot hold it.
pub(crate) type Set<T> = fn(&mut T, &Value) -> bool;

/// An option of the format.
#[derive(Debug)]
pub struct FormatOption {
    /// The type, and the legal values.
    pub kind: Kind,
    /// Other names that `amend` accepts, from the original driver's tool.
    other_names: &'static [&'static str],
    /// The number in a new image.
    default: Option<i64>,
    /// Whether it needs a base: it is zero in an image without one.
    pub(crate) of_base: bool,
    /// How `create` uses it. `None`: it can only be set once the image exists.
    pub create: Option<Use<CreateOptions>>,
    /// How `amend` uses it, under the name of the header field. `None`: it cannot be changed.
    pub amend: Option<Use<Header>>,
}

/// The options of `create`, by name.
pub fn of_create() -> impl Iterator<Item = (&'static FormatOption, &'static Use<CreateOptions>)> {
    let mut all: Vec<_> = OPTIONS
        .iter()
        .filter_map(|it| Some((it, it.create.as_ref()?)))
        .collect();
    all.sort_by_key(|(_, create)| create.name);
    all.into_iter()
}

/// The options of `amend`, in the order of the table.
pub fn of_amend() -> impl Iterator<Item = (&'static FormatOption, &'static Use<Header>)> {
    OPTIONS.iter().filter_map(|it| Some((it, it.amend.as_ref()?)))
}

/// Other names of options that `amend` accepts, with the names in the header.
pub fn aliases() -> impl Iterator<Item = (&'static str, &'static str)> {
    of_amend().flat_map(|(option, amend)| {
        let create = option
            .create
            .iter()
            .map(|create| create.name)
            .filter(|name| *name != amend.name);
        let others = create.chain(option.other_names.iter().copied());
        others.map(|other| (other, amend.name))
    })
}

/// Sets the defaults of all fields that need a base.
pub(super) fn set_defaults_of_base(header: &mut Header) {
    for (option, amend) in of_amend().filter(|(option, _)| option.of_base) {
        if let (Some(set), Some(default)) = (amend.set, option.default) {
            set(header, &Value::Int(default));
        }
    }
}

/// The error about an option that does not exist.
pub(crate) fn unknown(name: &str) -> Error {
    Error::invalid_argument(format!("Invalid parameter '{name}'"))
}

impl FormatOption {
    /// Unit, range and default of the option, for the help of the verb that uses it so.
    #[must_use]
    pub fn limits<T>(&self, used: &Use<T>) -> String {
        let (least, most) = match self.kind {
            Kind::Number(least, most) | Kind::Size(least, most) => (least, most),
            _ => (0, 0),
        };
        let range = match i64::MAX.abs_diff(most) + 1 {
            below if below <= PAGE => format!("{least} to 2^63 - {below}"),
            _ => format!("{least} to {most}"),
        };
        let default = self.default.unwrap_or(0);
        let text = used.limits.replace("<range>", &range);
        let text = text.replace("<most M>", &format!("{}M", most >> 20));
        let text = text.replace("<default>", &default.to_string());
        let text = text.replace("<default K>", &format!("{}K", default >> 10));
        text.replace("<default M>", &format!("{}M", default >> 20))
    }

    /// Whether `value` has the right type and is legal.
    pub(crate) fn accepts(&self, value: &Value) -> bool {
        match (self.kind, value) {
            (Kind::Bool, Value::Bool(_))
            | (Kind::SignedSize, Value::Int(_))
            | (Kind::Text | Kind::File, Value::Text(_)) => true,
            (Kind::Number(least, most) | Kind::Size(least, most), Value::Int(number)) => {
                (least..=most).contains(number)
            }
            (Kind::Word(words), Value::Text(text)) => words.iter().any(|word| text == word),
            _ => false,
        }
    }

    /// The error about a value of the option, which the verb calls `name`.
    pub(crate) fn refuse(&self, name: &str, value: &Value) -> Error {
        let expected = match self.kind {
            Kind::Bool => "'on' or 'off'".to_owned(),
            Kind::Text | Kind::File => "a name".to_owned(),
            Kind::SignedSize => "a number from -2^63 to 2^63 - 1".to_owned(),
            Kind::Number(least, most) | Kind::Size(least, most) => format!("a number from {least} to {most}"),
            Kind::Word(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
                format!("one of {}", words.join(", "))
            }
        };
        Error::invalid_argument(format!("Parameter '{name}' expects {expected}, not {value}"))
    }
}
