#[path = "../../../fvd/src/image/metadata/segment.rs"]
pub(super) mod segment;
