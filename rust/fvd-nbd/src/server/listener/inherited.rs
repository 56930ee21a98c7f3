//! Socket activation: listening sockets that the parent process passes from descriptor 3 on, as systemd and
//! libnbd do.
#![expect(unsafe_code, reason = "descriptors that are only numbers, and the environment")]

use std::env;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::process;

use super::Listener;

/// The first passed descriptor.
const FIRST: RawFd = 3;

/// The environment variables of the protocol. They are unset afterwards, so that no child process uses them.
const VARIABLES: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"];

impl Listener {
    /// The sockets that were passed to this process; empty if there are none. Must be called within a tokio
    /// runtime, like every function that makes a listener.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if the variables are invalid, or a passed descriptor is not a
    /// listening socket.
    ///
    /// # Safety
    ///
    /// No other code may own these descriptors (so it must be called only once, at the start), and no other
    /// thread may read or change the environment during the call.
    pub unsafe fn inherited() -> io::Result<Vec<Self>> {
        let [pid, count, ..] = VARIABLES.map(|name| env::var(name).ok());
        let Some(count) = announced(pid.as_deref(), count.as_deref(), process::id())? else {
            return Ok(Vec::new());
        };
        for name in VARIABLES {
            // SAFETY: no other thread uses the environment (promised by the caller).
            unsafe { env::remove_var(name) };
        }
        (FIRST..FIRST + count)
            // SAFETY: the parent process passed these descriptors to this process, and no other code owns
            // them (promised by the caller).
            .map(|fd| Self::from_fd(unsafe { OwnedFd::from_raw_fd(fd) }))
            .collect()
    }
}

/// The number of descriptors that the variables announce to the process `me`. None if they are not for it.
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
