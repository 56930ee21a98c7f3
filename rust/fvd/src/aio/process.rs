//! Who made a ring or a thread.

use crate::error::{Error, ErrorKind, Result};

/// The process that threads and rings belong to. A child that is forked from it has neither, and
/// finds locks as they were in that moment: it must touch none of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn current() -> Self {
        Self(std::process::id())
    }

    /// One that this never is.
    #[cfg(test)]
    pub(crate) fn of_init() -> Self {
        Self(1)
    }

    pub(crate) fn is_current(self) -> bool {
        self == Self::current()
    }

    /// Fails in every other process.
    pub(crate) fn check(self) -> Result<()> {
        if self.is_current() {
            return Ok(());
        }
        let message = "The file was opened before this process was forked: a child has to open it again";
        Err(Error::new(ErrorKind::Io, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_is_refused() {
        Process::current().check().expect("it is this one");
        let error = Process::of_init().check().expect_err("it is init");
        assert!(error.to_string().contains("has to open it again"), "{error}");
    }
}
