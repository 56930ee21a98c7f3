//! The end of a server, the limits on its clients, and its counters.

use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use std::{env, fs};

use fvd_nbd::protocol::constants::{cmd, opt};
use fvd_nbd::server::{Exports, Kind, Limits, Listener, MemoryExport, RequestCounts, Server, Sharing};

use crate::host::{Host, wait_until};
use crate::options::message;
use crate::programs::run;
use crate::slow::Meeting;
use crate::wire::{Client, PATIENCE};

const MIB: usize = 1 << 20;

fn host(sharing: Sharing) -> Host<MemoryExport> {
    let export = Arc::new(MemoryExport::new("disk", MIB));
    Host::with(Limits::default(), [export], |server| server.with_sharing(sharing))
}

/// Checks that no greeting arrives for a while.
fn assert_not_greeted(client: &mut Client) {
    let set_patience = |client: &Client, patience| client.stream.set_read_timeout(Some(patience)).expect("not 0");
    set_patience(client, Duration::from_millis(300));
    let error = client.stream.read_exact(&mut [0; 18]).expect_err("a greeting");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    set_patience(client, PATIENCE);
}

#[test]
fn a_non_persistent_server_ends_with_its_last_client() {
    let mut host = host(Sharing {
        shared: 0,
        persistent: false,
    });
    run("nbdinfo", &["--list", &host.uri("")]);
    let mut silent = Client::connect(&host.socket());
    silent.read(18);
    let first = Client::simple(&host.socket());
    drop(silent);
    let mut last = Client::simple(&host.socket());
    drop(first);
    wait_until(|| host.server.counters().connections().now == 1);
    last.request(cmd::FLUSH, 1, 0, 0);
    assert_eq!(last.simple_reply(), (0, 1), "one client is left");
    drop(last);
    host.wait_for_the_end();
    assert!(!host.socket().exists(), "its socket goes with it");
}

#[test]
fn excess_clients_wait_on_any_socket_until_one_leaves() {
    let host = host(Sharing {
        shared: 1,
        persistent: true,
    });
    let first = Client::simple(&host.socket());
    let mut second = Client::connect(&host.socket());
    let uri = host.tcp_uri("disk");
    let third = thread::spawn(move || run("nbdinfo", &["--size", &uri]));
    // The only place is taken.
    assert_not_greeted(&mut second);
    assert_eq!(host.server.counters().connections().now, 1);
    drop(first);
    // Either of the two waiting clients may be accepted first. The second one leaves, so that the other one
    // is served in both cases.
    second.read(18);
    second.send(&[&3_u32.to_be_bytes()[..], &message(opt::ABORT, b"")].concat());
    drop(second);
    assert_eq!(third.join().unwrap().trim(), "1048576");
    assert_eq!(host.server.counters().connections().total, 3);
    assert_eq!(host.stop(), [""; 0]);
}

#[test]
fn sharing_raises_the_limit_on_connections() {
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let sharing = Sharing {
        shared: 3,
        persistent: true,
    };
    let disk = Arc::new(MemoryExport::new("disk", MIB));
    let host = Host::with(limits, [disk], |server| server.with_sharing(sharing));
    let mut clients = [(); 3].map(|()| Client::connect(&host.socket()));
    for client in &mut clients {
        client.read(18);
    }
}

#[test]
fn an_abort_waits_for_nothing() {
    let meeting = Arc::new(Meeting::new(2));
    let limits = Limits {
        drain_timeout: Duration::from_secs(3600),
        ..Limits::default()
    };
    let mut host = Host::new(limits, [Arc::clone(&meeting)]);
    let mut client = Client::simple(&host.socket());
    client.request(cmd::READ, 1, 0, 512);
    wait_until(|| meeting.has_begun());
    host.server.shut_down();
    thread::sleep(Duration::from_millis(100));
    assert_eq!(host.server.counters().in_flight(), 1, "a shutdown waits for it");
    host.server.abort();
    host.wait_for_the_end();
    assert!(client.rest().is_empty());
    assert_eq!(host.server.counters().in_flight(), 0);
    assert_eq!(host.server.counters().connections().now, 0);
}

#[test]
fn a_client_that_only_connects_is_no_failure() {
    let host = host(Sharing::default());
    for _ in 0..50 {
        drop(Client::connect(&host.socket()));
    }
    drop(Client::simple(&host.socket()));
    assert_eq!(host.stop(), Vec::<String>::new());
}

#[test]
fn counters_count_requests_errors_and_connections() {
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let host = Host::new(limits, [Arc::new(MemoryExport::new("disk", MIB))]);
    let mut client = Client::simple(&host.socket());
    assert!(Client::connect(&host.socket()).rest().is_empty());
    client.request(cmd::READ, 1, 0, 4096);
    client.simple_reply();
    client.read(4096);
    client.request(cmd::WRITE, 2, 0, 512);
    client.send(&[1; 512]);
    client.simple_reply();
    let fast = client.header(cmd::FLAG_FAST_ZERO, cmd::WRITE_ZEROES, 3, 0, 512);
    client.send(&fast);
    assert_eq!(client.simple_reply(), (95, 3));
    client.request(cmd::READ, 4, 1 << 40, 512);
    assert_eq!(client.simple_reply(), (22, 4));
    let counters = host.server.counters();
    let counts = |requests, bytes, errors| RequestCounts {
        requests,
        bytes,
        errors,
    };
    assert_eq!(counters.requests(Kind::Read), counts(1, 4096, 0));
    assert_eq!(counters.requests(Kind::Write), counts(1, 512, 0));
    assert_eq!(counters.requests(Kind::WriteZeroes), counts(1, 0, 1));
    assert_eq!((counters.invalid(), counters.in_flight()), (1, 0));
    let connections = counters.connections();
    assert_eq!((connections.now, connections.total, connections.refused), (1, 1, 1));
    client.send(&[0; 28]);
    assert!(client.rest().is_empty());
    host.wait_for_an_error();
    assert_eq!(counters.connections().failed, 1);
}

/// No test: the test below runs it as a separate process.
#[test]
#[ignore = "is no test"]
fn serve_what_was_inherited() {
    let mut exports = Exports::new();
    exports.add(Arc::new(MemoryExport::new("disk", MIB))).unwrap();
    let server = Server::new(exports, Limits::default(), |_| {}).with_sharing(Sharing {
        shared: 0,
        persistent: false,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        #[expect(unsafe_code, reason = "what is tested")]
        // SAFETY: the process was started only for this call.
        let mut listeners = unsafe { Listener::inherited() }.unwrap();
        assert_eq!(listeners.len(), 1);
        assert!(
            env::var_os("LISTEN_FDS").is_none(),
            "children do not take it for theirs"
        );
        server.listen(listeners.remove(0)).await;
    });
}

#[test]
fn an_inherited_socket_is_served_and_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nbd");
    let listener = UnixListener::bind(&path).unwrap();
    let script = "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" \"$@\"";
    let mut program = Command::new("sh")
        .args(["-c", script])
        .arg(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "lifecycle::serve_what_was_inherited"])
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let uri = format!("nbd+unix:///disk?socket={}", path.display());
    assert_eq!(run("nbdinfo", &["--size", &uri]).trim(), "1048576");
    assert!(program.wait().unwrap().success());
    assert!(fs::symlink_metadata(&path).is_ok(), "it belongs to its maker");
}
