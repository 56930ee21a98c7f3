//! The server: a thread for each connection, and a closure that decides what each request gets.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::tls::Identity;

#[derive(Clone, Debug)]
pub struct Request {
    /// With the query.
    pub path: String,
    headers: Vec<(String, String)>,
    /// The connection that it came by.
    pub connection: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The first and the last byte.
    pub fn range(&self) -> Option<(u64, u64)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    }
}

#[derive(Clone, Debug, Default)]
pub enum Fault {
    #[default]
    None,
    /// The connection ends after this many bytes of the body.
    Cut(usize),
    /// Nothing comes after this many bytes of the body.
    Stall(usize),
    /// One byte of the body in this time.
    Drip(Duration),
    /// No answer.
    Silence,
    /// The connection is closed instead of an answer.
    Reset,
    /// The connection is closed after the answer, which does not say so.
    Close,
}

#[derive(Clone, Debug, Default)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    fault: Fault,
    delay: Duration,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub fn ok(body: Vec<u8>) -> Self {
        Self::status(200).body(body)
    }

    pub fn redirect(status: u16, location: &str) -> Self {
        Self::status(status).with("Location", location)
    }

    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    /// Replaces a header of that name.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(key, _)| key != name);
        self
    }

    pub fn fault(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }

    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

type Handler = dyn Fn(&Request, usize) -> Reply + Send + Sync;

struct Inner {
    handler: Box<Handler>,
    log: Mutex<Vec<Request>>,
    is_stopped: AtomicBool,
    connections: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
    /// Requests that are being answered, and the most at one time.
    active: AtomicUsize,
    most: AtomicUsize,
    identity: Option<Identity>,
}

pub struct Server {
    pub address: SocketAddr,
    inner: Arc<Inner>,
}

impl Server {
    /// `handler` gets each request, and how many there were before.
    pub fn start(handler: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", None, handler)
    }

    pub fn start_tls(identity: Identity, handler: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", Some(identity), handler)
    }

    pub fn start_at(
        address: &str,
        identity: Option<Identity>,
        handler: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let inner = Arc::new(Inner {
            handler: Box::new(handler),
            log: Mutex::default(),
            is_stopped: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            open: Mutex::default(),
            active: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            identity,
        });
        let accepting = Arc::clone(&inner);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                let connection = accepting.connections.fetch_add(1, Ordering::SeqCst);
                accepting
                    .open
                    .lock()
                    .expect("no panic")
                    .push(stream.try_clone().expect("a descriptor"));
                let inner = Arc::clone(&accepting);
                thread::spawn(move || inner.converse(stream, connection));
            }
        });
        Self { address, inner }
    }

    pub fn url(&self, path: &str) -> String {
        let scheme = if self.inner.identity.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.address)
    }

    pub fn log(&self) -> Vec<Request> {
        self.inner.log.lock().expect("no panic").clone()
    }

    pub fn count(&self) -> usize {
        self.inner.log.lock().expect("no panic").len()
    }

    /// The most requests that were answered at one time.
    pub fn most_at_once(&self) -> usize {
        self.inner.most.load(Ordering::SeqCst)
    }

    /// Closes the port and all connections.
    pub fn stop(&self) {
        self.inner.is_stopped.store(true, Ordering::SeqCst);
        // Lets the thread that accepts see it.
        _ = TcpStream::connect(self.address);
        for stream in self.inner.open.lock().expect("no panic").drain(..) {
            _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Inner {
    fn converse(&self, stream: TcpStream, connection: usize) {
        let socket = stream.try_clone().expect("a descriptor");
        match &self.identity {
            // The client may go away at any time.
            Some(identity) => _ = self.answer_all(identity.accept(stream), &socket, connection),
            None => _ = self.answer_all(stream, &socket, connection),
        }
        _ = socket.shutdown(Shutdown::Both);
    }

    fn answer_all(&self, stream: impl Read + Write, socket: &TcpStream, connection: usize) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        while let Some(request) = read_request(&mut stream, connection)? {
            let number = {
                let mut log = self.log.lock().expect("no panic");
                log.push(request.clone());
                log.len() - 1
            };
            let reply = (self.handler)(&request, number);
            let active = self.active.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(active, Ordering::SeqCst);
            thread::sleep(reply.delay);
            let ended = self.answer(stream.get_mut(), socket, &reply);
            self.active.fetch_sub(1, Ordering::SeqCst);
            if !ended? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// False: the connection ends here.
    fn answer(&self, stream: &mut impl Write, socket: &TcpStream, reply: &Reply) -> io::Result<bool> {
        match reply.fault {
            Fault::Silence => {
                self.hang(socket);
                return Ok(false);
            }
            Fault::Reset => return Ok(false),
            _ => {}
        }
        write!(stream, "HTTP/1.1 {} X\r\n", reply.status)?;
        if !reply.headers.iter().any(|(name, _)| name == "Content-Length") {
            write!(stream, "Content-Length: {}\r\n", reply.body.len())?;
        }
        // An empty value: the header is missing.
        for (name, value) in reply.headers.iter().filter(|(_, value)| !value.is_empty()) {
            write!(stream, "{name}: {value}\r\n")?;
        }
        write!(stream, "\r\n")?;
        match reply.fault {
            Fault::Cut(at) => {
                stream.write_all(&reply.body[..at])?;
                stream.flush()?;
                return Ok(false);
            }
            Fault::Stall(at) => {
                stream.write_all(&reply.body[..at])?;
                stream.flush()?;
                self.hang(socket);
                return Ok(false);
            }
            Fault::Drip(time) => {
                for byte in &reply.body {
                    stream.write_all(&[*byte])?;
                    stream.flush()?;
                    thread::sleep(time);
                    if self.is_stopped.load(Ordering::SeqCst) {
                        return Ok(false);
                    }
                }
            }
            _ => stream.write_all(&reply.body)?,
        }
        stream.flush()?;
        Ok(!matches!(reply.fault, Fault::Close))
    }

    /// Until the client goes, or the server is stopped.
    fn hang(&self, socket: &TcpStream) {
        _ = socket.set_read_timeout(Some(Duration::from_millis(20)));
        while !self.is_stopped.load(Ordering::SeqCst) {
            match (&mut &*socket).read(&mut [0]) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                _ => return,
            }
        }
    }
}

fn read_request(stream: &mut BufReader<impl Read>, connection: usize) -> io::Result<Option<Request>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let path = lines[0].split(' ').nth(1).unwrap_or_default().to_owned();
    let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ok(Some(Request {
        path,
        headers: headers.collect(),
        connection,
    }))
}
