//! What an attempt can end with.

use std::io;
use std::time::Duration;

use fvd::{Error, ErrorKind};

use crate::transport::Failure;

/// Why an attempt did not bring everything.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Another attempt may help, after `demanded` at the earliest.
    Retry { text: String, demanded: Option<Duration> },
    /// The credentials of this generation were refused.
    Refused { generation: u64, text: String },
    /// The server answers that its disk fails. Another attempt may help, and soon, or it does not.
    Faulty(String),
    /// No attempt helps.
    Permanent(Error),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        if failure.is_permanent() {
            return Self::Permanent(Error::new(ErrorKind::Io, capital(&failure.text)));
        }
        Self::Retry {
            text: failure.text,
            demanded: None,
        }
    }
}

/// For a read that was given up after `time` without data.
pub(crate) fn timed_out(time: Duration, reason: &str) -> Error {
    let source = io::Error::from_raw_os_error(libc::ETIMEDOUT);
    let text = format!("No data for {:.1} s, {reason}", time.as_secs_f64());
    Error::io("read", source).with_context(ErrorKind::Io, &text)
}

/// For a read that the server has answered with errors only.
pub(super) fn faulty(reason: &str) -> Error {
    let source = io::Error::from_raw_os_error(libc::EIO);
    Error::io("read", source).with_context(ErrorKind::Io, &capital(reason))
}

pub(crate) fn capital(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + characters.as_str()
}
