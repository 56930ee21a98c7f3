//! Metadata: bitmap and table, in memory and in place on disk, and what makes changes of them visible.

pub(super) mod bitmap;
pub(super) mod lookup;
pub(super) mod patch;
pub(super) mod publish;
pub(super) mod redo;
pub(super) mod region_cache;
pub(super) mod scan;
mod segment;
pub(super) mod snapshot;
pub(super) mod table;

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::format::Geometry;
use crate::image::durability::pending::Pending;
use crate::image::space::pool::ChunkPool;

use bitmap::Bitmap;
use table::Table;

/// What is known in memory of where each byte of the disk is.
pub(in crate::image) struct Metadata {
    geometry: Geometry,
    /// None where no block can be in the base.
    bitmap: Option<Bitmap>,
    /// None unless the image is compact.
    table: Option<Table>,
    /// A copy has stored something in this session: there may be unlogged blocks and chunks.
    copied: AtomicBool,
    /// Held for moments, never over I/O.
    volatile: Mutex<Volatile>,
}

/// What is in memory only, under one mutex: to publish is one step for a commit (I2).
pub(in crate::image) struct Volatile {
    /// Storage chunks that are reserved or can be handed out.
    pub(in crate::image) pool: ChunkPool,
    /// Changes that are not on disk yet.
    pub(in crate::image) pending: Pending,
}

impl Metadata {
    /// `needs_base`: some blocks can be in the base.
    pub(in crate::image) fn new(geometry: Geometry, needs_base: bool, pool: ChunkPool) -> Self {
        let bitmap = geometry.bitmap.filter(|_| needs_base);
        Self {
            bitmap: bitmap.map(|region| Bitmap::new(region, &geometry)),
            table: geometry.table.map(|region| Table::new(region, &geometry)),
            geometry,
            copied: AtomicBool::new(false),
            volatile: Mutex::new(Volatile {
                pool,
                pending: Pending::default(),
            }),
        }
    }

    pub(in crate::image) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// None where no block can be in the base.
    pub(in crate::image) fn bitmap(&self) -> Option<&Bitmap> {
        self.bitmap.as_ref()
    }

    /// None unless the image is compact.
    pub(in crate::image) fn table(&self) -> Option<&Table> {
        self.table.as_ref()
    }

    pub(in crate::image) fn volatile(&self) -> MutexGuard<'_, Volatile> {
        self.volatile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the disk that have a bit in the bitmap; 0 if nothing can come from a base.
    pub(in crate::image) fn base_size(&self) -> u64 {
        self.bitmap.as_ref().map_or(0, Bitmap::base_size)
    }
}
