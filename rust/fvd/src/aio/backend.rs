//! Which backend does the I/O that would block.

use std::ffi::OsStr;

use crate::error::{Error, Result};
use crate::sys::uring;

/// The environment variable that forces a choice.
const VARIABLE: &str = "FVD_IO";

/// The backend for I/O that would block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// `io_uring`. Threads do what `io_uring` cannot do.
    Uring,
    /// Worker threads only.
    Threads,
}

impl Backend {
    /// The backend that the environment variable `FVD_IO` names (`uring` or `threads`). Without it, or if it
    /// is empty, the best backend that the system permits.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for any other name. If `FVD_IO` is
    /// `uring`, the errors of [`Backend::check`].
    pub fn choose() -> Result<Self> {
        let forced = std::env::var_os(VARIABLE);
        let usable = || uring::is_usable().map_err(cannot_use);
        decide(forced.as_deref(), usable)
    }

    /// Checks that the system permits this backend.
    ///
    /// # Errors
    ///
    /// The system does not permit `io_uring`, as in many containers. [`Backend::Threads`] never fails.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Uring => uring::is_usable().map_err(cannot_use),
            Self::Threads => Ok(()),
        }
    }
}

fn decide(forced: Option<&OsStr>, usable: impl FnOnce() -> Result<()>) -> Result<Backend> {
    match forced.map(|name| name.to_str()) {
        None | Some(Some("")) => Ok(usable().map_or(Backend::Threads, |()| Backend::Uring)),
        Some(Some("threads")) => Ok(Backend::Threads),
        Some(Some("uring")) => usable().map(|()| Backend::Uring),
        Some(_) => {
            let name = forced.unwrap_or_default().display();
            let message = format!("{VARIABLE} is '{name}': it can be 'uring' or 'threads'");
            Err(Error::invalid_argument(message))
        }
    }
}

fn cannot_use(error: std::io::Error) -> Error {
    let kind = Error::io("", std::io::Error::from(error.kind())).kind();
    let hint = "The kernel or its configuration (seccomp, kernel.io_uring_disabled) does not permit it; \
                'threads' works everywhere";
    Error::io("use io_uring", error).with_context(kind, hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn refused() -> Result<()> {
        Err(cannot_use(std::io::Error::from_raw_os_error(libc::EPERM)))
    }

    #[test]
    fn threads_are_used_where_the_system_refuses_io_uring() {
        assert_eq!(decide(None, || Ok(())).expect("usable"), Backend::Uring);
        assert_eq!(decide(None, refused).expect("falls back"), Backend::Threads);
        assert_eq!(
            decide(Some(OsStr::new("")), refused).expect("falls back"),
            Backend::Threads
        );
    }

    #[test]
    fn a_forced_choice_is_kept_or_an_error() {
        let forced = |name, usable: fn() -> Result<()>| decide(Some(OsStr::new(name)), usable);
        assert_eq!(forced("threads", || Ok(())).expect("always usable"), Backend::Threads);
        assert_eq!(forced("uring", || Ok(())).expect("usable"), Backend::Uring);
        let error = forced("uring", refused).expect_err("refused");
        assert_eq!(error.errno(), Some(libc::EPERM));
        assert!(error.to_string().contains("Could not use io_uring"), "{error}");
        let error = forced("aio", || Ok(())).expect_err("no such thing");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("FVD_IO is 'aio'"), "{error}");
    }
}
