//! Publishes a disk as a template: the object, a manifest beside it, and perhaps a boot profile.
//!
//! * `target`: what a target must be able to do; its name.
//! * `scan`, `work`: reads the source, on several threads.
//! * `local`, `upload`, `state`: files, objects in stores, and how far an upload is.
//!
//! The source is read twice: to know the manifest, and to write the object. The second time each chunk is compared
//! with the manifest, so a source that changes meanwhile is noticed. The manifest is written last: who sees it
//! finds a whole object.

mod local;
mod scan;
mod state;
mod target;
mod upload;
mod work;

use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use fvd::source::BaseSource;
use fvd::tool::Callback;
use fvd::{Error, Result};

use crate::manifest::{Hash, MANIFEST, Manifest, PROFILE, hex, write_profile};
use crate::opener::Opener;
use scan::Scan;
pub(crate) use target::{Existing, Target};
use work::Meter;

/// How a disk is published.
#[derive(Clone, Debug, Default)]
pub struct PublishOptions {
    /// Replace another template, or another object, of the same name.
    pub force: bool,
    /// The boot profile: ranges of the disk in bytes, in the order in which a machine needs them. None: no change.
    pub profile: Option<Vec<Range<u64>>>,
}

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The name of the object.
    pub name: String,
    /// The identity of the template: SHA-256 of the head of its manifest.
    pub identity: Hash,
    /// Length of the object in bytes.
    pub len: u64,
    /// Bytes of it that are not in a run of zeros.
    pub data: u64,
    /// Whether the template was written. False: it was there already.
    pub is_new: bool,
    /// The entries of the boot profile that was written.
    pub profile_entries: Option<usize>,
}

/// Publishes `source` as `target`: a URL of a store, or the path of a file. A target that ends with `/`, or is a
/// folder, gets the name of the source. Blocks. `progress` is called on this thread.
///
/// # Errors
///
/// * Those of the source and of the store.
/// * Without `force`, if there is another template or another object of that name.
/// * If the source changes while it is read.
pub fn publish(
    opener: &Opener,
    source: &dyn BaseSource,
    target: &Path,
    options: &PublishOptions,
    progress: &mut Callback<'_>,
) -> Result<Published> {
    let mut target = target::open(opener, target, source.path())?;
    let is_in_place = target.is(source)?;
    let meter = Meter::new(source.len(), is_in_place);
    let manifest = Manifest::new(source.len(), &scan::scan(source, &meter, progress)?)?;
    let identity = manifest.identity();
    let mut published = Published {
        name: target.name(),
        identity,
        len: source.len(),
        data: data_of(&manifest),
        is_new: true,
        profile_entries: None,
    };
    let is_there = match target.existing()? {
        Existing::Template(found) if found == identity => {
            published.is_new = false;
            published.profile_entries = put_profile(&*target, source.len(), options)?;
            return Ok(published);
        }
        Existing::Nothing => false,
        _ if is_in_place => true,
        Existing::Object if target.has_content(&manifest, &meter, progress)? => true,
        _ if target.was_begun(&identity) => false,
        other if !options.force => return Err(other.refused(&published.name)),
        _ => {
            // The new object must not be taken for the old template, nor boot with the profile of that.
            target.remove(MANIFEST)?;
            if options.profile.is_none() {
                target.remove(PROFILE)?;
            }
            false
        }
    };
    if !is_there {
        target.put_object(&Scan::new(source, &manifest), &meter, progress)?;
    }
    published.profile_entries = put_profile(&*target, source.len(), options)?;
    target.put(MANIFEST, manifest.encode().into())?;
    target.finish();
    meter.finish(progress);
    tracing::info!(name = %published.name, identity = hex(&identity), "a template was published");
    Ok(published)
}

/// Writes the boot profile of a template that was published before. The template stays what it is.
///
/// # Errors
///
/// Those of the store, and if there is no template of that name.
pub fn publish_profile(opener: &Opener, target: &Path, ranges: &[Range<u64>]) -> Result<Published> {
    let target = target::open(opener, target, Path::new(""))?;
    let Existing::Template(identity) = target.existing()? else {
        let message = "There is no template of this name: publish the disk first";
        return Err(Error::invalid_argument(message).with_path(target.name()));
    };
    let options = PublishOptions {
        profile: Some(ranges.to_vec()),
        ..PublishOptions::default()
    };
    let len = target.object_len()?;
    Ok(Published {
        name: target.name(),
        identity,
        len,
        data: 0,
        is_new: false,
        profile_entries: put_profile(&*target, len, &options)?,
    })
}

/// The ranges, in bytes of the disk, of a file that `fvd profile export` has written.
///
/// # Errors
///
/// If it is no profile.
pub fn read_profile_file(text: &[u8]) -> Result<Vec<Range<u64>>> {
    crate::manifest::parse_profile(text)
}

fn put_profile(target: &dyn Target, len: u64, options: &PublishOptions) -> Result<Option<usize>> {
    let Some(ranges) = &options.profile else {
        return Ok(None);
    };
    target.put(PROFILE, Bytes::from(write_profile(len, ranges)))?;
    Ok(Some(ranges.len()))
}

fn data_of(manifest: &Manifest) -> u64 {
    let head = &manifest.head;
    (head.data_chunks() * crate::fetch::UNIT).min(head.len())
}
