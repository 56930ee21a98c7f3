//! What an answer to a ranged GET means.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderName, RETRY_AFTER};
use http::{HeaderValue, StatusCode};

use crate::fault::fault;
use crate::fetch::UNIT;
use crate::identity::Identity;
use crate::transport::Response;

/// The largest object that is taken from a server that does not honour `Range`, in bytes.
pub(crate) const WHOLE_LIMIT: u64 = 1 << 20;

/// The answer has data.
pub(crate) struct Data {
    pub(crate) identity: Identity,
    /// Which bytes of the object the body has.
    pub(crate) range: Range<u64>,
}

/// The answer has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Try again, after at least this time, if one is given.
    Later(Option<Duration>),
    /// The credentials are not valid (any more).
    Credentials,
    /// The object is empty.
    Empty,
    /// There is no such object.
    Missing,
    /// It is another object than the one that the request named. The length, if it is known.
    Changed(Option<u64>),
    /// It will not get better.
    Unfit(String),
}

/// Reads the head of `answer` to a request for `asked`.
pub(crate) fn read_head(answer: &Response, asked: &Range<u64>, now: SystemTime) -> Result<Data, Refusal> {
    match answer.status {
        StatusCode::PARTIAL_CONTENT => partial(&answer.headers, asked),
        // rclone does that.
        StatusCode::OK if answer.headers.contains_key(CONTENT_RANGE) => partial(&answer.headers, asked),
        StatusCode::OK => whole(&answer.headers, asked),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Refusal::Credentials),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(Refusal::Missing),
        StatusCode::PRECONDITION_FAILED => Err(Refusal::Changed(None)),
        StatusCode::RANGE_NOT_SATISFIABLE => Err(unsatisfiable(&answer.headers, asked)),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY => {
            Err(Refusal::Later(retry_after(&answer.headers, now)))
        }
        status if status.is_server_error() => Err(Refusal::Later(retry_after(&answer.headers, now))),
        status => Err(Refusal::Unfit(unexpected(status, &answer.headers))),
    }
}

/// What a body of an error says beyond its status: S3 reports some temporary conditions with status 400.
pub(crate) fn read_error(body: &[u8]) -> Option<Refusal> {
    let text = String::from_utf8_lossy(body);
    if ["ExpiredToken", "TokenRefreshRequired", "InvalidToken"]
        .iter()
        .any(|code| text.contains(code))
    {
        return Some(Refusal::Credentials);
    }
    text.contains("RequestTimeout").then_some(Refusal::Later(None))
}

fn partial(headers: &HeaderMap, asked: &Range<u64>) -> Result<Data, Refusal> {
    let unfit = |text: String| Err(Refusal::Unfit(text));
    check_encoding(headers)?;
    let value = headers
        .get(CONTENT_RANGE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let Some((range, total)) = content_range(value) else {
        return unfit(format!(
            "the server sent a part without saying which (Content-Range: {value:?})"
        ));
    };
    let is_wanted = range.start == asked.start && range.end <= asked.end && range.end <= total && !range.is_empty();
    if !is_wanted && !fault!(RangeUnchecked) {
        let last = asked.end - 1;
        return unfit(format!(
            "the server was asked for bytes {}-{last} and sent others (Content-Range: {value:?})",
            asked.start
        ));
    }
    if let Some(len) = length(headers)
        && len != range.end - range.start
    {
        return unfit(format!("the server announces {len} bytes for Content-Range {value:?}"));
    }
    let identity = Identity::of(total, headers);
    Ok(Data { identity, range })
}

/// A server that answers a range with the whole object.
fn whole(headers: &HeaderMap, asked: &Range<u64>) -> Result<Data, Refusal> {
    check_encoding(headers)?;
    match length(headers) {
        Some(0) => Err(Refusal::Empty),
        Some(len) if len <= asked.start => Err(Refusal::Changed(Some(len))),
        // The first request is for this much, whatever the object has.
        Some(UNIT) if *asked == (0..UNIT) => Err(Refusal::Unfit(
            "the server answers 200 to a request for the first 262144 bytes and sends as many: nothing says whether \
             that is the whole file"
                .to_owned(),
        )),
        Some(len) if len <= WHOLE_LIMIT => Ok(Data {
            identity: Identity::of(len, headers),
            range: 0..len,
        }),
        _ => Err(Refusal::Unfit(
            "the server sends whole files only (it answers 200 to requests for a range), so every read would \
             transfer all of it"
                .to_owned(),
        )),
    }
}

fn check_encoding(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity" | b"") => Ok(()),
        Some(other) => Err(Refusal::Unfit(format!(
            "the server sends the file encoded as {:?}, so offsets mean nothing",
            String::from_utf8_lossy(other)
        ))),
    }
}

