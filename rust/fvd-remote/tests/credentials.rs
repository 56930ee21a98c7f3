//! Credentials, redirects, and what is never shown.

mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fvd_remote::hooks::{HeaderSource, RedirectGate, UrlSource};
use fvd_remote::{Config, Opener, Outage, Secret};
use support::tls::{Identity, rule};
use support::{Disk, Fault, Reply, Server, UNIT, config, open, opener, read, read_aside, tuning, until};
use url::Url;

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

fn parsed(toml: &str) -> Config {
    let mut config = Config::parse(toml).expect("valid");
    config.tuning = tuning();
    config
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
    config.tuning.on_outage = Outage::Report(Duration::from_millis(30));
    let file = open(&Opener::new(config), &server.url("/disk"), None).expect("opened");
    let error = read(&*file, UNIT, 10).expect_err("refused");
    assert!(
        error.to_string().contains("refuses the credentials (status 403"),
        "{error}"
    );
    let error = open(&opener(), &server.url("/disk"), None).err().expect("refused");
    assert!(error.to_string().contains("refuses the credentials"), "{error}");
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

#[test]
fn a_redirect_is_followed_once_and_remembered() {
    for status in [301, 302, 303, 307, 308] {
        let disk = Disk::new(4 * UNIT);
        let served = disk.clone();
        let server = Server::start(move |request, _| match request.path.as_str() {
            "/real" => served.serve(request),
            _ => Reply::redirect(status, "/real"),
        });
        let file = open(&opener(), &server.url("/disk"), None).expect("opened");
        (0..4).for_each(|unit| assert!(disk.is_at(&read(&*file, unit * UNIT, 10).expect("read"), unit * UNIT)));
        assert_eq!(server.log().iter().filter(|request| request.path == "/disk").count(), 1);
    }
}

#[test]
fn a_redirect_that_has_expired_is_followed_anew() {
    let disk = Disk::new(4 * UNIT);
    let served = disk.clone();
    let server = Server::start(move |request, number| match (request.path.as_str(), number) {
        ("/disk", 0) => Reply::redirect(302, "/old"),
        ("/old", 1) | ("/new", _) => served.serve(request),
        ("/disk", _) => Reply::redirect(302, "/new"),
        _ => Reply::status(403),
    });
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    assert!(disk.is_at(&read(&*file, UNIT, 10).expect("read"), UNIT));
    assert_eq!(server.count(), 5);
}

fn refused_redirect(location: &str) -> String {
    let location = location.to_owned();
    let server = Server::start(move |_, _| Reply::redirect(302, &location));
    let error = open(&opener(), &server.url("/disk"), None).err().expect("refused");
    assert_eq!(server.count(), 1, "{error}");
    error.to_string()
}

#[test]
fn a_redirect_loop_is_refused() {
    let server = Server::start(|request, _| match request.path.as_str() {
        "/a" => Reply::redirect(302, "/b"),
        _ => Reply::redirect(302, "/a"),
    });
    let error = open(&opener(), &server.url("/a"), None)
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("redirects are a loop"), "{error}");
    let endless = Server::start(|_, number| Reply::redirect(302, &format!("/{number}")));
    let error = open(&opener(), &endless.url("/a"), None)
        .err()
        .expect("refused")
        .to_string();
    assert!(
        error.contains("more than 8 redirects") || error.contains("More than 8 redirects"),
        "{error}"
    );
}

#[test]
fn a_redirect_to_a_metadata_service_is_refused() {
    for location in [
        "http://169.254.169.254/latest",
        "http://[fe80::1]/x",
        "http://[fd00:ec2::254]/x",
        "http://0.0.0.0/",
    ] {
        let error = refused_redirect(location);
        assert!(error.contains("link-local or metadata address"), "{error}");
    }
}

#[test]
fn a_redirect_to_another_scheme_is_refused() {
    assert!(refused_redirect("file:///etc/passwd").contains("leads to file://"));
    assert!(refused_redirect("http://u:hunter2@127.0.0.1/").contains("has credentials in its URL"));
}

