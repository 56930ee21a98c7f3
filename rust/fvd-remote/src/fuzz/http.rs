//! The client of stores and web servers, with a server that sends anything.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fvd::remote::{Pin, Validator};
use fvd::storage::IoBufMut;
use http::HeaderMap;
use tokio::io::duplex;

use super::choices::Choices;
use super::server::{Answer, ETAG, LEN, Server, content};
use crate::clock::IoClock;
use crate::config::Tuning;
use crate::fetch::{StoreState, UNIT};
use crate::name::Name;
use crate::open_options::Redirects;
use crate::simulated;
use crate::store::{Credentials, Object, Provider};
use crate::transport::{AddressRule, Client, Proxies, TlsRoots};
use crate::units::{Memory, Opening, Units};

/// Longer than all pauses that a few wrong answers can cause.
const LIMIT: Duration = Duration::from_secs(4 * 3600);

/// Reads an object from a server that sends what `data` decides, in virtual time.
///
/// # Panics
///
/// If a read gives bytes that are not the object's, or does not end.
pub fn http_answers(data: &[u8]) {
    let mut choices = Choices::new(data);
    let is_pinned = choices.byte() & 1 == 0;
    let mut answers = VecDeque::new();
    while !choices.is_empty() && answers.len() < 8 {
        answers.push_back(Answer::new(&mut choices));
    }
    simulated::run(LIMIT, read(answers, is_pinned)).expect("a read ends");
}

async fn read(answers: VecDeque<Answer>, is_pinned: bool) {
    let told = answers.clone();
    let server = Server::new(answers);
    let serving = server.clone();
    simulated::set_dial(move |_, _| {
        let (ours, theirs) = duplex(1 << 16);
        tokio::spawn(serving.clone().serve(theirs));
        ours
    });
    let memory = Arc::new(Memory::new(64 << 20));
    let pin = is_pinned.then(|| Pin {
        len: LEN,
        validator: Validator::ETag(ETAG.to_owned()),
    });
    let Ok(units) = Units::open(&memory, opening(pin)).await else {
        return;
    };
    if units.source().pin().validator != Validator::ETag(ETAG.to_owned()) || units.len() != LEN {
        // It has opened another object.
        return;
    }
    let expected = content(0);
    for (offset, len) in [(UNIT, 2 * UNIT), (0, 10), (LEN - 5, 5)] {
        let read = units.read(IoBufMut::zeroed(len as usize), offset).await;
        let Ok(found) = read else { continue };
        let inside = expected.len().min((offset + len) as usize) - offset as usize;
        let is_right = found.as_slice()[..inside] == expected[offset as usize..offset as usize + inside];
        assert!(
            is_right || !server.is_framed(),
            "bytes that are not those of the object, from {told:#?}"
        );
    }
}

fn opening(pin: Option<Pin>) -> Opening {
    let url = "http://store.example/x".to_owned();
    let name = Name::parse(&url).expect("valid");
    let tuning = Tuning {
        window: 0,
        ..Tuning::default()
    };
    let client = Client::new(
        AddressRule::Public,
        Proxies::default(),
        TlsRoots::System,
        tuning.connect_timeout,
    );
    let remote = Object {
        url: name.url.clone(),
        name,
        transport: Arc::new(client),
        credentials: Arc::new(Credentials::new(Provider::None, HeaderMap::new())),
        redirects: Redirects::Anywhere,
        moved: Mutex::default(),
        has_left_host: AtomicBool::new(false),
    };
    let mut state = StoreState::new(
        "http://store.example".to_owned(),
        tuning,
        Arc::default(),
        Arc::new(IoClock::new()),
    );
    state.random = Mutex::new(fastrand::Rng::with_seed(1));
    Opening {
        url,
        remote: Arc::new(remote),
        store: Arc::new(state),
        pin,
        cache: None,
        already_open: None,
        sidecars: None,
    }
}
