//! Boot profiles: what a machine needs first of a template. The format is that of `fvd profile export`.

use std::fmt::Write as _;
use std::ops::Range;

use fvd::{Error, Result};
use serde::Deserialize;

use super::place::{Asked, Place};

/// Bytes of the longest profile that is read.
const LIMIT: u64 = 16 << 20;
const VERSION: u32 = 1;

#[derive(Deserialize)]
struct File {
    #[serde(rename = "fvd-profile")]
    version: u32,
    entries: Vec<(u64, u64)>,
}

/// The ranges, in bytes of the disk, that the text of a file names.
///
/// # Errors
///
/// If it is no profile of a version that is known.
fn parse_profile(text: &[u8]) -> Result<Vec<Range<u64>>> {
    let refused = |why: String| Error::invalid_argument(format!("This is not a prefetch profile: {why}"));
    let file: File = serde_json::from_slice(text).map_err(|error| refused(error.to_string()))?;
    if file.version != VERSION {
        let why = format!("its version is {}, only {VERSION} is known", file.version);
        return Err(refused(why));
    }
    let range = |(offset, len): (u64, u64)| offset..offset.saturating_add(len);
    Ok(file.entries.into_iter().map(range).collect())
}

/// The text of a file with these ranges, in bytes, of a disk of `len` bytes.
pub(crate) fn write_profile(len: u64, ranges: &[Range<u64>]) -> String {
    let mut entries = String::new();
    for (number, range) in ranges.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        // Writing to a string never fails.
        _ = write!(entries, "{comma}\n[{}, {}]", range.start, range.end - range.start);
    }
    format!("{{\"fvd-profile\": {VERSION}, \"disk-size\": {len}, \"unit\": 4096, \"entries\": [{entries}\n]}}\n")
}

/// The profile of a template. It is advice: without it everything works, so no failure is an error.
pub(super) async fn load_profile(place: &Place) -> Option<Vec<Range<u64>>> {
    let loaded = match place.ask(0..LIMIT, false, |_| false).await {
        Ok(Asked::Nothing(error) | Asked::Hidden(error)) => {
            tracing::debug!(url = %place.url, %error, "there is no boot profile");
            return None;
        }
        Ok(Asked::Part(part)) if part.total > LIMIT => Err(Error::invalid_argument("It has more than 16 MiB")),
        Ok(Asked::Part(part)) => parse_profile(&part.bytes),
        Err(error) => Err(error),
    };
    let told = loaded.inspect_err(|error| {
        tracing::warn!(url = %place.url, %error, "a boot profile cannot be used");
    });
    told.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_as_it_was_written() {
        let ranges = [65536..73728, 0..4096];
        let text = write_profile(1 << 20, &ranges);
        assert_eq!(parse_profile(text.as_bytes()).expect("valid"), ranges);
        assert_eq!(parse_profile(write_profile(0, &[]).as_bytes()).expect("valid"), []);
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        for text in [
            "",
            "[]",
            "{\"entries\": []}",
            "{\"fvd-profile\": 2, \"entries\": []}",
            "{\"fvd-profile\": 1, \"entries\": [[-1, 5]]}",
            "{\"fvd-profile\": 1, \"entries\": [[1]]}",
        ] {
            assert!(parse_profile(text.as_bytes()).is_err(), "{text}");
        }
        let huge = "{\"fvd-profile\": 1, \"entries\": [[18446744073709551615, 18446744073709551615]]}";
        let last = u64::MAX..u64::MAX;
        assert_eq!(parse_profile(huge.as_bytes()).expect("harmless"), [last]);
    }
}
