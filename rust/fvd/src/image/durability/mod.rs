//! Durability: commits, checkpoints, flush rounds and recovery.

mod checkpoint;
mod commit;
pub(super) mod pending;
pub(super) mod recover;
mod rounds;
mod sectors;
mod syncs;
mod taken;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tracing::error;

use crate::error::{Error, ErrorKind, Result};
use crate::image::CacheMode;
use crate::image::files::Files;
use crate::image::inspect::stats::{Counters, Stats};
use crate::image::metadata::Metadata;
use crate::storage::Storage;

pub(in crate::image) use rounds::Round;

use rounds::FlushGate;

/// Makes durable what has been published: with the journal, or in place.
///
/// Only the holder of a [`Round`] writes metadata.
pub(in crate::image) struct Committer<S> {
    files: Arc<Files<S>>,
    metadata: Arc<Metadata>,
    counters: Arc<Counters>,
    cache: CacheMode,
    rounds: FlushGate,
    /// Used by the holder of the round only.
    state: Mutex<State>,
    /// The first failure that made the metadata on disk uncertain (C5).
    poison: OnceLock<Error>,
}

/// What the holder of the flush round knows about the disk.
struct State {
    /// Next journal sector to use.
    position: u64,
    /// Bytes from the start of the journal that may hold records. None: all of it, as an earlier session left
    /// it.
    written_end: Option<u64>,
    /// `clean_shutdown` in the header on disk.
    mark: Mark,
    /// Whether the image file has been synced in this session. A new image may never have been synced;
    /// without its header a separate data file is useless.
    file_synced: bool,
    /// Counters of this session that have been added to the totals.
    counted: Stats,
}

/// What is known of `clean_shutdown` on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::image) enum Mark {
    Clean,
    /// It is 0, durably.
    Unclean,
    /// A change was begun and has not been synced: a task that relies on the mark must write it again.
    Unknown,
}

impl<S: Storage> Committer<S> {
    /// `is_clean`: the header on disk has `clean_shutdown` = 1.
    pub(in crate::image) fn new(
        files: Arc<Files<S>>,
        metadata: Arc<Metadata>,
        counters: Arc<Counters>,
        cache: CacheMode,
        is_clean: bool,
    ) -> Self {
        Self {
            files,
            metadata,
            counters,
            cache,
            rounds: FlushGate::default(),
            state: Mutex::new(State {
                position: 0,
                written_end: None,
                mark: if is_clean { Mark::Clean } else { Mark::Unclean },
                file_synced: false,
                counted: Stats::default(),
            }),
            poison: OnceLock::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a round of its own. Fails if the image is poisoned.
    pub(in crate::image) async fn round(&self) -> Result<Round<'_>> {
        let round = self.rounds.exclusive().await;
        // The previous round may have failed.
        self.check_poison()?;
        Ok(round)
    }

    /// Waits for a round of its own, or until a flush that began after this call has completed (None). Fails
    /// if the image is poisoned.
    pub(in crate::image) async fn shared_round(&self) -> Result<Option<Round<'_>>> {
        let Some(round) = self.rounds.enter().await else {
            return Ok(None);
        };
        // The previous round may have failed.
        self.check_poison()?;
        Ok(Some(round))
    }

    /// What is known of `clean_shutdown` on disk.
    pub(in crate::image) fn mark(&self) -> Mark {
        self.state().mark
    }

    /// Counters of this session that have been added to the totals. The caller holds the round.
    pub(in crate::image) fn counted(&self) -> Stats {
        self.state().counted
    }

    /// These counters of this session have been added to the totals.
    pub(in crate::image) fn set_counted(&self, counted: Stats) {
        self.state().counted = counted;
    }

    /// Fails with the first failure that made the metadata on disk uncertain.
    pub(in crate::image) fn check_poison(&self) -> Result<()> {
        match self.poison.get() {
            None => Ok(()),
            Some(first) => Err(first.clone()),
        }
    }

    /// Remembers the first failure after which the content of the disk is unknown, and returns it.
    fn poison(&self, error: &Error) -> Error {
        let context = "The image takes no more writes, because an earlier one of its metadata failed";
        let poisoned = error.clone().with_context(ErrorKind::Poisoned, context);
        if self.poison.set(poisoned).is_ok() {
            error!("{context}: {error}");
        }
        error.clone()
    }
}
