//! What a power cut leaves of the disks.
//!
//! A sector has its durable content, any version written since the last sync, or the content of a write in
//! flight. A file has any of the lengths it had since the last sync. Sectors beyond that length are gone.

use std::collections::BTreeMap;
use std::fmt;

use crate::medium::{Medium, SECTOR, Sector};
use crate::world::{Action, Disk, Flight, State, World};

/// Which of the unsynced sectors survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// No sector.
    Nothing,
    /// The newest version of each sector, and every operation in flight.
    Everything,
    /// The newest versions of metadata sectors.
    MetadataOnly,
    /// The newest versions of data sectors.
    DataOnly,
    /// Everything except the operation that was submitted last.
    AllButLast,
    /// Whole operations, picked at random with this seed.
    Operations(u64),
    /// Sectors and lengths, picked at random with this seed.
    Sectors(u64),
}

impl Cut {
    /// Cut `number` at a boundary: number 0 is one of the extreme cuts, the others are random.
    #[must_use]
    pub fn numbered(seed: u64, boundary: u64, number: u64) -> Self {
        const EXTREMES: [Cut; 5] = [
            Cut::Nothing,
            Cut::MetadataOnly,
            Cut::DataOnly,
            Cut::AllButLast,
            Cut::Everything,
        ];
        if number == 0 {
            return EXTREMES[boundary as usize % EXTREMES.len()];
        }
        let mut rng = fastrand::Rng::with_seed(seed ^ boundary.rotate_left(32) ^ number.rotate_left(48));
        let seed = rng.u64(..);
        if rng.u8(..3) == 0 {
            Self::Operations(seed)
        } else {
            Self::Sectors(seed)
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl World {
    /// The content of each disk after a power cut at this moment. The world itself does not change.
    #[must_use]
    pub fn cut(&self, cut: Cut) -> Vec<Medium> {
        let state = self.state();
        let mut keeper = Keeper::new(cut, &state);
        (0..state.disks.len()).map(|id| keeper.cut_disk(&state, id)).collect()
    }
}

struct Keeper {
    cut: Cut,
    rng: fastrand::Rng,
    /// The chance that the newest version survives, in percent.
    newest: u8,
    /// For [`Cut::Operations`]: whether each operation survives.
    operations: BTreeMap<u64, bool>,
    last: u64,
}

impl Keeper {
    fn new(cut: Cut, state: &State) -> Self {
        let seed = match cut {
            Cut::Operations(seed) | Cut::Sectors(seed) => seed,
            _ => 0,
        };
        let mut rng = fastrand::Rng::with_seed(seed);
        let versions = state.disks.iter().flat_map(|disk| disk.pending.values().flatten());
        let landed = versions.map(|version| version.operation);
        let flying = state
            .flights
            .iter()
            .filter(|flight| flight.changes_content())
            .map(|flight| flight.id);
        Self {
            cut,
            newest: *rng.choice(&[10, 50, 90]).expect("not empty"),
            rng,
            operations: BTreeMap::new(),
            last: landed.chain(flying).max().unwrap_or(0),
        }
    }

    fn cut_disk(&mut self, state: &State, id: usize) -> Medium {
        let disk = &state.disks[id];
        let mut flights: Vec<&Flight> = state.flights.iter().filter(|flight| flight.disk == id).collect();
        flights.retain(|flight| flight.changes_content());
        flights.sort_by_key(|flight| flight.id);
        let mut medium = disk.durable.clone();
        let mut touched: Vec<u64> = disk.pending.keys().copied().collect();
        touched.extend(flights.iter().flat_map(|flight| disk.changed_by(flight)));
        touched.sort_unstable();
        touched.dedup();
        let mut kept_end = 0;
        for sector in touched {
            if let Some(bytes) = self.keep(disk, &flights, sector) {
                medium.set_sector(sector, &bytes);
                kept_end = (sector + 1) * SECTOR;
            }
        }
        let len = if disk.is_device {
            disk.durable.size()
        } else {
            self.keep_len(disk, &flights, kept_end)
        };
        let mut whole = medium;
        whole.set_size(whole.size().max(kept_end).max(disk.durable.size()));
        whole.set_size(len);
        whole
    }

    /// The version of a sector that survives. `None`: the durable one.
    fn keep(&mut self, disk: &Disk, flights: &[&Flight], sector: u64) -> Option<Sector> {
        let is_metadata = sector * SECTOR < disk.data_start;
        let versions = disk.pending.get(&sector).map_or(&[][..], Vec::as_slice);
        let newest = versions.last().map(|version| &version.bytes);
        match self.cut {
            Cut::Nothing => None,
            Cut::MetadataOnly if !is_metadata => None,
            Cut::DataOnly if is_metadata => None,
            Cut::Everything | Cut::MetadataOnly | Cut::DataOnly => fly(disk, newest, flights, sector, |_| true),
            Cut::AllButLast => {
                let last = self.last;
                let newest = versions.iter().rev().find(|version| version.operation != last);
                fly(disk, newest.map(|version| &version.bytes), flights, sector, |flight| {
                    flight.id != last
                })
            }
            Cut::Operations(_) => {
                let newest = versions.iter().rev().find(|version| self.survives(version.operation));
                let newest = newest.map(|version| &version.bytes);
                fly(disk, newest, flights, sector, |flight| self.survives(flight.id))
            }
            Cut::Sectors(_) => {
                let chosen = if self.rng.u8(..100) < self.newest {
                    versions.last()
                } else {
                    let index = self.rng.usize(..=versions.len());
                    index.checked_sub(1).map(|index| &versions[index])
                };
                let chosen = chosen.map(|version| &version.bytes);
                let newest = self.newest;
                let rng = &mut self.rng;
                fly(disk, chosen, flights, sector, |_| rng.u8(..100) < newest)
            }
        }
    }

    fn survives(&mut self, operation: u64) -> bool {
        let newest = self.newest;
        let rng = &mut self.rng;
        *self
            .operations
            .entry(operation)
            .or_insert_with(|| rng.u8(..100) < newest)
    }

    fn keep_len(&mut self, disk: &Disk, flights: &[&Flight], kept_end: u64) -> u64 {
        let newest = disk.current.size();
        let flown = |len: u64, flight: &&Flight| match flight.action {
            Action::SetLen(len) => len,
            _ => len.max(flight.end()),
        };
        match self.cut {
            Cut::Nothing | Cut::MetadataOnly => disk.durable.size(),
            Cut::Everything | Cut::DataOnly => flights.iter().fold(newest, flown),
            Cut::AllButLast => flights
                .iter()
                .filter(|flight| flight.id != self.last)
                .fold(newest, flown),
            Cut::Operations(_) | Cut::Sectors(_) => {
                let mut lens = vec![disk.durable.size(), newest, newest];
                lens.extend(disk.lengths.iter().map(|(len, _)| *len));
                lens.extend(flights.iter().map(|flight| flown(newest, flight)));
                // Mostly long enough to contain the kept sectors; otherwise the cut would show little.
                let enough: Vec<u64> = lens.iter().copied().filter(|len| *len >= kept_end).collect();
                let lens = if enough.is_empty() || self.rng.u8(..4) == 0 {
                    lens
                } else {
                    enough
                };
                *self.rng.choice(&lens).expect("not empty")
            }
        }
    }
}

/// The sector after the writes in flight that `wanted` selects, or `bytes` if it selects none.
fn fly(
    disk: &Disk,
    bytes: Option<&Sector>,
    flights: &[&Flight],
    sector: u64,
    mut wanted: impl FnMut(&Flight) -> bool,
) -> Option<Sector> {
    let mut landed: Option<Sector> = None;
    for flight in flights.iter().filter(|flight| flight.sectors().contains(&sector)) {
        if wanted(flight) {
            // A partial write of the sector is merged with what the cache holds, not with what the disk
            // holds.
            let before = landed.unwrap_or_else(|| disk.current.sector(sector));
            let mut medium = Medium::default();
            medium.set_size((sector + 1) * SECTOR);
            medium.set_sector(sector, &before);
            flight.patch(&mut medium, sector);
            landed = Some(medium.sector(sector));
        }
    }
    landed.or(bytes.copied())
}
