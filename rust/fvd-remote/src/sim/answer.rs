//! What a request gets.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fvd::host::BoxFuture;
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MATCH, IF_UNMODIFIED_SINCE, LAST_MODIFIED, LOCATION,
    RANGE, RETRY_AFTER,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::time::sleep;

use super::case::{Lie, Marks};
use super::store::{Running, Store};
use crate::fetch::UNIT;
use crate::transport::{Body, Failure, FailureKind, Request, Response};

const VERSION: HeaderName = HeaderName::from_static("x-amz-version-id");

/// What a request is for.
pub(super) struct Way {
    pub(super) object: u64,
    pub(super) range: Range<u64>,
    /// Not the host that a redirect leads to.
    pub(super) host_is_store: bool,
}

impl Way {
    pub(super) fn of(request: &Request) -> Self {
        let range = text(&request.headers, &RANGE).expect("every request is for a range");
        let (first, last) = range["bytes=".len()..].split_once('-').expect("a range");
        Self {
            object: request.url.path()[1..].parse().expect("a number"),
            range: first.parse().expect("a number")..last.parse::<u64>().expect("a number") + 1,
            host_is_store: request.url.host_str() == Some("store"),
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn marks(marks: Marks, version: u64) -> (HeaderName, HeaderValue) {
    let text = match marks {
        Marks::ETag => format!("\"v{version}\""),
        Marks::Modified => format!("Mon, 30 Nov 2026 10:00:0{version} GMT"),
        Marks::Version => format!("v{version}"),
    };
    let name = match marks {
        Marks::ETag => ETAG,
        Marks::Modified => LAST_MODIFIED,
        Marks::Version => VERSION,
    };
    (name, HeaderValue::try_from(text).expect("valid"))
}

/// How the body of an answer goes.
#[derive(Clone, Copy, Default)]
struct Course {
    /// It ends, or stops, after this many bytes.
    cut: Option<usize>,
    stall: Option<usize>,
    drips: bool,
}

pub(super) async fn respond(
    store: &Arc<Store>,
    process: usize,
    request: &Request,
    running: Running,
) -> Result<Response, Failure> {
    let weather = store.case.weather;
    let way = Way::of(request);
    // What was valid when the request came.
    let admission = admission(store, request, &way);
    let latency = latency(store);
    if store.is_away() {
        return away(store, latency, running).await;
    }
    if store.chance(weather.silence) {
        std::future::pending::<()>().await;
    }
    sleep(latency).await;
    if store.is_away() || store.chance(weather.reset) {
        return Err(broken("the connection broke before the answer"));
    }
    if store.chance(weather.error) {
        return Ok(error(store, process));
    }
    if let Some(answer) = admission {
        return Ok(answer);
    }
    Ok(serve(store, request, &way, running))
}

fn latency(store: &Store) -> Duration {
    let weather = store.case.weather;
    let mut latency = weather.latency;
    if !weather.is_steady {
        latency += store.random(|random| random.u64(..=weather.latency));
    }
    if store.chance(weather.tail) {
        latency *= store.random(|random| random.u64(10..200));
    }
    Duration::from_millis(latency)
}

/// The store is away: silent, not there, or answering with errors, by the seed.
async fn away(store: &Store, latency: Duration, _running: Running) -> Result<Response, Failure> {
    match store.case.seed / 8 % 3 {
        _ if store.is_silent_when_away() => std::future::pending().await,
        1 => Err(Failure::new(FailureKind::Connect, "nothing answers there")),
        _ => {
            sleep(latency).await;
            Ok(empty(StatusCode::SERVICE_UNAVAILABLE, HeaderMap::new()))
        }
    }
}

fn broken(text: &str) -> Failure {
    Failure::new(FailureKind::Broken, text)
}

fn empty(status: StatusCode, headers: HeaderMap) -> Response {
    let body = Box::new(Nothing);
    Response { status, headers, body }
}

fn error(store: &Store, process: usize) -> Response {
    let (status, pause) = store.random(|random| {
        let status = [408, 429, 500, 502, 503, 504][random.usize(..6)];
        (status, random.bool().then(|| random.u64(..5)))
    });
    let mut headers = HeaderMap::new();
    if let Some(pause) = pause {
        headers.insert(RETRY_AFTER, pause.into());
        store.demand_pause(process, Duration::from_secs(pause));
    }
    empty(StatusCode::from_u16(status).expect("valid"), headers)
}

/// Whether the request may have what it asks for here.
fn admission(store: &Store, request: &Request, way: &Way) -> Option<Response> {
    let now = store.now().as_millis() as u64;
    let number = |text: &str| text.parse::<u64>().ok();
    if !way.host_is_store {
        let until = request
            .url
            .query()
            .and_then(|query| number(query.strip_prefix("until=")?));
        return (until? <= now).then(|| empty(StatusCode::FORBIDDEN, HeaderMap::new()));
    }
    if !store.accepts(text(&request.headers, &HeaderName::from_static("x-token")).and_then(number)) {
        return Some(empty(StatusCode::FORBIDDEN, HeaderMap::new()));
    }
    let validity = store.case.redirect.filter(|_| store.redirects())?;
    let target = format!(
        "http://elsewhere/{}?until={}",
        way.object,
        now + validity.as_millis() as u64
    );
    let location = HeaderValue::try_from(target).expect("valid");
    Some(empty(StatusCode::FOUND, HeaderMap::from_iter([(LOCATION, location)])))
}

fn serve(store: &Arc<Store>, request: &Request, way: &Way, running: Running) -> Response {
    let Some((version, data)) = store.current(way.object) else {
        return empty(StatusCode::NOT_FOUND, HeaderMap::new());
    };
    let mark = marks(store.case.marks, version);
    if store.case.is_honest && !is_expected(request, &mark) {
        return empty(StatusCode::PRECONDITION_FAILED, HeaderMap::new());
    }
    let mut headers = HeaderMap::from_iter([mark.clone()]);
    let mut len = data.len() as u64;
    let mut range = way.range.start..way.range.end.min(len);
    if range.is_empty() {
        let value = HeaderValue::try_from(format!("bytes */{len}")).expect("valid");
        return empty(
            StatusCode::RANGE_NOT_SATISFIABLE,
            HeaderMap::from_iter([(CONTENT_RANGE, value)]),
        );
    }
    if store.chance(store.case.weather.short) {
        range.end = (range.start / UNIT * UNIT + UNIT).min(range.end);
    }
    let mut status = StatusCode::PARTIAL_CONTENT;
    let lie = store.lie();
    match lie {
        Some(Lie::OtherRange) if range.end - range.start > 1000 => range.start += 1000,
        Some(Lie::OtherLength) => len += 1,
        Some(Lie::NoMark) => drop(headers.remove(mark.0)),
        Some(Lie::Encoded) => drop(headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"))),
        Some(Lie::Whole) => (status, range) = (StatusCode::OK, 0..len),
        _ => {}
    }
    if status == StatusCode::PARTIAL_CONTENT && lie != Some(Lie::NoRange) {
        let value = format!("bytes {}-{}/{len}", range.start, range.end - 1);
        headers.insert(CONTENT_RANGE, HeaderValue::try_from(value).expect("valid"));
    }
    headers.insert(CONTENT_LENGTH, (range.end - range.start).into());
    if way.host_is_store {
        store.sends(way.object, range.start / UNIT..range.end.div_ceil(UNIT));
    }
    let data = data.slice(range.start as usize..range.end as usize);
    let body = Box::new(Sending {
        course: course(store, data.len()),
        store: Arc::clone(store),
        start: range.start,
        data,
        sent: 0,
        running,
    });
    Response { status, headers, body }
}

/// Whether the object with this mark is the one that the request names.
fn is_expected(request: &Request, (name, mark): &(HeaderName, HeaderValue)) -> bool {
    let named = match *name {
        ETAG => request.headers.get(IF_MATCH),
        LAST_MODIFIED => request.headers.get(IF_UNMODIFIED_SINCE),
        _ => None,
    };
    named.is_none_or(|named| named == mark)
}

fn course(store: &Store, len: usize) -> Course {
    let weather = store.case.weather;
    let some = |often| store.chance(often).then(|| store.random(|random| random.usize(..=len)));
    Course {
        cut: some(weather.cut),
        stall: some(weather.stall),
        drips: store.chance(weather.drip),
    }
}

struct Nothing;

impl Body for Nothing {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Failure>> {
        Box::pin(async { Ok(None) })
    }
}

struct Sending {
    store: Arc<Store>,
    /// Of `data` in the object.
    start: u64,
    data: Bytes,
    sent: usize,
    course: Course,
    running: Running,
}

impl Body for Sending {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Failure>> {
        Box::pin(async {
            let Course { cut, stall, drips } = self.course;
            if stall.is_some_and(|at| self.sent >= at) {
                std::future::pending::<()>().await;
            }
            if cut.is_some_and(|at| self.sent >= at) || self.store.is_away() {
                return Err(broken("the connection broke in the answer"));
            }
            let most = match self.store.case.weather.rate {
                _ if drips => 1024,
                Some(_) => 65_536,
                None => self
                    .store
                    .random(|random| [1, 5000, 65_536, 1 << 20][random.usize(..4)]),
            };
            let end = [Some(self.data.len()), cut, stall].into_iter().flatten().min();
            let size = end.unwrap_or(0).saturating_sub(self.sent).min(most);
            let pause = if drips {
                Duration::from_secs(1)
            } else {
                self.store.transfer(size)
            };
            if !pause.is_zero() {
                sleep(pause).await;
            }
            let piece = self.data.slice(self.sent..self.sent + size);
            self.sent += size;
            self.running.has_sent(self.start + self.sent as u64);
            Ok((size > 0).then_some(piece))
        })
    }
}
