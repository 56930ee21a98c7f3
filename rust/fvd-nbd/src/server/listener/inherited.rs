//! Socket activation: sockets that whoever started the program has opened for it, from descriptor 3
//! on, as systemd and libnbd do it.
#![expect(unsafe_code, reason = "descriptors that are only numbers, and the environment")]

use std::env;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::process;

use super::Listener;

/// The first descriptor that is handed over.
const FIRST: RawFd = 3;

/// The variables of the protocol; unset afterwards, so that no child takes them for its own.
const VARIABLES: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"];

impl Listener {
    /// The sockets that were handed over to this process; none if it was started in another way.
    /// Called within the runtime, like everything that makes a listener.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] where the variables say nothing sensible, or what was
    /// handed over is no socket that listens.
    ///
    /// # Safety
    ///
    /// Nobody else owns these descriptors (it is called once, at the start), and no other thread
    /// looks at the environment meanwhile.
    pub unsafe fn inherited() -> io::Result<Vec<Self>> {
        let [pid, count, ..] = VARIABLES.map(|name| env::var(name).ok());
        let Some(count) = announced(pid.as_deref(), count.as_deref(), process::id())? else {
            return Ok(Vec::new());
        };
        for name in VARIABLES {
            // SAFETY: no other thread looks at the environment (promised by the caller).
            unsafe { env::remove_var(name) };
        }
        (FIRST..FIRST + count)
            // SAFETY: this process was told that they are its own; nobody else owns them (promised
            // by the caller).
            .map(|fd| Self::from_fd(unsafe { OwnedFd::from_raw_fd(fd) }))
            .collect()
    }
}

/// How many descriptors the variables announce to the process `me`. None: they are not for it.
fn announced(pid: Option<&str>, count: Option<&str>, me: u32) -> io::Result<Option<RawFd>> {
    let (Some(pid), Some(count)) = (pid, count) else {
        return Ok(None);
    };
    if pid.parse() != Ok(me) {
        return Ok(None);
    }
    match count.parse() {
        Ok(0) => Ok(None),
        Ok(count @ 1..=1024) => Ok(Some(count)),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("LISTEN_FDS={count:?} is no number of sockets from 1 to 1024"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_announced_to_this_process_is_taken() {
        assert_eq!(announced(Some("7"), Some("2"), 7).unwrap(), Some(2));
        for (pid, count) in [
            (None, None),
            (None, Some("1")),
            (Some("7"), None),
            (Some("8"), Some("1")),
            (Some("x"), Some("1")),
            (Some("7"), Some("0")),
        ] {
            assert_eq!(announced(pid, count, 7).unwrap(), None, "{pid:?} {count:?}");
        }
        for count in ["-1", "1025", "4294967297", "two", ""] {
            assert!(announced(Some("7"), Some(count), 7).is_err(), "{count:?}");
        }
    }
}
