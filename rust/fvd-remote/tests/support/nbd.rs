//! An NBD server that does as told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use fvd_nbd::protocol::error::Refusal;
use fvd_nbd::protocol::export::ExportInfo;
use fvd_nbd::protocol::handshake::{Catalog, Event, Handshake, TlsPolicy};
use fvd_nbd::protocol::meta::{Context, Status};
use fvd_nbd::protocol::reply::{Extents, Position};
use fvd_nbd::protocol::request::{Command, Request};
use fvd_nbd::protocol::session::{HeaderStyle, Session};

pub use fvd_nbd::protocol::error::Errno;
use fvd_nbd::protocol::meta::Contexts;

/// A request, and how many there were before it on all connections.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub number: usize,
    /// From 0.
    pub connection: usize,
    pub offset: u64,
    pub length: u64,
    pub is_status: bool,
}

/// What the server does with a request.
pub enum Act {
    Serve,
    /// In two chunks, the second half first.
    Swap,
    Error(Errno),
    Silence,
    HangUp,
    /// These bytes in place of a reply.
    Raw(Vec<u8>),
}

/// What a new connection finds.
pub enum Door {
    Open(ExportInfo),
    /// An old server: no options, simple replies.
    Old(u64),
    /// It accepts, and says nothing.
    Mute,
    Closed,
}

type Content = Arc<Vec<u8>>;
type Acts = dyn Fn(&Asked) -> Act + Send + Sync;
type Doors = dyn Fn(usize) -> Door + Send + Sync;

struct Shared {
    data: Content,
    doors: Box<Doors>,
    acts: Box<Acts>,
    log: Mutex<Vec<Asked>>,
    streams: Mutex<Vec<TcpStream>>,
    connections: AtomicUsize,
    is_away: AtomicBool,
}

