//! Records as lines.

use std::fmt::Write as _;
use std::str::FromStr;

use tracing::Level;

use crate::record::{Fields, Record, Value};
use crate::time;

/// The form of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people. Problems are `fvd: MESSAGE`; other records begin with time, level and target.
    #[default]
    Text,
    /// One JSON object a line: `time`, `level`, `target`, `message`, `fields`, `spans`.
    Json,
}

impl FromStr for Format {
    /// What is wrong with the name.
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("Invalid log format '{name}': text or json")),
        }
    }
}

impl Format {
    /// The line for a record, without its end.
    #[must_use]
    pub fn line(self, record: &Record) -> String {
        match self {
            Self::Text => text(record),
            Self::Json => json(record),
        }
    }
}

fn text(record: &Record) -> String {
    if record.level <= Level::WARN {
        // The message has for people what the fields have for programs.
        return printable(&format!("fvd: {}", record.message));
    }
    let mut line = format!("{} {:<5} {}: ", time::text(record.time), record.level, record.target);
    // Writing to a String does not fail.
    for scope in &record.scopes {
        let _ = write!(line, "{}{{", scope.name);
        write_fields(&mut line, &scope.fields);
        line.push_str("}: ");
    }
    line.push_str(&record.message);
    if !record.fields.is_empty() {
        line.push(' ');
        write_fields(&mut line, &record.fields);
    }
    printable(&line)
}

/// `a=1 b=text`.
pub(crate) fn write_fields(text: &mut String, fields: &Fields) {
    for (number, (name, value)) in fields.iter().enumerate() {
        let space = if number == 0 { "" } else { " " };
        let _ = write!(text, "{space}{name}={value}");
    }
}

/// Control characters as `\x1b`: a client chooses the name of the export that it asks for.
fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    let mut printable = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if letter.is_control() {
            let _ = write!(printable, "\\x{:02x}", u32::from(letter));
        } else {
            printable.push(letter);
        }
    }
    printable
}

fn json(record: &Record) -> String {
    let mut line = String::with_capacity(256);
    let _ = write!(
        line,
        "{{\"time\":\"{}\",\"level\":\"{}\",\"target\":",
        time::text(record.time),
        record.level
    );
    string(&mut line, record.target);
    line.push_str(",\"message\":");
    string(&mut line, &record.message);
    line.push_str(",\"fields\":");
    object(&mut line, None, &record.fields);
    line.push_str(",\"spans\":[");
    for (number, scope) in record.scopes.iter().enumerate() {
        line.push_str(if number == 0 { "" } else { "," });
        object(&mut line, Some(scope.name), &scope.fields);
    }
    line.push_str("]}");
    line
}

fn object(line: &mut String, name: Option<&str>, fields: &Fields) {
    line.push('{');
    if let Some(name) = name {
        line.push_str("\"name\":");
        string(line, name);
    }
    for (number, (key, value)) in fields.iter().enumerate() {
        line.push_str(if number == 0 && name.is_none() { "" } else { "," });
        string(line, key);
        line.push(':');
        match value {
            Value::Text(text) => string(line, text),
            // JSON has no such numbers.
            Value::Float(float) if !float.is_finite() => string(line, &float.to_string()),
            value => {
                let _ = write!(line, "{value}");
            }
        }
    }
    line.push('}');
}

fn string(line: &mut String, text: &str) {
    line.push('"');
    for letter in text.chars() {
        match letter {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            letter if letter.is_control() => {
                let _ = write!(line, "\\u{:04x}", u32::from(letter));
            }
            letter => line.push(letter),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::record::Scope;

    fn record(level: Level) -> Record {
        Record {
            time: UNIX_EPOCH,
            level,
            target: "fvd::image",
            message: "a \"name\"\n\u{1b}[m".to_owned(),
            fields: vec![
                ("len", Value::Unsigned(512)),
                ("file", Value::Text("a\\b".to_owned())),
                ("rate", Value::Float(f64::NAN)),
            ],
            scopes: vec![
                Scope {
                    name: "connection",
                    fields: vec![("number", Value::Unsigned(1))],
                },
                Scope {
                    name: "flush",
                    fields: Vec::new(),
                },
            ],
            thread: None,
        }
    }

    #[test]
    fn problems_keep_their_form_and_other_records_have_all() {
        assert_eq!(Format::Text.line(&record(Level::WARN)), "fvd: a \"name\"\\x0a\\x1b[m");
        assert_eq!(
            Format::Text.line(&record(Level::DEBUG)),
            "1970-01-01T00:00:00.000000Z DEBUG fvd::image: connection{number=1}: flush{}: a \"name\"\\x0a\\x1b[m \
             len=512 file=a\\b rate=NaN"
        );
    }

    #[test]
    fn a_json_line_escapes_what_json_does_not_allow() {
        assert_eq!(
            Format::Json.line(&record(Level::INFO)),
            r#"{"time":"1970-01-01T00:00:00.000000Z","level":"INFO","target":"fvd::image","message":"a \"name\"\u000a\u001b[m","fields":{"len":512,"file":"a\\b","rate":"NaN"},"spans":[{"name":"connection","number":1},{"name":"flush"}]}"#
        );
    }
}
