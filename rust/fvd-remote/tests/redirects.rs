//! Where a redirect may lead (R7).

mod support;

use fvd::gate::Gate;
use fvd_remote::{OpenOptions, Opener, Redirects};
use support::tls::{Identity, rule};
use support::{Disk, Reply, Server, UNIT, open, opener, parsed, read};

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
    for status in [403, 404, 410] {
        let disk = Disk::new(4 * UNIT);
        let served = disk.clone();
        let server = Server::start(move |request, number| match (request.path.as_str(), number) {
            ("/disk", 0) => Reply::redirect(302, "/old"),
            ("/old", 1) | ("/new", _) => served.serve(request),
            ("/disk", _) => Reply::redirect(302, "/new"),
            _ => Reply::status(status),
        });
        let file = open(&opener(), &server.url("/disk"), None).expect("opened");
        assert!(disk.is_at(&read(&*file, UNIT, 10).expect("read"), UNIT));
        assert_eq!(server.count(), 5);
    }
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
    let config = parsed(&rule(&server.url("/"), ca.path()));
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

/// Two servers: the first redirects to the second.
fn redirecting(disk: &Disk) -> (Server, Server) {
    let served = disk.clone();
    let target = Server::start(move |request, _| served.serve(request));
    let location = target.url("/there/disk?sig=hunter2");
    let server = Server::start(move |_, _| Reply::redirect(302, &location));
    (server, target)
}

fn within(trusted: &str) -> OpenOptions {
    let trusted: Vec<_> = trusted.split_whitespace().map(Into::into).collect();
    OpenOptions {
        redirects: Redirects::Within(Gate::new(&trusted).expect("valid")),
        ..OpenOptions::default()
    }
}

#[test]
fn the_trust_of_the_user_decides_about_other_hosts() {
    let disk = Disk::new(UNIT);
    let (server, target) = redirecting(&disk);
    let url = server.url("/disk");
    for trusted in [
        "",
        &server.url("/"),
        &target.url("/elsewhere"),
        &target.url("/there/dis"),
    ] {
        let error = opener().open_with(&url, None, &within(trusted)).err().expect("refused");
        assert!(error.to_string().contains("no trusted prefix covers"), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    assert_eq!(target.count(), 0);
    let file = opener()
        .open_with(&url, None, &within(&target.url("/there")))
        .expect("trusted");
    assert!(disk.is_at(&read(&*file, 0, 10).expect("read"), 0));
}

#[test]
fn an_open_with_less_trust_does_not_share_what_was_redirected() {
    let (server, _target) = redirecting(&Disk::new(UNIT));
    let (url, opener) = (server.url("/disk"), opener());
    let file = opener.open_with(&url, None, &OpenOptions::default()).expect("followed");
    let pin = Some(file.pin());
    opener.open_with(&url, pin, &within("")).err().expect("refused");
    let requests = server.count();
    opener.open_with(&url, pin, &OpenOptions::default()).expect("shared");
    assert_eq!(server.count(), requests);
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
