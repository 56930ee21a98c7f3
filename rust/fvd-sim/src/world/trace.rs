//! A trace of what happened, to print and to compare two runs.

use std::fmt::Write as _;

use fvd::storage::IoBufMut;

use super::{Action, DiskId, State, World};

/// Where the trace goes.
#[derive(Default)]
pub(super) enum Trace {
    #[default]
    Off,
    Print,
    Keep(String),
}

impl World {
    /// Prints every operation, or stops doing so.
    pub fn set_trace(&self, trace: bool) {
        self.state().trace = if trace { Trace::Print } else { Trace::Off };
    }

    /// Keeps a line about every operation.
    pub fn keep_trace(&self) {
        self.state().trace = Trace::Keep(String::new());
    }

    /// Returns the lines kept since the last call, after [`World::keep_trace`].
    #[must_use]
    pub fn take_trace(&self) -> String {
        match &mut self.state().trace {
            Trace::Keep(text) => std::mem::take(text),
            Trace::Off | Trace::Print => String::new(),
        }
    }

    /// Adds a line to the trace, if there is one.
    pub fn tell(&self, text: impl FnOnce() -> String) {
        self.state().tell(text);
    }

    /// A hash of everything that has happened.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.state().digest
    }
}

impl State {
    pub(super) fn tell(&mut self, text: impl FnOnce() -> String) {
        let step = self.step;
        match &mut self.trace {
            Trace::Off => {}
            Trace::Print => eprintln!("{step:6} {}", text()),
            Trace::Keep(kept) => {
                let _ = writeln!(kept, "{step:6} {}", text());
            }
        }
    }

    pub(super) fn note(&mut self, what: &str, disk: DiskId, action: &Action, offset: u64) {
        let len = match action {
            Action::Read(buf) => buf.as_ref().map_or(0, IoBufMut::len) as u64,
            Action::Write(bytes) => bytes.len() as u64,
            Action::Zero(len) | Action::SetLen(len) => *len,
            Action::Sync => 0,
        };
        for word in [disk as u64, offset, len, u64::from(what.as_bytes()[0])] {
            self.digest = (self.digest ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        }
        if !matches!(self.trace, Trace::Off) {
            let path = self.disks[disk].path.display().to_string();
            let name = action.name();
            self.tell(|| format!("{what:9} {name} {path} offset {offset} len {len}"));
        }
    }
}
