//! A real web server. `scripts/install-tools.sh` installs it.

mod support;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fvd_remote::{Opener, Outage};
use support::{UNIT, config, content, open, opener, parsed, read, until};
use tempfile::TempDir;

struct Nginx {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Nginx {
    /// Serves `folder/www` with these further lines in its `server` block.
    fn start(lines: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        fs::create_dir(folder.path().join("www")).expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let port = port.expect("a free port").port();
        let child = run(folder.path(), port, lines);
        until(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { child, port, folder }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Replaces the file, as `mv` does.
    fn write(&self, name: &str, data: &[u8]) {
        let folder = self.folder.path();
        fs::write(folder.join("new"), data).expect("written");
        fs::rename(folder.join("new"), folder.join("www").join(name)).expect("renamed");
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn run(folder: &Path, port: u16, lines: &str) -> Child {
    let temporary =
        "client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t; uwsgi_temp_path t; scgi_temp_path t;";
    let configuration = format!(
        "daemon off; master_process off; pid pid; error_log stderr crit;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log off; limit_conn_zone $server_name zone=all:1m; {temporary}\n\
         server {{ listen 127.0.0.1:{port}; root www; {lines} }} }}\n"
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, configuration).expect("written");
    let sbin = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    Command::new("nginx")
        .env("PATH", sbin)
        .args(["-e", "stderr", "-p"])
        .arg(folder)
        .arg("-c")
        .arg(file)
        .stdin(Stdio::null())
        .spawn()
        .expect("nginx is installed (scripts/install-tools.sh)")
}

#[test]
fn nginx_serves_a_disk_and_refuses_a_replaced_one() {
    let nginx = Nginx::start("");
    let data = content(20 * UNIT + 100);
    nginx.write("disk", &data);
    let file = open(&opener(), &nginx.url("/disk"), None).expect("opened");
    assert!(read(&*file, 0, data.len() as u64).expect("read") == data);
    let again = open(&opener(), &nginx.url("/disk"), Some(file.pin())).expect("the same object");
    nginx.write("disk", &content(19 * UNIT));
    let error = read(&*again, 3 * UNIT, 10).expect_err("another object").to_string();
    assert!(
        error.contains("Expected: 5242980 bytes, ETag") && error.contains("There is now 4980736 bytes"),
        "{error}"
    );
    let error = open(&opener(), &nginx.url("/disk"), Some(file.pin()))
        .err()
        .expect("another object")
        .to_string();
    assert!(error.contains("There is now 4980736 bytes"), "{error}");
    fs::remove_file(nginx.folder.path().join("www/disk")).expect("removed");
    let error = read(&*again, 9 * UNIT, 10).expect_err("no object").to_string();
    assert!(error.contains("no such object any more"), "{error}");
}

#[test]
fn nginx_serves_an_empty_file() {
    let nginx = Nginx::start("");
    nginx.write("disk", b"");
    let file = open(&opener(), &nginx.url("/disk"), None).expect("opened");
    assert_eq!(file.pin().len, 0);
}

#[test]
fn nginx_redirects_and_asks_for_a_password() {
    let lines = "location /old { return 302 /disk; }\n\
                 location = /disk { if ($http_authorization != 'Basic aHVudGVyMg==') { return 401; } }";
    let nginx = Nginx::start(lines);
    nginx.write("disk", &content(3 * UNIT));
    let error = open(&opener(), &nginx.url("/old"), None)
        .err()
        .expect("no password")
        .to_string();
    assert!(error.contains("refuses access (status 401"), "{error}");
    let toml = format!(
        "[[remote]]\nprefix = {:?}\nheaders = {{ Authorization = \"Basic aHVudGVyMg==\" }}\n",
        nginx.url("/")
    );
    let file = open(&Opener::new(parsed(&toml)), &nginx.url("/old"), None).expect("opened");
    assert!(read(&*file, UNIT, 2 * UNIT).expect("read") == content(3 * UNIT)[UNIT as usize..]);
}

#[test]
fn nginx_may_be_restarted() {
    let mut nginx = Nginx::start("");
    nginx.write("disk", &content(8 * UNIT));
    let opener = opener();
    let file = open(&opener, &nginx.url("/disk"), None).expect("opened");
    nginx.child.kill().and_then(|()| nginx.child.wait()).expect("ended");
    let reading = support::read_aside(&file, UNIT, 10);
    until(|| opener.counters().retries > 2);
    nginx.child = run(nginx.folder.path(), nginx.port, "");
    let found = reading.join().expect("no panic").expect("read");
    assert!(found == content(8 * UNIT)[UNIT as usize..UNIT as usize + 10]);
}

#[test]
fn nginx_that_limits_requests_is_read_patiently() {
    // Status 429 for all but one at a time.
    let nginx = Nginx::start("limit_conn_status 429; limit_conn all 1; limit_rate 20m;");
    let data = content(12 * UNIT);
    nginx.write("disk", &data);
    let mut config = config();
    config.tuning.window = 8 << 20;
    config.tuning.on_outage = Outage::Wait;
    let file = open(&Opener::new(config), &nginx.url("/disk"), None).expect("opened");
    assert!(read(&*file, 0, data.len() as u64).expect("read") == data);
}
