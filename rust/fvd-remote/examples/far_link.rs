//! A long link: a TCP proxy with a delay, a rate, and connections of a limited window.
//!
//! ```text
//! far_link --listen PORT --to HOST:PORT [--delay MS] [--rate BYTES] [--window BYTES] [--stall SHARE:SECONDS]
//! ```
//!
//! All connections share the rate (`--rate`, bytes a second) of each direction. `--delay` is the time of one
//! direction: a round trip takes twice as long. As on a real link, a connection has at most `--window` bytes
//! under way in each direction: that limits it if the link is long. `--stall 0.01:10` holds one request in a
//! hundred for 10 s.
//!
//! It needs the standard library alone, so `rustc -O` builds it in seconds (`benches/remote/far.py`).

use std::collections::VecDeque;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{env, thread};

const PIECE: usize = 64 << 10;

type Failure = Box<dyn Error + Send + Sync>;

struct Options {
    listen: u16,
    to: String,
    delay: Duration,
    /// Bytes a second.
    rate: f64,
    window: usize,
    stall: (f64, Duration),
}

/// One direction of the link.
struct Direction {
    delay: Duration,
    rate: f64,
    stall: (f64, Duration),
    state: Mutex<State>,
}

struct State {
    /// When the last byte so far has left.
    free_at: Instant,
    random: u64,
}

impl Direction {
    fn new(options: &Options, stall: (f64, Duration)) -> Self {
        let state = State {
            free_at: Instant::now(),
            random: 0x9e37_79b9_7f4a_7c15,
        };
        Self {
            delay: options.delay,
            rate: options.rate,
            stall,
            state: Mutex::new(state),
        }
    }

    /// When `bytes` that leave now arrive.
    fn arrival(&self, bytes: usize) -> Instant {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let takes = Duration::from_secs_f64(bytes as f64 / self.rate);
        state.free_at = state.free_at.max(Instant::now()) + takes;
        let held = if state.random() < self.stall.0 {
            self.stall.1
        } else {
            Duration::ZERO
        };
        state.free_at + self.delay + held
    }
}

impl State {
    /// At least 0, less than 1 (xorshift).
    fn random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
        let share = (self.random >> 11) as f64 / (1_u64 << 53) as f64;
        share
    }
}

fn main() -> Result<(), Failure> {
    let options = parse(env::args().skip(1).collect())?;
    let still = (0.0, Duration::ZERO);
    let up = Arc::new(Direction::new(&options, options.stall));
    let down = Arc::new(Direction::new(&options, still));
    // What has arrived is under way until its acknowledgement is back.
    let pieces = (options.window / 2 / PIECE).max(1);
    for near in TcpListener::bind(("127.0.0.1", options.listen))?.incoming() {
        let (near, to) = (near?, options.to.clone());
        let (up, down) = (Arc::clone(&up), Arc::clone(&down));
        thread::spawn(move || {
            // The handshake of TCP takes a round trip.
            thread::sleep(up.delay + down.delay);
            // A connection that ends early ends both directions, and that is all.
            let _ = connect(near, &to, up, &down, pieces);
        });
    }
    Ok(())
}

fn connect(near: TcpStream, to: &str, up: Arc<Direction>, down: &Arc<Direction>, pieces: usize) -> Result<(), Failure> {
    let far = TcpStream::connect(to)?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_too, far_too) = (near.try_clone()?, far.try_clone()?);
    thread::spawn(move || carry(near_too, far_too, &up, pieces));
    carry(far, near, down, pieces);
    Ok(())
}

/// Carries the bytes of a connection in one direction, until its end.
fn carry(mut from: TcpStream, to: TcpStream, direction: &Direction, pieces: usize) {
    let (sender, receiver) = mpsc::sync_channel(pieces);
    let delivers = thread::spawn(move || deliver(to, &receiver));
    let mut buffer = vec![0; PIECE];
    while let Ok(length) = from.read(&mut buffer)
        && length > 0
        && send(&sender, direction, &buffer[..length])
    {}
    let _ = sender.send((Instant::now() + direction.delay, Vec::new()));
    let _ = delivers.join();
    let _ = from.shutdown(Shutdown::Read);
}

fn send(sender: &SyncSender<(Instant, Vec<u8>)>, direction: &Direction, piece: &[u8]) -> bool {
    let arrives = direction.arrival(piece.len());
    sender.send((arrives, piece.to_vec())).is_ok()
}

/// An empty piece is the end.
fn deliver(mut to: TcpStream, pieces: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((at, piece)) = pieces.recv() {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        if piece.is_empty() || to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

fn parse(words: Vec<String>) -> Result<Options, Failure> {
    let mut options = Options {
        listen: 0,
        to: String::new(),
        delay: Duration::from_millis(10),
        rate: 125e6,
        window: 2 << 20,
        stall: (0.0, Duration::ZERO),
    };
    let mut words = VecDeque::from(words);
    while let Some(name) = words.pop_front() {
        let value = words.pop_front().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--listen" => options.listen = value.parse()?,
            "--to" => options.to = value,
            "--delay" => options.delay = Duration::from_secs_f64(value.parse::<f64>()? / 1000.0),
            "--rate" => options.rate = value.parse()?,
            "--window" => options.window = value.parse()?,
            "--stall" => {
                let (share, seconds) = value.split_once(':').ok_or("--stall SHARE:SECONDS")?;
                options.stall = (share.parse()?, Duration::from_secs_f64(seconds.parse()?));
            }
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    if options.listen == 0 || options.to.is_empty() {
        return Err("--listen PORT and --to HOST:PORT are needed".into());
    }
    Ok(options)
}
