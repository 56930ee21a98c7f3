//! Manifests of templates: what each chunk of an object must be (`docs/format-manifest.md`).
//!
//! * `head`, `build`: bytes and typed values, no I/O.
//! * `place`, `load`: gets manifests and boot profiles from where they are.
//! * `kept`: their bytes in the host cache.
//! * `pages`: hashes, when they are needed.
//! * `verified`: an object whose every unit is checked.
//! * `profile`: boot profiles.

mod build;
mod head;
mod kept;
mod load;
mod pages;
mod place;
mod profile;
#[cfg(test)]
mod tests;
mod verified;

pub(crate) use build::Manifest;
pub(crate) use head::{Chunk, Hash, Head, MAX_HEAD, chunks, hash, head_len};
pub(crate) use kept::{Kept, label};
pub(crate) use load::{Loaded, load};
pub(crate) use pages::{Budget, Pages};
pub(crate) use place::{Asked, Place};
pub(crate) use profile::write_profile;
pub(crate) use verified::{Verified, hex};

/// What follows the name of an object in the name of its manifest.
pub(crate) const MANIFEST: &str = ".fvd-manifest";
/// What follows the name of an object in the name of its boot profile.
pub(crate) const PROFILE: &str = ".fvd-profile";
