//! Opens remote files.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use fvd::process::{Owned, PerProcess};
use fvd::remote::{Pin, RemoteFile, RemoteOpener, Validator};
use fvd::{Error, Result};

use crate::cache::Cache;
use crate::clock::IoClock;
use crate::config::Config;
use crate::counters::{Counters, OutageState, Tally};
use crate::fetch::StoreState;
use crate::file::File;
use crate::hooks::UrlSource;
use crate::name::Name;
use crate::retry::{Health, Hedges};
use crate::store::{self, Credentials, Object, Remote};
use crate::transport::{Client, Transport, io_thread};
use crate::units::{Memory, Opening, Units};

/// Bytes of data that a process keeps, unless it sets another limit.
const MEMORY: u64 = 64 << 20;

static UNITS: PerProcess<Arc<Memory>> = PerProcess::new(|| Arc::new(Memory::new(MEMORY)));

/// Limits the memory for data of remote files, over all of this process, to `bytes`. Default: 64 MiB.
pub fn set_memory_limit(bytes: u64) {
    UNITS.get().set_limit(bytes);
}

/// Opens files in object stores and on web servers.
pub struct Opener {
    config: Config,
    tally: Arc<Tally>,
    clock: Arc<IoClock>,
    /// In a forked child they belong to the parent.
    shared: Owned<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    stores: HashMap<String, Arc<Store>>,
    objects: HashMap<String, Weak<Units>>,
    cache: Option<Arc<Cache>>,
}

/// What the objects of a bucket or of a web server share.
struct Store {
    client: Arc<Client>,
    credentials: Arc<Credentials>,
    state: Arc<StoreState>,
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener")
    }
}

impl Opener {
    /// Sends nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            tally: Arc::default(),
            clock: Arc::new(IoClock::new()),
            shared: Owned::new(Mutex::default()),
        }
    }

    /// As [`RemoteOpener::open`], but reads from the URL that `source` gives, such as a presigned one. Messages
    /// show `name`.
    pub fn open_at(&self, name: &str, source: Arc<dyn UrlSource>, pin: Option<&Pin>) -> Result<Arc<dyn RemoteFile>> {
        let name = Name::parse(name)?;
        let mut store = self.make_store(&name)?;
        store.credentials = Arc::new(store::presigned(source));
        self.open_in(&Arc::new(store), name, pin)
    }

    /// What has been asked of the stores since this was made.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = self.tally.read();
        counters.memory = UNITS.get().used();
        let Ok(shared) = self.shared() else { return counters };
        let now = fvd::host::Clock::now(&*self.clock);
        for store in shared.stores.values() {
            if let Some((lasting, reason)) = store.state.health.outage(now) {
                let store = store.state.label.clone();
                counters.outages.push(OutageState { store, lasting, reason });
            }
        }
        counters
    }

    fn shared(&self) -> Result<MutexGuard<'_, Shared>> {
        Ok(self.shared.get()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn make_store(&self, name: &Name) -> Result<Store> {
        let rule = self.config.rule(&name.text);
        let url = store::locate(name, &rule, &self.config.environment)?;
        let client = store::client(name, &url, &rule, &self.config)?;
        let credentials = store::provider(name, &rule, &self.config, &client)?;
        let state = StoreState {
            label: label(name),
            tuning: self.config.tuning.clone(),
            health: Health::default(),
            hedges: Hedges::new(),
            tally: Arc::clone(&self.tally),
            clock: Arc::clone(&self.clock) as _,
            random: Mutex::new(fastrand::Rng::new()),
        };
        Ok(Store {
            client: Arc::new(client),
            credentials: Arc::new(credentials),
            state: Arc::new(state),
        })
    }

    /// The store of `name`, made when it is first needed.
    fn store(&self, name: &Name) -> Result<Arc<Store>> {
        // Two rules for parts of one server make two stores.
        let key = format!("{} {}", label(name), self.config.key(&name.text));
        if let Some(store) = self.shared()?.stores.get(&key) {
            return Ok(Arc::clone(store));
        }
        let made = Arc::new(self.make_store(name)?);
        Ok(Arc::clone(self.shared()?.stores.entry(key).or_insert(made)))
    }

    fn open_in(&self, store: &Arc<Store>, name: Name, pin: Option<&Pin>) -> Result<Arc<dyn RemoteFile>> {
        let rule = self.config.rule(&name.text);
        let object = Object {
            url: store::locate(&name, &rule, &self.config.environment)?,
            transport: Arc::clone(&store.client) as Arc<dyn Transport>,
            credentials: Arc::clone(&store.credentials),
            gate: self.config.redirect_gate.clone(),
            moved: Mutex::default(),
            name,
        };
        let text = object.name.text.clone();
        let remote: Arc<dyn Remote> = Arc::new(object);
        let opening = Opening {
            url: text.clone(),
            remote,
            store: Arc::clone(&store.state),
            pin: pin.cloned(),
            cache: self.cache()?,
        };
        let memory = Arc::clone(UNITS.get());
        let opened = io_thread::run(async move { Units::open(&memory, opening).await.map(Arc::new) });
        let units = opened??;
        self.shared()?.objects.insert(text.clone(), Arc::downgrade(&units));
        let pin = pin.cloned().unwrap_or_else(|| units.fetcher().identity.pin());
        Ok(Arc::new(File::new(text, pin, units)))
    }

    /// The host cache, if there is one.
    fn cache(&self) -> Result<Option<Arc<Cache>>> {
        let Some(options) = &self.config.cache else {
            return Ok(None);
        };
        let mut shared = self.shared()?;
        let make = || Cache::new(options.clone(), Arc::clone(&self.tally.cache));
        Ok(Some(Arc::clone(shared.cache.get_or_insert_with(make))))
    }

    /// The object of `pin`, if it is open already.
    fn find(&self, name: &str, pin: &Pin) -> Result<Option<Arc<dyn RemoteFile>>> {
        let mut shared = self.shared()?;
        shared.objects.retain(|_, units| units.strong_count() > 0);
        let units = shared.objects.get(name).and_then(Weak::upgrade);
        let units = units.filter(|units| units.fetcher().identity.is_pinned_by(pin));
        Ok(units.map(|units| Arc::new(File::new(name.to_owned(), pin.clone(), units)) as _))
    }
}

impl RemoteOpener for Opener {
    fn open(&self, url: &str, pin: Option<&Pin>) -> Result<Arc<dyn RemoteFile>> {
        self.shared.get()?;
        let name = Name::parse(url)?;
        if let Some(pin) = pin {
            if matches!(pin.validator, Validator::Manifest(_)) {
                return Err(Error::unsupported("This version of fvd reads no manifests").with_path(url));
            }
            if let Some(open) = self.find(&name.text, pin)? {
                return Ok(open);
            }
        }
        let store = self.store(&name)?;
        self.open_in(&store, name, pin)
    }
}

/// Scheme, and host or bucket.
fn label(name: &Name) -> String {
    let port = name.url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", name.url.scheme(), name.bucket())
}
