//! The head of a manifest, and the pages that come with it.

use fvd::{Error, ErrorKind, Result};

use super::head::{FIXED, HASH, Hash, Head, MAX_HEAD, PAGE, hash, head_len, is_manifest};
use super::place::{Asked, Part, Place};
use super::verified::hex;

/// What the first request asks for: with it comes all of the manifest of a disk with 2 GiB of data.
const FIRST: u64 = 2 * PAGE;

/// A head, and what came with it.
pub(crate) struct Loaded {
    pub(crate) head: Head,
    pub(crate) identity: Hash,
    /// The bytes of the head.
    pub(crate) bytes: Vec<u8>,
    /// The first pages, which have been checked.
    pub(crate) pages: Vec<Vec<u8>>,
}

/// Loads a manifest. `wanted`: the length of the object and the identity that it must have. Without one, None says
/// that there is no manifest.
pub(crate) async fn load(place: &Place, wanted: Option<(u64, &Hash)>) -> Result<Option<Loaded>> {
    let is_other = |bytes: &[u8]| bytes.len() >= FIXED && !is_manifest(bytes);
    let part = match place.ask(0..FIRST, wanted.is_some(), is_other).await? {
        Asked::Part(part) => part,
        Asked::Nothing(error) | Asked::Hidden(error) => {
            tracing::debug!(url = %place.url, %error, "there is no manifest");
            return Ok(None);
        }
    };
    if wanted.is_none() && !is_manifest(&part.bytes) {
        // Some servers have an answer to any name.
        tracing::debug!(url = %place.url, "what is there is no manifest");
        return Ok(None);
    }
    let loaded = complete(place, part, wanted).await;
    loaded.map(Some).map_err(|error| error.with_path(&place.url))
}

async fn complete(place: &Place, part: Part, wanted: Option<(u64, &Hash)>) -> Result<Loaded> {
    let Part { total, mut bytes } = part;
    let len = head_len(&bytes).map_err(|error| instead(wanted, error))?;
    if (bytes.len() as u64) < len {
        debug_assert!(len <= MAX_HEAD, "heads are limited");
        let asked = place.ask(bytes.len() as u64..len, true, |_| false).await?;
        if let Asked::Part(part) = asked {
            bytes.extend(part.bytes);
        }
    }
    if (bytes.len() as u64) < len {
        return Err(Error::new(ErrorKind::Io, "The manifest ends within its head"));
    }
    let rest = bytes.split_off(len as usize);
    let identity = hash(&bytes);
    if let Some((_, wanted)) = wanted
        && *wanted != identity
    {
        return Err(another(wanted, &format!("There is now manifest {}", hex(&identity))));
    }
    let head = Head::decode(&bytes)?;
    if total != head.encoded_len() + head.data_chunks() * HASH as u64 {
        return Err(Error::new(
            ErrorKind::Io,
            format!("The manifest is damaged: it has {total} bytes, which does not fit its head"),
        ));
    }
    if wanted.is_some_and(|(len, _)| len != head.len()) {
        return Err(Error::new(
            ErrorKind::Io,
            "The manifest is of an object of another length",
        ));
    }
    let pages = first_pages(&head, &rest);
    Ok(Loaded {
        head,
        identity,
        bytes,
        pages,
    })
}

/// The whole pages at the start of `rest`, as far as they are right.
fn first_pages(head: &Head, rest: &[u8]) -> Vec<Vec<u8>> {
    let pages = (0..).zip(head.pages()).map_while(|(page, expected)| {
        let range = head.page_range(page);
        let at = |offset: u64| (offset - head.encoded_len()) as usize;
        let bytes = rest.get(at(range.start)..at(range.end))?;
        (hash(bytes) == *expected).then(|| bytes.to_vec())
    });
    pages.collect()
}

fn instead(wanted: Option<(u64, &Hash)>, error: Error) -> Error {
    wanted.map_or(error, |(_, wanted)| another(wanted, "There is now something else"))
}

fn another(wanted: &Hash, found: &str) -> Error {
    let text = format!(
        "The base is no longer what it was. Expected: manifest {}. {found}. `fvd amend -o backing_pin=update` accepts \
         another object",
        hex(wanted)
    );
    Error::new(ErrorKind::Io, text)
}
