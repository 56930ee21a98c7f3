//! Where a template is written to.

use std::path::Path;

use bytes::Bytes;
use fvd::source::BaseSource;
use fvd::url::is_url;
use fvd::{Error, Result};
use percent_encoding::utf8_percent_encode;

use super::local::Local;
use super::scan::Scan;
use super::upload::Upload;
use super::work::Job;
use crate::manifest::{Hash, Manifest, hex};
use crate::name::{Name, Scheme};
use crate::opener::Opener;
use crate::store::KEY;

/// What has the name of a template already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    Nothing,
    /// The store does not tell what is there.
    Hidden,
    /// An object without a manifest.
    Object,
    Template(Hash),
}

impl Existing {
    pub(super) fn refused(self, name: &str) -> Error {
        let what = match self {
            Self::Template(identity) => format!("Another template has this name: manifest {}", hex(&identity)),
            _ => "There is something of this name, which is no template".to_owned(),
        };
        let error = Error::invalid_argument(format!(
            "{what}. Images that stand on it could no longer be read. --force \
             (force=True) replaces it"
        ));
        error.with_path(name)
    }
}

/// A place for an object and its sidecars.
pub(crate) trait Target {
    /// As messages show it.
    fn name(&self) -> String;

    /// Whether this is the file of `source`, which then stays as it is. An error if it would be overwritten.
    fn is(&self, source: &dyn BaseSource) -> Result<bool>;

    fn existing(&self, job: &mut Job<'_, '_>) -> Result<Existing>;

    /// Length of the object in bytes.
    fn object_len(&self, job: &mut Job<'_, '_>) -> Result<u64>;

    /// Whether the object that is there is that of `manifest`, if that can be known.
    fn has_content(&self, manifest: &Manifest, job: &mut Job<'_, '_>) -> Result<bool>;

    /// Whether an earlier call has begun to write this very template.
    fn was_begun(&self, identity: &Hash) -> bool;

    /// What an earlier call has written is no longer there.
    fn forget(&self) {}

    /// Writes the object. With `is_hidden`, only if there is none of that name.
    fn put_object(&mut self, scan: &Scan<'_>, is_hidden: bool, job: &mut Job<'_, '_>) -> Result<()>;

    /// Writes the object whose name ends with `suffix`, as a whole.
    fn put(&self, suffix: &str, bytes: Bytes, job: &mut Job<'_, '_>) -> Result<()>;

    /// Removes the object whose name ends with `suffix`, if it is there.
    fn remove(&self, suffix: &str, job: &mut Job<'_, '_>) -> Result<()>;

    /// All is written.
    fn finish(&mut self) {}
}

/// The target with this name. `source`: gives a name to what goes into a folder.
pub(super) fn open(opener: &Opener, target: &Path, source: &Path) -> Result<Box<dyn Target>> {
    let file = || {
        let file = source.file_name().and_then(|file| file.to_str());
        file.ok_or_else(|| Error::invalid_argument("The target is a folder: name the object in it").with_path(target))
    };
    if !is_url(target.as_os_str()) {
        let is_folder = target.is_dir() || target.as_os_str().as_encoded_bytes().ends_with(b"/");
        let path = if is_folder {
            target.join(file()?)
        } else {
            target.to_owned()
        };
        return Ok(Box::new(Local::new(path)));
    }
    let text = target
        .to_str()
        .ok_or_else(|| Error::invalid_argument("The target is no UTF-8"))?;
    let scheme = text.split("://").next().unwrap_or_default();
    if scheme.starts_with("http") || scheme.starts_with("nbd") {
        return Err(Error::unsupported(format!(
            "fvd writes nothing to {scheme}://. Publish to a folder (fvd publish SOURCE DIR/NAME), and copy NAME, \
             NAME.fvd-manifest and perhaps NAME.fvd-profile to where the server has its files, the manifest last"
        )));
    }
    let text = if text.ends_with('/') {
        format!("{text}{}", utf8_percent_encode(file()?, KEY))
    } else {
        text.to_owned()
    };
    let name = Name::parse(&text)?;
    if name.scheme == Scheme::Web || name.url.query().is_some() {
        return Err(Error::invalid_argument("A template is published under a name without a query").with_path(text));
    }
    Ok(Box::new(Upload::new(opener, name)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_name_of_a_file_is_the_name_of_the_object_whatever_is_in_it() {
        let opener = Opener::new(Config::new());
        let named =
            |file: &str| open(&opener, Path::new("s3://images/a/"), Path::new(file)).map(|target| target.name());
        for (file, name) in [
            ("/x/debian-12_1.raw", "s3://images/a/debian-12_1.raw"),
            ("a b%20#?.raw", "s3://images/a/a%20b%2520%23%3F.raw"),
        ] {
            assert_eq!(named(file).expect("a name"), name);
        }
    }
}
