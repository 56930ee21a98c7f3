//! Operations in flight.

use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use fvd::storage::IoBufMut;

use super::{BASE, DiskId};
use crate::fault::Target;
use crate::medium::{Medium, SECTOR};

#[derive(Debug)]
pub(crate) enum Action {
    Read(Option<IoBufMut>),
    Write(Bytes),
    Zero(u64),
    Sync,
    SetLen(u64),
}

impl Action {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Read(_) => "read",
            Self::Write(_) => "write",
            Self::Zero(_) => "write zeros",
            Self::Sync => "sync",
            Self::SetLen(_) => "change the length",
        }
    }
}

pub(crate) struct Flight {
    pub(crate) id: u64,
    pub(crate) disk: DiskId,
    pub(crate) action: Action,
    pub(crate) offset: u64,
    pub(super) submitted: u64,
    /// Nearly all others overtake it.
    pub(super) hangs: bool,
    /// The time of the submission.
    pub(super) began: Duration,
    /// For a sync: the content that it makes durable.
    pub(super) snapshot: Option<Medium>,
    pub(super) waker: Option<Waker>,
}

impl Flight {
    pub(crate) fn end(&self) -> u64 {
        match &self.action {
            Action::Write(bytes) => self.offset + bytes.len() as u64,
            Action::Zero(len) => self.offset + len,
            Action::Read(_) | Action::Sync | Action::SetLen(_) => self.offset,
        }
    }

    pub(super) fn touches(&self, start: u64, end: u64) -> bool {
        self.offset < end && start < self.end()
    }

    pub(crate) fn sectors(&self) -> std::ops::Range<u64> {
        if self.offset == self.end() {
            return 0..0;
        }
        self.offset / SECTOR..self.end().div_ceil(SECTOR)
    }

    pub(crate) fn changes_content(&self) -> bool {
        matches!(self.action, Action::Write(_) | Action::Zero(_) | Action::SetLen(_))
    }

    /// Whether it moves data: it is a read, a write or a zeroing.
    pub(super) fn moves(&self) -> bool {
        !matches!(self.action, Action::Sync | Action::SetLen(_))
    }

    /// Whether an injected error applies to this operation. `data_start` is the offset on this disk where
    /// metadata ends.
    pub(super) fn is_hit(&self, target: Target, data_start: u64) -> bool {
        let is_data = self.offset >= data_start;
        match target {
            Target::Anything => true,
            Target::Base => self.disk == BASE,
            Target::Data => is_data && !matches!(self.action, Action::Sync),
            Target::Metadata => !is_data && self.moves(),
            Target::Reads => matches!(self.action, Action::Read(_)),
            Target::Writes => matches!(self.action, Action::Write(_)),
            Target::Zeroes => matches!(self.action, Action::Zero(_)),
            Target::Syncs => matches!(self.action, Action::Sync),
            Target::Lengths => matches!(self.action, Action::SetLen(_)),
            Target::Questions => false,
        }
    }

    pub(super) fn covers(&self, sector: u64) -> bool {
        self.offset <= sector * SECTOR && (sector + 1) * SECTOR <= self.end()
    }

    /// Applies the part of a write or a zeroing that lies in `sector`. A write may leave the length too
    /// large; the caller must correct it. A zeroing does not extend the medium.
    pub(crate) fn patch(&self, medium: &mut Medium, sector: u64) {
        let start = self.offset.max(sector * SECTOR);
        let end = self.end().min((sector + 1) * SECTOR);
        match &self.action {
            Action::Write(bytes) => {
                let part = (start - self.offset) as usize..(end - self.offset) as usize;
                medium.write(&bytes[part], start);
            }
            Action::Zero(_) => medium.zero(start, end.min(medium.size())),
            Action::Read(_) | Action::Sync | Action::SetLen(_) => {}
        }
    }
}
