//! A server in memory, in virtual time, and a reader of one unit of it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fvd::host::BoxFuture;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::{Instant, sleep};

use super::super::{Fetcher, Sink, StoreState, UNIT, fetch};
use crate::clock::IoClock;
use crate::config::Tuning;
use crate::identity::Identity;
use crate::store::Remote;
use crate::transport::{Body, Failure, Response};

const LEN: u64 = 64 * UNIT;

/// What the server does with a request.
#[derive(Clone, Copy)]
pub(super) enum Act {
    Serve,
    /// After this many milliseconds.
    Late(u64),
    /// A status, perhaps with `Retry-After`.
    Status(u16, Option<&'static str>),
    Silence,
    /// A kilobyte of the body in this many milliseconds.
    Slow(u64),
}

struct Script {
    acts: Mutex<VecDeque<Act>>,
    /// When requests came, since the start.
    log: Mutex<Vec<Duration>>,
    start: Instant,
    generation: AtomicU64,
}

impl Remote for Script {
    fn get<'a>(
        &'a self,
        range: Range<u64>,
        _expected: Option<&'a Identity>,
        _is_fresh: bool,
    ) -> BoxFuture<'a, Result<Response, Failure>> {
        Box::pin(async move {
            self.log.lock().expect("no panic").push(self.start.elapsed());
            let act = self.acts.lock().expect("no panic").pop_front().unwrap_or(Act::Serve);
            let mut headers = HeaderMap::new();
            let value = format!("bytes {}-{}/{LEN}", range.start, range.end - 1);
            headers.insert("content-range", HeaderValue::try_from(value).expect("valid"));
            let mut pause = Duration::ZERO;
            let mut status = StatusCode::PARTIAL_CONTENT;
            match act {
                Act::Serve => {}
                Act::Late(ms) => sleep(Duration::from_millis(ms)).await,
                Act::Silence => std::future::pending().await,
                Act::Slow(ms) => pause = Duration::from_millis(ms),
                Act::Status(code, after) => {
                    status = StatusCode::from_u16(code).expect("valid");
                    headers.extend(after.map(|after| (http::header::RETRY_AFTER, HeaderValue::from_static(after))));
                }
            }
            let body = Pieces {
                left: range.end - range.start,
                pause,
            };
            Ok(Response {
                status,
                headers,
                body: Box::new(body),
            })
        })
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    fn refresh(&self, generation: u64) -> BoxFuture<'_, Result<(), Failure>> {
        self.generation.store(generation + 1, Ordering::SeqCst);
        Box::pin(async { Ok(()) })
    }
}

struct Pieces {
    left: u64,
    pause: Duration,
}

impl Body for Pieces {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Failure>> {
        Box::pin(async {
            let size = if self.pause.is_zero() {
                self.left
            } else {
                self.left.min(1024)
            };
            sleep(self.pause).await;
            self.left -= size;
            Ok((size > 0).then(|| Bytes::from(vec![1; size as usize])))
        })
    }
}

/// Wants one unit.
#[derive(Default)]
pub(super) struct One {
    pub(super) has_come: AtomicBool,
    pub(super) is_ahead: bool,
}

impl Sink for One {
    fn missing(&self) -> Option<Range<u64>> {
        (!self.has_come.load(Ordering::SeqCst)).then_some(UNIT..2 * UNIT)
    }

    fn put(&self, index: u64, unit: Bytes) {
        assert_eq!((index, unit.len() as u64), (1, UNIT));
        self.has_come.store(true, Ordering::SeqCst);
    }

    fn is_wanted(&self) -> bool {
        !self.is_ahead
    }

    fn demanded(&self) -> BoxFuture<'_, ()> {
        if self.is_ahead {
            Box::pin(std::future::pending())
        } else {
            Box::pin(std::future::ready(()))
        }
    }

    fn asked_again(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn admit(&self) -> BoxFuture<'_, Box<dyn Send>> {
        Box::pin(async { Box::new(()) as Box<dyn Send> })
    }
}

pub(super) struct Bench {
    script: Arc<Script>,
    pub(super) fetcher: Fetcher,
}

impl Bench {
    pub(super) fn new(acts: &[Act], tuning: Tuning) -> Self {
        let script = Arc::new(Script {
            acts: Mutex::new(acts.iter().copied().collect()),
            log: Mutex::default(),
            start: Instant::now(),
            generation: AtomicU64::new(0),
        });
        let mut store = StoreState::new("test".to_owned(), tuning, Arc::default(), Arc::new(IoClock::new()));
        store.random = Mutex::new(fastrand::Rng::with_seed(1));
        let fetcher = Fetcher {
            url: "http://test/".to_owned(),
            remote: Arc::clone(&script) as _,
            identity: Identity::of(LEN, &HeaderMap::new()),
            store: Arc::new(store),
            begun: Mutex::default(),
        };
        Self { script, fetcher }
    }

    pub(super) async fn fetch(&self) -> fvd::Result<()> {
        fetch(&self.fetcher, &One::default()).await.expect("it is wanted")
    }

    /// When requests came, in milliseconds.
    pub(super) fn times(&self) -> Vec<u64> {
        let log = self.script.log.lock().expect("no panic");
        log.iter().map(|time| time.as_millis() as u64).collect()
    }
}
