//! Opens remote files.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use fvd::process::{Owned, PerProcess};
use fvd::remote::{Counters, OutageState, Pin, RemoteFile, RemoteOpener, Validator};
use fvd::{Error, Result};

use crate::cache::Cache;
use crate::clock::IoClock;
use crate::config::{Config, Environment, Outage, Rule};
use crate::counters::Tally;
use crate::fetch::StoreState;
use crate::file::File;
use crate::hooks::UrlSource;
use crate::manifest::{MANIFEST, PROFILE, Place};
use crate::name::Name;
use crate::nbd::{self, Connector, Export};
use crate::open_options::{OpenOptions, Redirects};
use crate::store::{self, Credentials, Object, Remote, Writer};
use crate::transport::{Client, Transport, io_thread};
use crate::units::{Memory, Opening, Sidecars, Units, linger};

/// Bytes of data that a process keeps, unless it sets another limit.
const MEMORY: u64 = 64 << 20;

static UNITS: PerProcess<Arc<Memory>> = PerProcess::new(|| Arc::new(Memory::new(MEMORY)));

/// Limits the memory for data of remote files, over all of this process, to `bytes`. Default: 64 MiB.
pub fn set_memory_limit(bytes: u64) {
    UNITS.get().set_limit(bytes);
}

/// Opens files in object stores, on web servers and on NBD servers.
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
    /// NBD servers.
    servers: HashMap<String, Arc<StoreState>>,
    objects: HashMap<String, Vec<Open>>,
    cache: Option<Arc<Cache>>,
}

/// An object that is open. Only opens whose redirects may lead to the same places share one.
struct Open {
    units: Weak<Units>,
    redirects: Redirects,
}

