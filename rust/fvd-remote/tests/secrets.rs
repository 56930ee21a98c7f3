//! What no user ever sees (R8).

mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use fvd_remote::{Opener, Outage};
use support::{Disk, Fault, Reply, Server, UNIT, open, parsed, read, until};

/// All that a user can see of a failure with credentials everywhere.
#[test]
fn no_error_no_record_and_no_debug_output_shows_a_secret() {
    let records = support::records::capture();
    let seen = Arc::new(std::sync::Mutex::new(HashSet::new()));
    for fault in 0..6 {
        let disk = Disk::new(4 * UNIT);
        let paths = Arc::clone(&seen);
        let server = Server::start(move |request, number| {
            paths.lock().expect("no panic").insert(request.path.clone());
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
        config.tuning.progress_timeout = Duration::from_millis(500);
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
        seen.lock().expect("no panic").contains("/real?sig=hunter2"),
        "the secret was in use"
    );
    until(|| !records.text().is_empty());
    assert!(
        !records.text().replace("/hunter2", "").contains("hunter2"),
        "{}",
        records.text()
    );
}
