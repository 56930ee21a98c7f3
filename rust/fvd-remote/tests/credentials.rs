//! Who may read, and what leads there.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use fvd_remote::hooks::{HeaderSource, KeySource, Keys, UrlSource};
use fvd_remote::{Opener, Outage, Secret};
use support::tls::{Identity, rule};
use support::{Disk, Reply, Server, UNIT, config, open, opener, parsed, read, read_aside, tuning, until};

/// Gives `hunter2-0`, `hunter2-1` and so on.
struct Tokens(AtomicUsize);

impl HeaderSource for Tokens {
    fn headers(&self) -> fvd::Result<Vec<(String, Secret)>> {
        let number = self.0.fetch_add(1, Ordering::SeqCst);
        Ok(vec![(
            "Authorization".to_owned(),
            Secret::new(format!("Bearer hunter2-{number}")),
        )])
    }
}

#[test]
fn refused_credentials_are_renewed_once_for_all_readers() {
    for status in [401, 403] {
        let disk = Disk::new(20 * UNIT);
        let served = disk.clone();
        // The first token is good for the first request.
        let server = Server::start(move |request, number| match request.header("authorization") {
            Some("Bearer hunter2-0") if number == 0 => served.serve(request),
            Some("Bearer hunter2-1") => served.serve(request),
            _ => Reply::status(status).delay(Duration::from_millis(20)),
        });
        let tokens = Arc::new(Tokens(AtomicUsize::new(0)));
        let opener = Opener::new(config().with_headers(&server.url("/"), Arc::clone(&tokens) as _));
        let file = open(&opener, &server.url("/disk"), None).expect("opened");
        let readers: Vec<_> = (0..8)
            .map(|reader| read_aside(&file, (2 + 2 * reader) * UNIT, 10))
            .collect();
        for (reader, found) in readers.into_iter().enumerate() {
            let found = found.join().expect("no panic").expect("read");
            assert!(disk.is_at(&found, (2 + 2 * reader as u64) * UNIT));
        }
        assert_eq!(tokens.0.load(Ordering::SeqCst), 2, "{status}");
    }
}

#[test]
fn an_expired_token_of_s3_is_renewed() {
    let disk = Disk::new(4 * UNIT);
    let server = Server::start(move |request, number| match number {
        1 => Reply::status(400).body(b"<Error><Code>ExpiredToken</Code></Error>".to_vec()),
        _ => disk.serve(request),
    });
    let tokens = Arc::new(Tokens(AtomicUsize::new(0)));
    let opener = Opener::new(config().with_headers(&server.url("/"), Arc::clone(&tokens) as _));
    let file = open(&opener, &server.url("/disk"), None).expect("opened");
    read(&*file, UNIT, 10).expect("read");
    assert_eq!(tokens.0.load(Ordering::SeqCst), 2);
}

#[test]
fn credentials_that_stay_refused_are_an_outage() {
    let disk = Disk::new(4 * UNIT);
    let server = Server::start(move |request, number| match number {
        0 => disk.serve(request),
        _ => Reply::status(403),
    });
    let mut config = config();
    config.tuning.on_outage = Outage::Report(Duration::from_secs(1));
    let file = open(&Opener::new(config), &server.url("/disk"), None).expect("opened");
    // The first read may be given up before the first answer.
    until(|| {
        let error = read(&*file, UNIT, 10).expect_err("refused");
        error.to_string().contains("refuses access (status 403")
    });
    let error = open(&opener(), &server.url("/disk"), None).err().expect("refused");
    assert!(error.to_string().contains("refuses access"), "{error}");
}

#[test]
fn a_credential_helper_prints_headers() {
    let disk = Disk::new(UNIT);
    let server = Server::start(move |request, _| match request.header("authorization") {
        Some("Bearer hunter2") => disk.serve(request),
        _ => Reply::status(401),
    });
    let opener = |script: &str| {
        let command = format!("credential_helper = [\"sh\", \"-c\", {script:?}]");
        Opener::new(parsed(&format!(
            "[[remote]]\nprefix = {:?}\n{command}\n",
            server.url("/")
        )))
    };
    open(&opener("echo '{\"token\": \"hunter2\"}'"), &server.url("/disk"), None).expect("opened");
    for (script, expected) in [
        ("echo hunter2", "printed something else"),
        ("echo '{\"token\": \"hunter2\"}'; exit 1", "sh failed"),
        ("echo '{}'", "neither headers nor a token"),
    ] {
        let error = open(&opener(script), &server.url("/disk"), None)
            .err()
            .expect("refused")
            .to_string();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
    }
}