#[test]
fn a_redirect_from_https_to_http_is_refused() {
    let plain = Server::start(|_, _| Reply::status(500));
    let location = plain.url("/disk?sig=hunter2");
    let (identity, ca) = Identity::new();
    let server = Server::start_tls(identity, move |_, _| Reply::redirect(302, &location));
    let config = parsed(&rule(&server.url("/"), &ca.path().to_owned()));
    let error = open(&Opener::new(config), &server.url("/disk"), None)
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("from https to") && !error.contains("hunter2"), "{error}");
    assert_eq!(plain.count(), 0);
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_host() {
    let disk = Disk::new(2 * UNIT);
    let target = Server::start(move |request, _| disk.serve(request));
    let location = target.url("/disk?X-Amz-Signature=abc");
    let server = Server::start(move |_, _| Reply::redirect(302, &location));
    let toml = format!(
        "[[remote]]\nprefix = {:?}\nheaders = {{ Authorization = \"hunter2\", X-Token = \"hunter2\", Cookie = \"hunter2\" }}\n",
        server.url("/")
    );
    let file = open(&Opener::new(parsed(&toml)), &server.url("/disk"), None).expect("opened");
    read(&*file, UNIT, 10).expect("read");
    for request in server.log() {
        assert_eq!(request.header("authorization"), Some("hunter2"));
    }
    assert_eq!(target.count(), 2);
    assert!(!format!("{:?}", target.log()).contains("hunter2"));
}

struct Nowhere;

impl RedirectGate for Nowhere {
    fn allows(&self, _from: &Url, _to: &Url) -> bool {
        false
    }
}

#[test]
fn the_gate_of_the_program_decides_about_other_hosts() {
    let disk = Disk::new(UNIT);
    let target = Server::start(move |request, _| disk.serve(request));
    let location = target.url("/disk");
    let server = Server::start(move |_, _| Reply::redirect(302, &location));
    let config = config().with_redirect_gate(Arc::new(Nowhere));
    let error = open(&Opener::new(config), &server.url("/disk"), None)
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("is not trusted"), "{error}");
    assert_eq!(target.count(), 0);
}

#[test]
fn a_link_local_address_is_read_only_if_the_configuration_names_it() {
    let error = open(&opener(), "http://169.254.169.254/latest/meta-data", None)
        .err()
        .expect("refused")
        .to_string();
    assert!(
        error.contains("link-local or metadata address") && error.contains("link_local = true"),
        "{error}"
    );
}

#[test]
fn tls_needs_a_certificate_that_is_trusted() {
    let disk = Disk::new(UNIT);
    let (identity, ca) = Identity::new();
    let server = Server::start_tls(identity, move |request, _| disk.serve(request));
    let config = parsed(&rule(&server.url("/"), &ca.path().to_owned()));
    let file = open(&Opener::new(config), &server.url("/disk"), None).expect("opened");
    assert_eq!(file.pin().len, UNIT);
    let (_, other) = Identity::new();
    let config = parsed(&rule(&server.url("/"), &other.path().to_owned()));
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

#[test]
fn a_request_to_s3_is_signed_and_names_the_version() {
    let disk = Disk::new(4 * UNIT);
    let server = Server::start(move |request, _| disk.serve(request).with("x-amz-version-id", "v7"));
    let variables = [
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "hunter2".to_owned()),
        ("AWS_SESSION_TOKEN", "session".to_owned()),
        ("AWS_REGION", "eu-central-1".to_owned()),
        ("AWS_ENDPOINT_URL_S3", server.url("")),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    let file = open(
        &Opener::new(config().with_variables(variables)),
        "s3://images/a b.raw",
        None,
    )
    .expect("opened");
    assert_eq!(file.pin().validator, fvd::remote::Validator::Version("v7".into()));
    read(&*file, UNIT, 10).expect("read");
    let log = server.log();
    let paths: Vec<_> = log.iter().map(|request| request.path.as_str()).collect();
    assert_eq!(paths, ["/images/a%20b.raw", "/images/a%20b.raw?versionId=v7"]);
    for request in log {
        let authorization = request.header("authorization").expect("signed");
        assert!(
            authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"),
            "{authorization}"
        );
        assert!(
            authorization.contains("/eu-central-1/s3/aws4_request"),
            "{authorization}"
        );
        assert_eq!(request.header("x-amz-security-token"), Some("session"));
        assert!(!format!("{request:?}").contains("hunter2"));
    }
}

#[test]
fn a_bucket_in_another_region_is_named() {
    let server = Server::start(|_, _| Reply::status(301).with("x-amz-bucket-region", "eu-west-1"));
    let toml = format!(
        "[[remote]]\nprefix = \"s3://images\"\nendpoint = {:?}\nanonymous = true\n",
        server.url("")
    );
    let error = open(&Opener::new(parsed(&toml)), "s3://images/x", None)
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("another region: \"eu-west-1\""), "{error}");
}

