//! Checks and repairs of images that are broken by hand.

mod crash;
mod dumps;
mod findings;
mod hostile;
mod lost;
mod repairs;

use bytes::Bytes;
use pollster::block_on;

use super::{FindingKind, Repair, Report, check};
use crate::format::LayoutOptions;
use crate::image::testing::{CHUNK, CHUNKS, Kind, Sample, assert_clean, content, kinds, open, options, sample};
use crate::image::{CreateOptions, create, read_head};
use crate::storage::{IoBufMut, MemoryStorage, Storage};