struct Presigned(Vec<String>, AtomicUsize);

impl UrlSource for Presigned {
    fn url(&self) -> fvd::Result<String> {
        let number = self.1.fetch_add(1, Ordering::SeqCst);
        Ok(self.0[number.min(self.0.len() - 1)].clone())
    }
}

#[test]
fn a_presigned_url_is_asked_for_again_when_it_has_expired() {
    let disk = Disk::new(4 * UNIT);
    let served = disk.clone();
    let server = Server::start(move |request, number| match request.path.as_str() {
        "/disk?X-Amz-Signature=hunter2-a" if number == 0 => served.serve(request),
        "/disk?X-Amz-Signature=hunter2-b" => served.serve(request),
        _ => Reply::status(403),
    });
    let urls = ["a", "b"].map(|end| server.url(&format!("/disk?X-Amz-Signature=hunter2-{end}")));
    let source = Arc::new(Presigned(urls.to_vec(), AtomicUsize::new(0)));
    let opener = opener();
    let file = opener
        .open_at("https://images.example.org/disk", source, None)
        .expect("opened");
    assert_eq!(file.url(), "https://images.example.org/disk");
    assert!(disk.is_at(&read(&*file, UNIT, 4096).expect("read"), UNIT));
}

/// Tokens that are valid for a time from the moment when they are given, as long as there are some left.
struct Expiring {
    life: Duration,
    left: AtomicUsize,
    tokens: Tokens,
    given: std::sync::Mutex<Option<SystemTime>>,
}

impl HeaderSource for Expiring {
    fn headers(&self) -> fvd::Result<Vec<(String, Secret)>> {
        let left = self.left.load(Ordering::SeqCst);
        if left == 0 {
            return Err(fvd::Error::invalid_argument("none is left"));
        }
        self.left.store(left - 1, Ordering::SeqCst);
        *self.given.lock().expect("no panic") = Some(SystemTime::now());
        self.tokens.headers()
    }

    fn expires(&self) -> Option<SystemTime> {
        Some((*self.given.lock().expect("no panic"))? + self.life)
    }
}

fn expiring(life: Duration, left: usize) -> Arc<Expiring> {
    Arc::new(Expiring {
        life,
        left: AtomicUsize::new(left),
        tokens: Tokens(AtomicUsize::new(0)),
        given: std::sync::Mutex::default(),
    })
}

/// Opens a disk, and reads one unit after the other until `is_enough`.
fn read_on(source: &Arc<Expiring>, is_enough: impl Fn(&Expiring) -> bool) -> usize {
    let disk = Disk::new(64 * UNIT);
    let served = disk.clone();
    let server = Server::start(move |request, _| match request.header("authorization") {
        Some(token) if token.starts_with("Bearer hunter2-") => served.serve(request),
        _ => Reply::status(401),
    });
    let opener = Opener::new(config().with_headers(&server.url("/"), Arc::clone(source) as _));
    let file = open(&opener, &server.url("/disk"), None).expect("opened");
    let mut units = 0;
    while units == 0 || !is_enough(source) {
        units += 1;
        assert!(units < 64, "not enough");
        std::thread::sleep(Duration::from_millis(20));
        assert!(disk.is_at(&read(&*file, units * UNIT, 10).expect("read"), units * UNIT));
    }
    assert_eq!(opener.counters().refreshes, 0, "nothing was refused");
    source.tokens.0.load(Ordering::SeqCst)
}

#[test]
fn credentials_are_renewed_before_they_expire() {
    let enough = |source: &Expiring| source.tokens.0.load(Ordering::SeqCst) >= 3;
    assert!(read_on(&expiring(Duration::from_millis(50), usize::MAX), enough) >= 3);
}