#[test]
fn a_request_to_google_has_the_token_and_names_the_generation() {
    let disk = Disk::new(4 * UNIT);
    let server = Server::start(move |request, _| disk.serve(request).with("x-goog-generation", "17"));
    let toml = format!(
        "[[remote]]\nprefix = \"gs://images\"\nendpoint = {:?}\n",
        server.url("")
    );
    let variables = [("GOOGLE_BEARER_TOKEN".to_owned(), "hunter2".to_owned())];
    let file = open(
        &Opener::new(parsed(&toml).with_variables(variables)),
        "gs://images/x",
        None,
    )
    .expect("opened");
    read(&*file, UNIT, 10).expect("read");
    let log = server.log();
    assert_eq!(log[1].path, "/images/x?generation=17");
    assert_eq!(log[1].header("authorization"), Some("Bearer hunter2"));
}

#[test]
fn a_request_to_azure_is_signed_or_has_the_shared_signature() {
    let disk = Disk::new(4 * UNIT);
    let server = Server::start(move |request, _| disk.serve(request));
    let toml = format!(
        "[[remote]]\nprefix = \"az://images\"\nendpoint = {:?}\naccount = \"acc\"\n",
        server.url("/acc")
    );
    let with = |name: &str, value: &str| parsed(&toml).with_variables([(name.to_owned(), value.to_owned())]);
    open(
        &Opener::new(with("AZURE_STORAGE_KEY", "aHVudGVyMg==")),
        "az://images/x",
        None,
    )
    .expect("opened");
    open(
        &Opener::new(with("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=abc")),
        "az://images/x",
        None,
    )
    .expect("opened");
    let log = server.log();
    assert_eq!(log[0].path, "/acc/images/x");
    assert!(
        log[0]
            .header("authorization")
            .is_some_and(|text| text.starts_with("SharedKey acc:"))
    );
    assert_eq!(log[1].path, "/acc/images/x?sv=1&sig=abc");
}

/// All that a user can see of a failure with credentials everywhere.
#[test]
fn no_error_no_record_and_no_debug_output_shows_a_secret() {
    let records = support::records::capture();
    let seen = Arc::new(std::sync::Mutex::new(HashSet::new()));
    for fault in 0..6 {
        let disk = Disk::new(4 * UNIT);
        let paths = Arc::clone(&seen);
        let server = Server::start(move |request, number| {
            paths.lock().unwrap().insert(request.path.clone());
            let reply = disk.serve(request);
            match (number, fault) {
                (0, _) => Reply::redirect(302, "/real?sig=hunter2"),
                (1, _) => reply,
                (_, 0) => Reply::status(403).body(b"hunter2".to_vec()),
                (_, 1) => Reply::status(400).body(b"hunter2".to_vec()),
                (_, 2) => Reply::redirect(302, "http://169.254.169.254/hunter2?sig=hunter2"),
                (_, 3) => reply.fault(Fault::Cut(100)),
                (_, 4) => reply.fault(Fault::Silence),
                _ => Reply::status(404).body(b"hunter2".to_vec()),
            }
        });
        let toml = format!(
            "[[remote]]\nprefix = {:?}\nheaders = {{ Authorization = \"Bearer hunter2\" }}\n",
            server.url("/")
        );
        let mut config = parsed(&toml).with_variables([("AWS_SECRET_ACCESS_KEY".to_owned(), "hunter2".to_owned())]);
        config.tuning.on_outage = Outage::Report(Duration::from_millis(30));
        config.tuning.progress_timeout = Duration::from_millis(20);
        let opener = Opener::new(config);
        let file = open(&opener, &server.url("/disk"), None).expect("opened");
        let error = read(&*file, UNIT, 10).expect_err("a fault");
        let shown = format!(
            "{error} {error:?} {:?} {:?} {opener:?} {}",
            opener.counters(),
            file.pin(),
            file.url()
        );
        assert!(!shown.replace("/hunter2", "").contains("hunter2"), "{shown}");
    }
    assert!(
        seen.lock().unwrap().contains("/real?sig=hunter2"),
        "the secret was in use"
    );
    until(|| !records.text().is_empty());
    assert!(
        !records.text().replace("/hunter2", "").contains("hunter2"),
        "{}",
        records.text()
    );
}
