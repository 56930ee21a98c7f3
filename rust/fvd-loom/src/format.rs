//! The types of the format that the engine's files here use.

#[path = "../../fvd/src/format/chunk.rs"]
pub(crate) mod chunk;

pub(crate) use chunk::StorageChunk;
