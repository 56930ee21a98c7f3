//! The right to fetch and publish a unit (K4).

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::layout::Entry;
use super::medium::{Waiting, Which};
use super::object::{Checked, Object, UNIT_LOCKS, entry_offset};
use crate::fault::fault;

/// The right to publish a unit. No other process fetches it while this lives.
pub(crate) struct Lead {
    pub(super) object: Arc<Object>,
    pub(crate) unit: u64,
}

impl Lead {
    /// The unit, if it is there. A damaged one is cleared.
    pub(crate) fn read(&self) -> io::Result<Option<Bytes>> {
        match self.object.read_checked(self.unit)? {
            Checked::Data(data) => Ok(Some(data)),
            Checked::Missing => Ok(None),
            Checked::Damaged(generation) => self.object.clear_led(self.unit, generation).map(|_| None),
        }
    }

    /// Stores the unit, if it is not there: the data first, then the entry.
    pub(crate) fn publish(&self, data: &[u8]) -> io::Result<()> {
        let object = &self.object;
        let entry = object.entry(self.unit, Waiting::Allowed)?;
        if entry.is_present() {
            return Ok(());
        }
        let range = object.range(self.unit);
        assert_eq!(
            data.len() as u64,
            range.end - range.start,
            "only whole units are stored"
        );
        if fault!(UnlockEarly) {
            object.files.unlock(UNIT_LOCKS + self.unit);
        }
        let now = object.medium.now();
        let generation = if fault!(SameGeneration) {
            1
        } else {
            entry.generation.wrapping_add(1)
        };
        let entry = Entry {
            crc: crc32c::crc32c(data),
            generation,
            last_use: now,
        };
        if fault!(PublishBeforeData) {
            self.write_entry(entry)?;
        }
        object.files.write(Which::Data, data, range.start)?;
        self.write_entry(entry)?;
        object.known.set(self.unit, generation, now);
        Ok(())
    }

    fn write_entry(&self, entry: Entry) -> io::Result<()> {
        let at = entry_offset(self.unit);
        self.object.files.write(Which::Index, &entry.encode(), at)
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.object.files.unlock(UNIT_LOCKS + self.unit);
        self.object.led().remove(&self.unit);
    }
}
