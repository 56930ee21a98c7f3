//! Which operations fail.

use fvd::Error;

use super::{Action, BASE, DiskId, Flight, State};
use crate::fault::Target;

impl State {
    /// The number of the error with which the operation fails, if it is to fail.
    pub(super) fn fault(&mut self, flight: &Flight) -> Option<i32> {
        if self.faults.writeback.is_some_and(|count| self.rng.u32(..count) == 0) {
            // The kernel's own writeback has failed: the pages look clean, and the next sync reports the
            // failure.
            let disk = &mut self.disks[flight.disk];
            disk.unseen_failure |= !disk.pending.is_empty();
            disk.give_up();
        }
        let disk = &mut self.disks[flight.disk];
        if matches!(flight.action, Action::Sync) && std::mem::take(&mut disk.unseen_failure) {
            return Some(libc::EIO);
        }
        let number = self.operations;
        let chosen = self.faults.fail_at == Some(number) || self.faults.fail_from.is_some_and(|first| number >= first);
        let is_hit = self.faults.one_in.is_some() && flight.is_hit(self.faults.target, disk.data_start);
        if chosen || (is_hit && self.is_unlucky()) {
            let needs_space = !matches!(flight.action, Action::Read(_));
            return Some(self.faults.error.number(needs_space, &mut self.rng));
        }
        let disk = &self.disks[flight.disk];
        let len = match flight.action {
            Action::SetLen(len) => len,
            _ => flight.end(),
        };
        if flight.changes_content() && self.faults.longest.is_some_and(|longest| len > longest) {
            return Some(libc::EFBIG);
        }
        let Action::Write(bytes) = &flight.action else {
            return None;
        };
        let end = flight.offset + bytes.len() as u64;
        if disk.is_device && end > disk.current.size() {
            return Some(libc::ENOSPC);
        }
        if let Some(space) = &mut self.faults.space {
            let needed = disk.current.missing_pages(flight.offset, end) * 4096;
            if needed > *space {
                return Some(libc::ENOSPC);
            }
            *space -= needed;
        }
        None
    }

    fn is_unlucky(&mut self) -> bool {
        self.faults.one_in.is_some_and(|count| self.rng.u32(..count) == 0)
    }

    /// Returns an error if a query that is answered at once is to fail. Such a query is never in flight.
    pub(crate) fn fail_question(&mut self, disk: DiskId, name: &str) -> fvd::Result<()> {
        let is_hit = match self.faults.target {
            Target::Anything | Target::Questions => true,
            Target::Base => disk == BASE,
            _ => false,
        };
        if !self.queueing || !is_hit || !self.is_unlucky() {
            return Ok(());
        }
        let errno = self.faults.error.number(false, &mut self.rng);
        self.tell(|| format!("question  {name}: error {errno}"));
        let error = Error::io(name, std::io::Error::from_raw_os_error(errno));
        Err(error.with_path(&self.disks[disk].path))
    }
}
