//! A process that reads objects: the crate as it is, from the file down to the request.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fvd::remote::{Pin, RemoteFile};
use http::{HeaderMap, HeaderValue};
use tokio::time::sleep;

use super::disk::Disk;
use super::store::{Store, Wire};
use crate::cache::Cache;
use crate::clock::IoClock;
use crate::config::Outage;
use crate::counters::Tally;
use crate::fetch::StoreState;
use crate::file::File;
use crate::name::Name;
use crate::open_options::Redirects;
use crate::store::{Credentials, Object, Provider};
use crate::units::{Memory, Opening, Units};

pub(super) struct Process {
    pub(super) store: Arc<Store>,
    pub(super) number: usize,
    pub(super) memory: Arc<Memory>,
    pub(super) state: Arc<StoreState>,
    pub(super) tally: Arc<Tally>,
    credentials: Arc<Credentials>,
    cache: Option<Arc<Cache>>,
}

impl Process {
    pub(super) fn new(store: &Arc<Store>, number: usize, disk: Option<&Disk>) -> Self {
        let case = &store.case;
        let tally = Arc::<Tally>::default();
        let clock = Arc::new(IoClock::new());
        let mut state = StoreState::new(
            "http://store".to_owned(),
            case.tuning.clone(),
            Arc::clone(&tally),
            clock,
        );
        state.random = Mutex::new(fastrand::Rng::with_seed(case.seed + number as u64));
        let asked = Arc::clone(store);
        let provider = Provider::Simulated(Box::new(move || {
            let store = Arc::clone(&asked);
            Box::pin(async move {
                let value = HeaderValue::from(store.ask_token().await?);
                Ok(HeaderMap::from_iter([(
                    http::HeaderName::from_static("x-token"),
                    value,
                )]))
            })
        }));
        Self {
            store: Arc::clone(store),
            number,
            memory: Arc::new(Memory::new(case.memory)),
            state: Arc::new(state),
            tally,
            credentials: Arc::new(Credentials::new(provider, HeaderMap::new())),
            cache: disk.map(|disk| Cache::on(Arc::new(disk.clone()), 1 << 30)),
        }
    }

    /// Opens an object, as often as it takes. None: it cannot be opened any more, or not for a minute.
    pub(super) async fn open(&self, object: usize, pin: Option<Pin>) -> Option<Arc<Units>> {
        for _ in 0..60 {
            self.store.set_opening(self.number, true);
            let opened = Units::open(&self.memory, self.opening(object, pin.clone())).await;
            self.store.set_opening(self.number, false);
            match opened {
                Ok(units) => return Some(Arc::new(units)),
                Err(_) if self.store.may_fail() => return None,
                Err(error) if self.store.case.is_calm() => self.store.violation(&format!("an open failed: {error}")),
                Err(_) => {}
            }
            sleep(Duration::from_secs(1)).await;
        }
        None
    }

    fn opening(&self, object: usize, pin: Option<Pin>) -> Opening {
        let url = format!("http://store/{object}");
        let name = Name::parse(&url).expect("valid");
        let wire = Wire {
            store: Arc::clone(&self.store),
            process: self.number,
        };
        let remote = Object {
            url: name.url.clone(),
            name,
            transport: Arc::new(wire),
            credentials: Arc::clone(&self.credentials),
            redirects: Redirects::Anywhere,
            moved: Mutex::default(),
            has_left_host: AtomicBool::new(false),
        };
        Opening {
            url,
            remote: Arc::new(remote),
            store: Arc::clone(&self.state),
            pin,
            cache: self.cache.clone(),
            already_open: None,
            sidecars: None,
        }
    }

    /// A file of an object that is open, as each open of it is one.
    pub(super) fn file(&self, object: usize, units: &Arc<Units>) -> Arc<dyn RemoteFile> {
        let pin = units.source().pin();
        let url = format!("http://store/{object}");
        Arc::new(File::new(url, pin, Arc::clone(units), self.limit()))
    }

    pub(super) fn limit(&self) -> Option<Duration> {
        match self.state.tuning.on_outage {
            Outage::Wait => None,
            Outage::Report(limit) => Some(limit),
        }
    }
}
