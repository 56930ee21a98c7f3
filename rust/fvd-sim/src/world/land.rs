//! What an operation does to a disk when it ends.

use super::{Action, Flight, State};
use crate::fault::Lie;
use crate::medium::SECTOR;

impl State {
    /// Applies a failed or cancelled operation: any of its sectors may have been written.
    pub(super) fn land_in_part(&mut self, flight: &Flight) {
        match flight.action {
            Action::Sync => self.disks[flight.disk].give_up(),
            Action::SetLen(_) if self.rng.bool() => {}
            Action::SetLen(_) | Action::Write(_) | Action::Zero(_) => {
                let mut coin = self.rng.fork();
                self.land(flight, |_| coin.bool());
            }
            Action::Read(_) => {}
        }
    }

    /// Applies a write, a zeroing or a change of length to the current content.
    pub(super) fn land(&mut self, flight: &Flight, mut wanted: impl FnMut(u64) -> bool) {
        let step = self.step;
        let disk = &mut self.disks[flight.disk];
        let old_len = disk.current.size();
        if let Action::SetLen(len) = flight.action {
            disk.set_len(flight, len, step);
            return;
        }
        let mut end = old_len;
        for sector in disk.changed_by(flight) {
            if !wanted(sector) {
                continue;
            }
            // If several writes were in flight at the same time, any of them may be the last.
            let overlapped = disk.pending.get(&sector).and_then(|versions| versions.last());
            let concurrent = overlapped.is_some_and(|version| version.completed > flight.submitted);
            if concurrent && flight.covers(sector) && self.rng.bool() {
                continue;
            }
            flight.patch(&mut disk.current, sector);
            disk.touch(sector, self.rng.bool());
            disk.push_version(sector, flight.id, step);
            end = end.max(flight.end().min((sector + 1) * SECTOR));
        }
        if matches!(flight.action, Action::Write(_)) && end > old_len {
            disk.current.set_size(end);
            disk.lengths.push((end, step));
        }
    }

    pub(super) fn finish_sync(&mut self, flight: Flight) {
        self.syncs += 1;
        let snapshot = flight.snapshot.expect("a sync has the content that it makes durable");
        let disk = &mut self.disks[flight.disk];
        let previous = std::mem::replace(&mut disk.previous_sync, flight.submitted);
        let first_data = disk.data_start / SECTOR;
        match self.lie {
            Lie::DropEverySync => {}
            Lie::DropSync(nth) if nth == self.syncs => {}
            Lie::None | Lie::DropSync(_) => disk.sync(snapshot, flight.submitted, |_, _| false),
            Lie::DataLagsBehind => disk.sync(snapshot, flight.submitted, |sector, version| {
                sector >= first_data && version.completed > previous
            }),
            Lie::MetadataIsNotSynced => disk.sync(snapshot, flight.submitted, |sector, _| sector < first_data),
        }
    }
}