#[test]
fn credentials_that_cannot_be_renewed_are_used_until_their_end() {
    // A tenth of an hour is more than the limit of 60 s; what counts here is that the first ones stay in use.
    assert_eq!(read_on(&expiring(Duration::from_secs(3600), 1), |_| true), 1);
    // By this clock they have expired when they come: the server decides.
    assert_eq!(read_on(&expiring(Duration::ZERO, 1), |_| true), 1);
}

struct FixedKeys;

impl KeySource for FixedKeys {
    fn keys(&self) -> fvd::Result<Keys> {
        Ok(Keys {
            key_id: "AKID".to_owned(),
            secret_key: Secret::new("hunter2"),
            token: Some(Secret::new("hunter2-token")),
        })
    }
}

#[test]
fn keys_of_the_program_sign_requests_to_s3() {
    let disk = Disk::new(UNIT);
    let served = disk.clone();
    let server = Server::start(move |request, _| {
        let signed = request.header("authorization").unwrap_or_default();
        let token = request.header("x-amz-security-token");
        if signed.starts_with("AWS4-HMAC-SHA256 Credential=AKID/") && token == Some("hunter2-token") {
            served.serve(request)
        } else {
            Reply::status(403)
        }
    });
    let endpoint = ("AWS_ENDPOINT_URL".to_owned(), server.url(""));
    let other = ("AWS_ACCESS_KEY_ID".to_owned(), "another".to_owned());
    let config = config()
        .with_variables([endpoint, other])
        .with_keys("s3://images", Arc::new(FixedKeys));
    let opener = Opener::new(config);
    let file = open(&opener, "s3://images/disk", None).expect("opened");
    assert_eq!(file.pin().len, UNIT);
}

#[test]
fn urls_of_the_program_are_for_what_lies_below_their_prefix() {
    let disk = Disk::new(4 * UNIT);
    let served = disk.clone();
    let server = Server::start(move |request, _| match request.path.as_str() {
        "/other?sig=hunter2" => served.serve(request),
        _ => Reply::status(404),
    });
    let url = server.url("/other?sig=hunter2");
    let urls = move |name: &str| {
        assert_eq!(name, "s3://images/private/disk");
        Arc::new(Presigned(vec![url.clone()], AtomicUsize::new(0))) as Arc<dyn UrlSource>
    };
    let config = config().with_urls("s3://images/private", Arc::new(urls));
    let config = config.with_variables([("AWS_ENDPOINT_URL".to_owned(), server.url(""))]);
    let opener = Opener::new(config);
    let file = open(&opener, "s3://images/private/disk", None).expect("opened");
    assert_eq!(file.url(), "s3://images/private/disk");
    assert!(disk.is_at(&read(&*file, UNIT, 4096).expect("read"), UNIT));
}

#[test]
fn tls_needs_a_certificate_that_is_trusted() {
    let disk = Disk::new(UNIT);
    let (identity, ca) = Identity::new();
    let server = Server::start_tls(identity, move |request, _| disk.serve(request));
    let config = parsed(&rule(&server.url("/"), ca.path()));
    let file = open(&Opener::new(config), &server.url("/disk"), None).expect("opened");
    assert_eq!(file.pin().len, UNIT);
    let (_, other) = Identity::new();
    let config = parsed(&rule(&server.url("/"), other.path()));
    let error = open(&Opener::new(config), &server.url("/disk"), None)
        .err()
        .expect("refused")
        .to_string();
    assert!(
        error.contains("o secure connection to 127.0.0.1") && error.contains("certificate"),
        "{error}"
    );
}

#[test]
fn a_proxy_gets_the_whole_url_and_its_password() {
    let disk = Disk::new(UNIT);
    let proxy = Server::start(move |request, _| disk.serve(request));
    let address = format!("http://user:hunter2@{}", proxy.address);
    let mut config = config().with_variables([("http_proxy".to_owned(), address)]);
    config.tuning = tuning();
    open(&Opener::new(config), "http://images.invalid/disk", None).expect("opened");
    let log = proxy.log();
    assert_eq!(log[0].path, "http://images.invalid/disk");
    assert_eq!(log[0].header("proxy-authorization"), Some("Basic dXNlcjpodW50ZXIy"));
    assert_eq!(log[0].header("host"), Some("images.invalid"));
}