/// Where the manifest of an object is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manifests {
    Sidecars,
    /// The object is read from a URL of which no sidecar has one.
    Nowhere,
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

    /// As [`RemoteOpener::open`], with options of its own.
    pub fn open_with(&self, url: &str, pin: Option<&Pin>, options: &OpenOptions) -> Result<Arc<dyn RemoteFile>> {
        self.shared.get()?;
        let export = nbd::Name::parse(url)?;
        let may_share = |open: &Open| open.redirects == options.redirects;
        if let Some(pin) = pin
            && let Some(units) = self.find(url, pin, may_share)?
        {
            return Ok(Arc::new(File::new(
                url.to_owned(),
                pin.clone(),
                units,
                self.limit(options),
            )));
        }
        if let Some(export) = export {
            return self.open_export(export, pin, options);
        }
        let name = Name::parse(url)?;
        if let Some(source) = self.config.url_source(&name.text) {
            return self.open_presigned(name, source, pin, options);
        }
        let store = self.store(&name)?;
        self.open_in(&store, name, pin, options, Manifests::Sidecars)
    }

    /// As [`RemoteOpener::open`], but reads from the URL that `source` gives, such as a presigned one. Messages
    /// show `name`.
    pub fn open_at(&self, name: &str, source: Arc<dyn UrlSource>, pin: Option<&Pin>) -> Result<Arc<dyn RemoteFile>> {
        let name = Name::parse(name)?;
        let store = self.presigned_store(&name, source)?;
        self.open_in(&Arc::new(store), name, pin, &OpenOptions::default(), Manifests::Nowhere)
    }

    fn presigned_store(&self, name: &Name, source: Arc<dyn UrlSource>) -> Result<Store> {
        let mut store = self.make_store(name)?;
        store.credentials = Arc::new(store::presigned(source));
        Ok(store)
    }

    /// Opens what the configuration has a source of URLs for. All opens of one name share the URL.
    fn open_presigned(
        &self,
        name: Name,
        source: Arc<dyn UrlSource>,
        pin: Option<&Pin>,
        options: &OpenOptions,
    ) -> Result<Arc<dyn RemoteFile>> {
        let key = format!("at {}", name.text);
        let known = self.shared()?.stores.get(&key).map(Arc::clone);
        let store = if let Some(store) = known {
            store
        } else {
            let store = Arc::new(self.presigned_store(&name, source)?);
            Arc::clone(self.shared()?.stores.entry(key).or_insert(store))
        };
        self.open_in(&store, name, pin, options, Manifests::Nowhere)
    }

    /// What has been asked of the stores since this was made.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = self.tally.read();
        counters.memory = UNITS.get().used();
        let Ok(shared) = self.shared() else { return counters };
        // Two rules for parts of one server make two stores of one name.
        let mut outages = BTreeMap::<_, OutageState>::new();
        let stores = shared.stores.values().map(|store| &store.state);
        for state in stores.chain(shared.servers.values()) {
            counters.stores.push(state.label.clone());
            if let Some(outage) = state.outage() {
                let longest = outages.entry(outage.store.clone()).or_insert_with(|| outage.clone());
                if longest.lasting < outage.lasting {
                    *longest = outage;
                }
            }
        }
        counters.stores.sort_unstable();
        counters.stores.dedup();
        counters.outages = outages.into_values().collect();
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
        Ok(Store {
            client: Arc::new(client),
            credentials: Arc::new(credentials),
            state: Arc::new(self.make_state(label(name))),
        })
    }

    fn make_state(&self, label: String) -> StoreState {
        let tuning = self.config.tuning.clone();
        StoreState::new(label, tuning, Arc::clone(&self.tally), Arc::clone(&self.clock) as _)
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

    fn open_in(
        &self,
        store: &Arc<Store>,
        name: Name,
        pin: Option<&Pin>,
        options: &OpenOptions,
        manifests: Manifests,
    ) -> Result<Arc<dyn RemoteFile>> {
        let rule = self.config.rule(&name.text);
        let text = name.text.clone();
        let is_pinned = pin.is_some_and(|pin| matches!(pin.validator, Validator::Manifest(_)));
        let is_looked_for = manifests == Manifests::Sidecars
            && (is_pinned || pin.is_none() && !self.config.ignore_manifests && rule.manifest != Some(false));
        let sidecars = if is_looked_for {
            self.sidecars(store, &name, &rule, options)?
        } else {
            None
        };
        let opening = Opening {
            url: text.clone(),
            remote: self.remote(store, name, &rule, options)?,
            store: Arc::clone(&store.state),
            pin: pin.cloned(),
            cache: self.cache()?,
            already_open: pin.map_or(Ok(None), |pin| self.find(&text, pin, |_| true))?,
            sidecars,
        };
        let memory = Arc::clone(UNITS.get());
        let opened = io_thread::run(async move { Units::open(&memory, opening).await.map(Arc::new) })??;
        if pin.is_none() && !matches!(opened.source().pin().validator, Validator::Length) {
            linger(Arc::clone(&opened));
        }
        self.keep(text, pin, opened, options)
    }

    /// An object of `store`, without a request.
    fn remote(&self, store: &Store, name: Name, rule: &Rule, options: &OpenOptions) -> Result<Arc<dyn Remote>> {
        Ok(Arc::new(Object {
            url: store::locate(&name, rule, &self.config.environment)?,
            transport: Arc::clone(&store.client) as Arc<dyn Transport>,
            credentials: Arc::clone(&store.credentials),
            redirects: options.redirects.clone(),
            moved: Mutex::default(),
            has_left_host: AtomicBool::new(false),
            name,
        }))
    }

    /// Where manifest and boot profile of `name` are. The rule is that of the object: it may be for the object alone.
    fn sidecars(&self, store: &Store, name: &Name, rule: &Rule, options: &OpenOptions) -> Result<Option<Sidecars>> {
        let place = |suffix: &str| -> Result<Option<Place>> {
            let Some(name) = name.sidecar(suffix) else {
                return Ok(None);
            };
            Ok(Some(Place {
                url: name.text.clone(),
                remote: self.remote(store, name, rule, options)?,
                store: Arc::clone(&store.state),
            }))
        };
        let (Some(manifest), Some(profile)) = (place(MANIFEST)?, place(PROFILE)?) else {
            return Ok(None);
        };
        Ok(Some(Sidecars { manifest, profile }))
    }

    /// Opens an export of an NBD server. It is not cached: only its length says which one it is.
    fn open_export(&self, name: nbd::Name, pin: Option<&Pin>, options: &OpenOptions) -> Result<Arc<dyn RemoteFile>> {
        let label = name.label();
        let state = self.make_state(label.clone());
        let state = Arc::clone(self.shared()?.servers.entry(label).or_insert_with(|| Arc::new(state)));
        let text = name.text.clone();
        let connector = Connector::new(name, &self.config.rule(&text), &state.tuning)?;
        let (wanted, memory) = (pin.cloned(), Arc::clone(UNITS.get()));
        let opened = io_thread::run(async move {
            let export = Export::open(connector, state, wanted.as_ref()).await?;
            Ok::<_, Error>(Arc::new(Units::new(&memory, export)))
        });
        self.keep(text, pin, opened??, options)
    }

    /// The file of an object that was opened. The next one who opens it shares its units.
    fn keep(
        &self,
        name: String,
        pin: Option<&Pin>,
        units: Arc<Units>,
        options: &OpenOptions,
    ) -> Result<Arc<dyn RemoteFile>> {
        let open = Open {
            units: Arc::downgrade(&units),
            redirects: options.redirects.clone(),
        };
        self.shared()?.objects.entry(name.clone()).or_default().push(open);
        let pin = pin.cloned().unwrap_or_else(|| units.source().pin());
        Ok(Arc::new(File::new(name, pin, units, self.limit(options))))
    }

    /// What writes the object `name`, and where it and its manifest are.
    pub(crate) fn writer(&self, name: &Name) -> Result<(Writer, Place, Place)> {
        let store = self.store(name)?;
        let rule = self.config.rule(&name.text);
        let options = OpenOptions::default();
        let manifest = self
            .sidecars(&store, name, &rule, &options)?
            .map(|sidecars| sidecars.manifest);
        let object = Place {
            url: name.text.clone(),
            remote: self.remote(&store, name.clone(), &rule, &options)?,
            store: Arc::clone(&store.state),
        };
        let writer = Writer {
            address: store::address(name, &rule, &self.config.environment)?,
            name: name.clone(),
            transport: Arc::clone(&store.client) as Arc<dyn Transport>,
            credentials: Arc::clone(&store.credentials),
            store: Arc::clone(&store.state),
            bucket: tokio::sync::Mutex::default(),
            told: Arc::default(),
        };
        Ok((writer, object, manifest.expect("a name without a query")))
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.config.environment
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

    /// The object of `pin`, if it is open already, and `fits`.
    fn find(&self, name: &str, pin: &Pin, fits: impl Fn(&Open) -> bool) -> Result<Option<Arc<Units>>> {
        let mut shared = self.shared()?;
        shared.objects.retain(|_, open| {
            open.retain(|open| open.units.strong_count() > 0);
            !open.is_empty()
        });
        let mut fitting = shared.objects.get(name).into_iter().flatten().filter(|open| fits(open));
        Ok(fitting.find_map(|open| {
            let units = open.units.upgrade()?;
            units.source().is_pinned_by(pin).then_some(units)
        }))
    }

    /// How long a read may take.
    fn limit(&self, options: &OpenOptions) -> Option<Duration> {
        match options.on_outage.unwrap_or(self.config.tuning.on_outage) {
            Outage::Wait => None,
            Outage::Report(limit) => Some(limit),
        }
    }
}

impl RemoteOpener for Opener {
    fn open(&self, url: &str, pin: Option<&Pin>) -> Result<Arc<dyn RemoteFile>> {
        self.open_with(url, pin, &OpenOptions::default())
    }

    fn counters(&self) -> Counters {
        self.counters()
    }
}

/// Scheme, and host or bucket.
fn label(name: &Name) -> String {
    let port = name.url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", name.url.scheme(), name.bucket())
}