fn unsatisfiable(headers: &HeaderMap, asked: &Range<u64>) -> Refusal {
    let value = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let total = value.and_then(|value| value.strip_prefix("bytes */")?.parse().ok());
    match total {
        Some(0) if asked.start == 0 => Refusal::Empty,
        None if asked.start == 0 => Refusal::Unfit("the server sends no part of this file (status 416)".to_owned()),
        total => Refusal::Changed(total),
    }
}

fn unexpected(status: StatusCode, headers: &HeaderMap) -> String {
    let region = headers.get(HeaderName::from_static("x-amz-bucket-region"));
    match region.and_then(|value| value.to_str().ok()) {
        Some(region) => format!(
            "the bucket is in another region: {region:?} (AWS_REGION, or `region` in the configuration; status {})",
            status.as_u16()
        ),
        None => format!("the server answered with status {status}"),
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// `bytes 0-9/100`: the range and the total.
fn content_range(value: &str) -> Option<(Range<u64>, u64)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    Some((first..last.checked_add(1)?, total.parse().ok()?))
}

/// `Retry-After`: seconds or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use fvd::host::BoxFuture;

    use super::*;
    use crate::transport::{Body, Failure};

    struct NoBody;

    impl Body for NoBody {
        fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Failure>> {
            Box::pin(async { Ok(None) })
        }
    }

    #[test]
    fn content_ranges_that_lie_are_refused() {
        let head = |value: &'static str| {
            let headers = HeaderMap::from_iter([(CONTENT_RANGE, HeaderValue::from_static(value))]);
            partial(&headers, &(100..200))
        };
        assert!(head("bytes 100-199/1000").is_ok());
        assert!(head("bytes 100-149/150").is_ok(), "the end of the object");
        for value in [
            "bytes 0-99/1000",
            "bytes 101-199/1000",
            "bytes 100-200/1000",
            "bytes 100-199/150",
            "bytes 100-99/1000",
            "bytes 100-199/*",
            "bytes 100-18446744073709551615/1000",
            "bytes=100-199/1000",
            "items 100-199/1000",
            "",
        ] {
            assert!(matches!(head(value), Err(Refusal::Unfit(_))), "{value}");
        }
    }

    #[test]
    fn a_part_that_may_be_taken_for_a_whole_file_is_refused() {
        let answer = |asked: Range<u64>, len: &str, range: Option<&'static str>| {
            let mut headers = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::try_from(len).expect("valid"))]);
            headers.extend(range.map(|range| (CONTENT_RANGE, HeaderValue::from_static(range))));
            let answer = Response {
                status: StatusCode::OK,
                headers,
                body: Box::new(NoBody),
            };
            read_head(&answer, &asked, SystemTime::UNIX_EPOCH).map(|data| (data.identity.len, data.range))
        };
        assert!(matches!(answer(0..UNIT, "262144", None), Err(Refusal::Unfit(_))));
        let part = answer(0..UNIT, "262144", Some("bytes 0-262143/3145728")).expect("it says what it is");
        assert_eq!(part, (3_145_728, 0..UNIT));
        assert_eq!(answer(0..UNIT, "1000", None).expect("a small file"), (1000, 0..1000));
        assert_eq!(
            answer(0..UNIT, "300000", None).expect("a small file"),
            (300_000, 0..300_000)
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Mon, 30 Nov 2026 10:00:00 GMT").expect("valid");
        let read = |value: &'static str| {
            retry_after(
                &HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]),
                now,
            )
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Mon, 30 Nov 2026 10:01:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(read("Mon, 30 Nov 2026 09:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
    }
}
