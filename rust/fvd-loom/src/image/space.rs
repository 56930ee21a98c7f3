#[path = "../../../fvd/src/image/space/chunk_set.rs"]
pub(super) mod chunk_set;
#[path = "../../../fvd/src/image/space/epochs.rs"]
pub(super) mod epochs;
#[path = "../../../fvd/src/image/space/reuse.rs"]
pub(super) mod reuse;