pub struct NbdServer {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl NbdServer {
    /// Serves `data` as the export "disk". `doors`: what the connections find, from 0. `acts`: what happens to
    /// requests.
    pub fn start(
        data: &Content,
        doors: impl Fn(usize) -> Door + Send + Sync + 'static,
        acts: impl Fn(&Asked) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            data: Arc::clone(data),
            doors: Box::new(doors),
            acts: Box::new(acts),
            log: Mutex::default(),
            streams: Mutex::default(),
            connections: AtomicUsize::new(0),
            is_away: AtomicBool::new(false),
        });
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if served.is_away.load(Ordering::SeqCst) {
                    continue;
                }
                let copy = stream.try_clone().expect("a copy");
                served.streams.lock().expect("no panic").push(copy);
                let number = served.connections.fetch_add(1, Ordering::SeqCst);
                let served = Arc::clone(&served);
                thread::spawn(move || serve(&served, stream, number));
            }
        });
        Self { shared, address }
    }

    /// Serves `data` honestly.
    pub fn honest(data: &Content) -> Self {
        let len = data.len() as u64;
        Self::start(data, move |_| Door::Open(export(len)), |_| Act::Serve)
    }

    pub fn url(&self) -> String {
        format!("nbd://{}/disk", self.address)
    }

    pub fn log(&self) -> Vec<Asked> {
        self.shared.log.lock().expect("no panic").clone()
    }

    /// Requests for data.
    pub fn reads(&self) -> usize {
        self.log().iter().filter(|asked| !asked.is_status).count()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Closes all connections, as a restart does.
    pub fn hang_up(&self) {
        for stream in self.shared.streams.lock().expect("no panic").drain(..) {
            _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Closes all connections, and each new one at once, until the server is back.
    pub fn go_away(&self, is_away: bool) {
        self.shared.is_away.store(is_away, Ordering::SeqCst);
        self.hang_up();
    }
}

/// An export of `len` bytes for one connection.
pub fn export(len: u64) -> ExportInfo {
    ExportInfo {
        read_only: true,
        multi_conn: false,
        ..ExportInfo::new("disk", len)
    }
}

struct One(ExportInfo);

impl Catalog for One {
    fn list(&self) -> Vec<ExportInfo> {
        vec![self.0.clone()]
    }

    fn find(&self, name: &str) -> Option<ExportInfo> {
        (name == self.0.name).then(|| self.0.clone())
    }
}

fn serve(shared: &Shared, mut stream: TcpStream, connection: usize) -> Option<()> {
    let session = match (shared.doors)(connection) {
        Door::Open(info) => negotiate(&mut stream, &One(info))?,
        Door::Old(size) => greet_as_before(&mut stream, size)?,
        Door::Mute => {
            _ = stream.read(&mut [0]);
            return None;
        }
        Door::Closed => {
            _ = stream.shutdown(std::net::Shutdown::Both);
            return None;
        }
    };
    loop {
        let mut header = [0; 28];
        stream.read_exact(&mut header).ok()?;
        let request = Request::decode(&header, &session).expect("a request");
        let (offset, length, is_status) = match request.command {
            Ok(Command::Read { offset, length, .. }) => (offset, length.into(), false),
            Ok(Command::BlockStatus { offset, length, .. }) => (offset, length, true),
            Ok(Command::Disconnect) => return None,
            other => panic!("not a request of a reader: {other:?}"),
        };
        let mut log = shared.log.lock().expect("no panic");
        let asked = Asked {
            number: log.len(),
            connection,
            offset,
            length,
            is_status,
        };
        log.push(asked);
        drop(log);
        let mut reply = Vec::new();
        match (shared.acts)(&asked) {
            Act::Serve if is_status => status(&shared.data, &session, &request, &asked, &mut reply),
            Act::Serve => {
                request.reply_to.data(&mut reply, offset, length as u32, Position::Last);
                reply.extend(&shared.data[offset as usize..(offset + length) as usize]);
            }
            Act::Swap => {
                let half = offset + length / 2;
                for (start, end, position) in [(half, offset + length, Position::More), (offset, half, Position::Last)]
                {
                    request.reply_to.data(&mut reply, start, (end - start) as u32, position);
                    reply.extend(&shared.data[start as usize..end as usize]);
                }
            }
            Act::Error(errno) => request.reply_to.refuse(&mut reply, &Refusal::new(errno, "as told")),
            Act::Silence => {}
            Act::HangUp => {
                _ = stream.shutdown(std::net::Shutdown::Both);
                return None;
            }
            Act::Raw(bytes) => reply = bytes,
        }
        stream.write_all(&reply).ok()?;
    }
}

fn negotiate(stream: &mut TcpStream, catalog: &One) -> Option<Session> {
    stream.write_all(&Handshake::greeting()).ok()?;
    let mut handshake = Handshake::new(TlsPolicy::Off);
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        let mut input = &buffer[..count];
        while !input.is_empty() {
            let mut out = Vec::new();
            let event = handshake.feed(&mut input, catalog, &mut out).ok()?;
            stream.write_all(&out).ok()?;
            if let Event::Done(session) = event {
                return Some(session);
            }
        }
    }
}

/// The reply to `EXPORT_NAME`, the only option.
fn greet_as_before(stream: &mut TcpStream, size: u64) -> Option<Session> {
    let mut greeting = Handshake::greeting();
    greeting[16..].fill(0);
    stream.write_all(&greeting).ok()?;
    let mut asked = [0; 4 + 16 + 4];
    stream.read_exact(&mut asked).ok()?;
    assert!(asked.ends_with(b"disk"));
    let mut reply = size.to_be_bytes().to_vec();
    reply.extend([0; 126]);
    stream.write_all(&reply).ok()?;
    Some(Session {
        export: export(size),
        style: HeaderStyle::Simple,
        contexts: Contexts::NONE,
        encrypted: false,
    })
}

/// Zeros and data, in blocks of 64 KiB.
fn status(data: &[u8], session: &Session, request: &Request, asked: &Asked, reply: &mut Vec<u8>) {
    let mut extents = Extents::new(session, asked.length, false);
    let range = &data[asked.offset as usize..(asked.offset + asked.length) as usize];
    for block in range.chunks(64 << 10) {
        let status = if block.iter().all(|byte| *byte == 0) {
            Status::HOLE
        } else {
            Status::LOCAL
        };
        extents.push(block.len() as u64, status.flags(Context::Allocation));
    }
    request
        .reply_to
        .status(reply, Context::Allocation.id(), &extents, Position::Last);
}
