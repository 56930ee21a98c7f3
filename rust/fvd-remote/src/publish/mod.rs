//! Publishes a disk as a template: the object, its manifest, and perhaps a boot profile.
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

use crate::fetch::UNIT;
use crate::manifest::{Chunk, Hash, MANIFEST, Manifest, PROFILE, hex, write_profile};
use crate::opener::Opener;
use scan::Scan;
pub(crate) use target::{Existing, Target};
use work::{Job, Meter};

/// How a disk is published.
#[derive(Clone, Debug, Default)]
pub struct PublishOptions {
    /// Replace another template, or another object, of the same name, or the same one if it is damaged.
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

impl Published {
    /// The identity in hexadecimal digits.
    #[must_use]
    pub fn identity_text(&self) -> String {
        hex(&self.identity)
    }
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
    let mut job = Job::new(&meter, progress);
    job.report()?;
    let manifest = Manifest::new(source.len(), &scan::scan(source, &mut job)?)?;
    let mut published = Published {
        name: target.name(),
        identity: manifest.identity(),
        len: source.len(),
        data: data_of(&manifest),
        is_new: true,
        profile_entries: None,
    };
    let content = prepare(&*target, &manifest, is_in_place, options, &mut job)?;
    if content == There::Template {
        published.is_new = false;
    } else if content != There::Object {
        target.put_object(&Scan::new(source, &manifest), content == There::Hidden, &mut job)?;
    }
    published.profile_entries = put_profile(&*target, source.len(), options, &mut job)?;
    if content != There::Template {
        target.put(MANIFEST, manifest.encode().into(), &mut job)?;
        target.finish();
        tracing::info!(name = %published.name, identity = hex(&published.identity), "a template was published");
    }
    job.finish();
    Ok(published)
}

/// What need not be written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum There {
    Nothing,
    /// Perhaps something that must not be replaced.
    Hidden,
    Object,
    Template,
}

/// Looks what is there already, and makes room if the user permits it.
fn prepare(
    target: &dyn Target,
    manifest: &Manifest,
    is_in_place: bool,
    options: &PublishOptions,
    job: &mut Job<'_, '_>,
) -> Result<There> {
    let identity = manifest.identity();
    let object = if is_in_place { There::Object } else { There::Nothing };
    match target.existing(job)? {
        Existing::Template(found) if found == identity => {
            // With `force`, what may have been damaged since then is written again, under the same manifest.
            let is_right = !options.force || target.has_content(manifest, job)?;
            Ok(if is_right { There::Template } else { object })
        }
        Existing::Nothing => Ok(There::Nothing),
        Existing::Object if is_in_place || target.has_content(manifest, job)? => Ok(There::Object),
        // Another template of that name is not the one that was begun.
        Existing::Object | Existing::Hidden if target.was_begun(&identity) => Ok(object),
        Existing::Hidden if options.force => Ok(There::Nothing),
        Existing::Hidden => Ok(There::Hidden),
        other if !options.force => Err(other.refused(&target.name())),
        _ => {
            target.forget();
            // The new object must not be taken for the old template, nor boot with the profile of that.
            target.remove(MANIFEST, job)?;
            if options.profile.is_none() {
                target.remove(PROFILE, job)?;
            }
            Ok(object)
        }
    }
}

/// Writes the boot profile of a template that was published before. The template stays what it is.
///
/// # Errors
///
/// Those of the store, and if there is no template of that name.
pub fn publish_profile(
    opener: &Opener,
    target: &Path,
    ranges: &[Range<u64>],
    progress: &mut Callback<'_>,
) -> Result<Published> {
    let target = target::open(opener, target, Path::new(""))?;
    let meter = Meter::new(0, true);
    let mut job = Job::new(&meter, progress);
    let Existing::Template(identity) = target.existing(&mut job)? else {
        let message = "There is no template of this name: publish the disk first";
        return Err(Error::invalid_argument(message).with_path(target.name()));
    };
    let options = PublishOptions {
        profile: Some(ranges.to_vec()),
        ..PublishOptions::default()
    };
    let len = target.object_len(&mut job)?;
    Ok(Published {
        name: target.name(),
        identity,
        len,
        data: 0,
        is_new: false,
        profile_entries: put_profile(&*target, len, &options, &mut job)?,
    })
}

fn put_profile(
    target: &dyn Target,
    len: u64,
    options: &PublishOptions,
    job: &mut Job<'_, '_>,
) -> Result<Option<usize>> {
    let Some(ranges) = &options.profile else {
        return Ok(None);
    };
    target.put(PROFILE, Bytes::from(write_profile(len, ranges)), job)?;
    Ok(Some(ranges.len()))
}

/// Bytes of chunks that have a hash. The last chunk may be short.
fn data_of(manifest: &Manifest) -> u64 {
    let head = &manifest.head;
    let chunks = head.len().div_ceil(UNIT);
    let is_last_data = chunks > 0 && head.chunk(chunks - 1).0 != Chunk::Zeros;
    let missing = if is_last_data { chunks * UNIT - head.len() } else { 0 };
    head.data_chunks() * UNIT - missing
}
