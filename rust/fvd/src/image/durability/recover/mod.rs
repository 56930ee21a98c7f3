//! Recovery: replays the journal of an image that was not closed cleanly (`docs/design/engine.md`,
//! "Recovery").
//!
//! First, `medium` makes sure that what is read is what the medium has. Then the journal is replayed: in
//! place if the image may be written (`in_place`), in memory if it is only read (`in_memory`). It does no harm to do either again: a bit
//! only changes from 0 to 1, and all records in the journal agree on where a chunk lies (I13).

mod in_memory;
pub(in crate::image) mod in_place;
pub(in crate::image) mod journal_reader;
pub(in crate::image) mod medium;

pub use in_place::finish_change;
pub use medium::read_head_to_write;
