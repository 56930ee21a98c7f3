//! One record: an event, or the begin or end of a span.

use std::fmt;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Level, Metadata};

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Signed(i64),
    /// A number.
    Unsigned(u64),
    /// A number with a fraction.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// Anything else.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signed(value) => value.fmt(f),
            Self::Unsigned(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Bool(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

/// Fields in the order of their definition.
pub type Fields = Vec<(&'static str, Value)>;

/// A span around a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Scope {
    /// The name of the span.
    pub name: &'static str,
    /// Its fields.
    pub fields: Fields,
}

/// One record.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it was emitted.
    pub time: SystemTime,
    /// How important it is.
    pub level: Level,
    /// The module that emitted it.
    pub target: &'static str,
    /// The text, without the fields.
    pub message: String,
    /// The fields of the event. At the end of a span: its fields, and `elapsed_us`.
    pub fields: Fields,
    /// The spans around it, the outermost first.
    pub scopes: Vec<Scope>,
    /// The name of the thread that emitted it.
    pub thread: Option<String>,
}

impl Record {
    /// A record of now and here.
    pub(crate) fn new(
        metadata: &'static Metadata<'static>,
        message: String,
        fields: Fields,
        scopes: Vec<Scope>,
    ) -> Self {
        Self {
            time: SystemTime::now(),
            level: *metadata.level(),
            target: metadata.target(),
            message,
            fields,
            scopes,
            thread: std::thread::current().name().map(str::to_owned),
        }
    }
}

/// Collects fields. The message of an event is one of them.
#[derive(Default)]
pub(crate) struct Visitor {
    pub(crate) message: String,
    pub(crate) fields: Fields,
}

impl Visitor {
    fn put(&mut self, field: &Field, value: Value) {
        let name = field.name();
        match self.fields.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.fields.push((name, value)),
        }
    }
}

impl Visit for Visitor {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.put(field, Value::Text(text));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.put(field, Value::Text(value.to_owned()));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::Unsigned(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Bool(value));
    }
}
