//! The process that something belongs to (`docs/design/async-io.md`, "Fork").
//!
//! A forked child inherits a copy of everything that is open: without the threads that work on it, with locks
//! in the state of that moment, and with metadata that the parent continues to change. So what is open
//! belongs to the process that opened it. In any other process its operations fail, and dropping it does
//! nothing.

use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::Path;

use crate::error::{Error, Result};
use crate::sys::{file, fork, per_process};

/// A process. A forked child is another one, even if the system reuses a process id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    generation: u32,
    /// For messages.
    id: u32,
}

impl Process {
    /// This process. Needs no system call.
    #[must_use]
    pub fn current() -> Self {
        fork::watch();
        Self {
            generation: fork::generation(),
            id: fork::id(),
        }
    }

    /// A process that this one never is.
    #[cfg(test)]
    pub(crate) fn other() -> Self {
        Self {
            generation: u32::MAX,
            id: 1,
        }
    }

    /// Whether it is this process. Needs no system call.
    #[inline]
    #[must_use]
    pub fn is_current(self) -> bool {
        self.generation == fork::generation()
    }

    /// Fails in every other process.
    #[inline]
    pub fn check(self) -> Result<()> {
        if self.is_current() {
            return Ok(());
        }
        Err(self.error())
    }

    /// As [`Process::check`]. The error names the file at `path`.
    #[inline]
    pub fn check_for(self, path: &Path) -> Result<()> {
        if self.is_current() {
            return Ok(());
        }
        Err(self.error().with_path(path))
    }

    #[cold]
    fn error(self) -> Error {
        let message = format!(
            "It belongs to process {}, which has forked this one ({}): open after forking",
            self.id,
            fork::id()
        );
        Error::invalid_argument(message)
    }
}

/// The effective user of this process, as files have it.
#[must_use]
pub fn effective_user() -> u32 {
    file::effective_user()
}

impl Default for Process {
    fn default() -> Self {
        Self::current()
    }
}

/// A value that only the process that made it can use and drop. Any other process forgets it.
#[derive(Debug)]
pub struct Owned<T> {
    /// None only during [`Owned::into_inner`].
    value: Option<T>,
    process: Process,
}

impl<T> Owned<T> {
    /// A value of this process.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self {
            value: Some(value),
            process: Process::current(),
        }
    }

    /// Whether it belongs to this process.
    #[inline]
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.process.is_current()
    }

    /// The value. Fails in every other process.
    #[inline]
    pub fn get(&self) -> Result<&T> {
        self.process.check()?;
        Ok(self.value.as_ref().expect("it is there until it is taken out"))
    }

    /// As [`Owned::get`], with exclusive access.
    pub fn get_mut(&mut self) -> Result<&mut T> {
        self.process.check()?;
        Ok(self.value.as_mut().expect("it is there until it is taken out"))
    }

    /// Takes the value out. In every other process: None, and the value is forgotten.
    #[must_use]
    pub fn into_inner(mut self) -> Option<T> {
        if self.is_ours() { self.value.take() } else { None }
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if !self.is_ours() {
            // Dropping the value could wait for threads that this process lacks, or for locks that they hold.
            mem::forget(self.value.take());
        }
    }
}

/// One value per process: a forked child never sees the value of its parent. For values that have locks or
/// threads and live as long as the process.
#[derive(Debug)]
pub struct PerProcess<T: 'static> {
    values: per_process::Values<T>,
    make: fn() -> T,
}

impl<T: Send + Sync + 'static> PerProcess<T> {
    /// `make` makes the value of a process, when the process first asks for it.
    #[must_use]
    pub const fn new(make: fn() -> T) -> Self {
        Self {
            values: per_process::Values::new(),
            make,
        }
    }

    /// The value of this process. Takes no lock.
    #[must_use]
    pub fn get(&self) -> &'static T {
        self.values.get(self.make)
    }
}

/// Keeps a descriptor from forked children: while this lives, they inherit its number, but not the file. So
/// the files and locks of the parent are closed when the parent closes them or dies. (`CLOEXEC` does the same
/// for programs that a process executes.)
///
/// Drop this before the descriptor is closed.
#[derive(Debug)]
pub struct CloseOnFork {
    _registration: fork::Registration,
}

impl CloseOnFork {
    /// For an open descriptor.
    #[must_use]
    pub fn new(descriptor: BorrowedFd<'_>) -> Self {
        Self {
            _registration: fork::Registration::of(descriptor.as_raw_fd()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn another_process_gets_an_error_with_advice() {
        Process::current().check().expect("it is this one");
        let error = Process::other()
            .check_for(Path::new("disk"))
            .expect_err("it is another");
        assert!(error.to_string().starts_with("disk: "), "{error}");
        assert!(error.to_string().contains("open after forking"), "{error}");
    }

    #[test]
    fn a_value_of_another_process_is_neither_used_nor_dropped() {
        let value = Arc::new(());
        let mut owned = Owned::new(Arc::clone(&value));
        owned.get().expect("it is ours");
        owned.process = Process::other();
        owned.get().expect_err("it is another's");
        drop(owned);
        assert_eq!(Arc::strong_count(&value), 2);
        drop(Owned::new(Arc::clone(&value)));
        assert_eq!(Arc::strong_count(&value), 2);
    }

    #[test]
    fn a_value_of_a_process_is_made_once() {
        static VALUE: PerProcess<String> = PerProcess::new(String::new);
        assert!(std::ptr::eq(VALUE.get(), VALUE.get()));
    }
}
