//! Fuzz tests of the protocol: for any input nothing panics, memory stays within the limits, and after a
//! message with valid framing the next one is understood.

use fastrand::Rng;
use fvd_nbd::protocol::constants::{MAX_OPTION_DATA, MAX_PAYLOAD, opt, rep};
use fvd_nbd::protocol::error::{Errno, Refusal};
use fvd_nbd::protocol::handshake::{Event, Handshake, TlsPolicy};
use fvd_nbd::protocol::meta::{Context, Contexts, Status};
use fvd_nbd::protocol::reply::{Extents, Position};
use fvd_nbd::protocol::request::{Command, Request};
use fvd_nbd::protocol::session::{HeaderStyle, Session};

use super::memory::peak_of;
use super::options::{info, message, queries};
use super::replies::{OneDisk, chunks, disk, replies};
use super::seeds;

/// The memory that one option may use, in bytes: twice its data (a buffer that grew), the parsed data, and
/// the replies.
const MOST_MEMORY: usize = 16 * MAX_OPTION_DATA as usize;

fn fuzz(run: impl Fn(&mut Rng)) {
    seeds::fuzz(20_000, run);
}

fn noise(rng: &mut Rng, most: usize) -> Vec<u8> {
    let length = rng.usize(..most);
    std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
}

/// A random option, mostly a known one, with valid, almost valid or random data.
fn any_option(rng: &mut Rng) -> (u32, Vec<u8>) {
    let option = if rng.u32(..8) == 0 { rng.u32(..) } else { rng.u32(..14) };
    let name = ["", "disk", "nope"][rng.usize(..3)];
    let mut data = match rng.u32(..6) {
        0 | 1 => vec![],
        2 => info(name, &[rng.u16(..5), rng.u16(..)]),
        3 => queries(name, &["base:", "base:allocation", "qemu:allocation-depth"]),
        4 => noise(rng, 300),
        _ => vec![rng.u8(..); rng.usize(..2 * MAX_OPTION_DATA as usize)],
    };
    if rng.bool() && !data.is_empty() {
        let at = rng.usize(..data.len());
        data[at] = rng.u8(..);
    }
    (option, data)
}

/// Feeds `bytes` in pieces of random size until the handshake is over. None if it failed.
fn feed(handshake: &mut Handshake, rng: &mut Rng, mut bytes: &[u8]) -> Option<(Event, Vec<u8>)> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let (mut piece, rest) = bytes.split_at(rng.usize(1..=bytes.len()));
        while !piece.is_empty() {
            match handshake.feed(&mut piece, &OneDisk, &mut out) {
                Ok(Event::NeedInput | Event::Reply) => {}
                Ok(event) => return Some((event, out)),
                Err(_) => return None,
            }
        }
        bytes = rest;
    }
    Some((Event::Reply, out))
}

#[test]
fn after_any_well_framed_option_the_next_one_is_answered() {
    fuzz(|rng| {
        let mut handshake = Handshake::new(TlsPolicy::Optional);
        feed(&mut handshake, rng, &3_u32.to_be_bytes()).expect("the flags are valid");
        for _ in 0..rng.usize(1..6) {
            let (option, data) = any_option(rng);
            let outcome = feed(&mut handshake, rng, &message(option, &data));
            let Some((event, out)) = outcome else {
                assert_eq!(option, opt::EXPORT_NAME, "only this one has no error reply");
                return;
            };
            if option != opt::EXPORT_NAME {
                assert_one_final_reply(option, &out);
            }
            match event {
                Event::Reply => {}
                Event::StartTls => handshake.tls_started(),
                _ => return,
            }
            let (_, out) = feed(&mut handshake, rng, &message(opt::LIST, b"")).expect("in step");
            let kinds: Vec<_> = replies(opt::LIST, &out).into_iter().map(|(kind, _)| kind).collect();
            assert_eq!(kinds, [rep::SERVER, rep::ACK]);
        }
    });
}

/// Checks that exactly one reply, the last, is final: a client waits for that one.
fn assert_one_final_reply(option: u32, out: &[u8]) {
    let replies = replies(option, out);
    let (last, first) = replies.split_last().expect("a reply");
    let is_final = |kind: u32| kind == rep::ACK || kind & rep::ERROR != 0;
    assert!(is_final(last.0) && !first.iter().any(|(kind, _)| is_final(*kind)));
    if last.0 != rep::ACK {
        assert!(first.is_empty() && last.1.len() <= 4096);
    }
}

#[test]
fn a_mutated_stream_stays_within_the_memory_limit() {
    fuzz(|rng| {
        let mut stream = 3_u32.to_be_bytes().to_vec();
        for _ in 0..rng.usize(..8) {
            let (option, data) = any_option(rng);
            stream.extend(message(option, &data));
        }
        for _ in 0..rng.usize(..6) {
            let at = rng.usize(..stream.len());
            stream[at] = [0, 0xff, rng.u8(..), stream[at] ^ (1 << rng.u32(..8))][rng.usize(..4)];
        }
        stream.insert(0, 2);
        handshake(&stream);
    });
}

/// Shakes hands with a client that sends `data`, of which the first byte says what TLS is.
pub(crate) fn handshake(data: &[u8]) {
    let Some((policy, mut rest)) = data.split_first() else {
        return;
    };
    let policies = [TlsPolicy::Off, TlsPolicy::Optional, TlsPolicy::Required];
    let mut handshake = Handshake::new(policies[usize::from(*policy) % 3]);
    while !rest.is_empty() {
        let ((), peak) = peak_of(|| {
            let mut out = Vec::new();
            match handshake.feed(&mut rest, &OneDisk, &mut out) {
                Ok(Event::StartTls) => handshake.tls_started(),
                Ok(Event::NeedInput | Event::Reply) => {}
                Ok(Event::Aborted | Event::Done(_)) | Err(_) => rest = &[],
            }
        });
        assert!(peak <= MOST_MEMORY, "{peak} bytes for one option");
    }
}

#[test]
fn noise_is_refused_without_allocating() {
    fuzz(|rng| {
        let noise = noise(rng, 200);
        let mut input = &noise[..];
        let mut handshake = Handshake::new(TlsPolicy::Off);
        let (event, peak) = peak_of(|| handshake.feed(&mut input, &OneDisk, &mut Vec::new()));
        assert!(!matches!(event, Ok(Event::Done(_))));
        assert!(peak <= 1024, "{peak} bytes for noise");
    });
}

#[test]
fn a_false_count_of_queries_allocates_nothing() {
    let mut data = queries("disk", &[]);
    data[8..].fill(0xff);
    let stream = [3_u32.to_be_bytes().to_vec(), message(opt::STRUCTURED_REPLY, b"")].concat();
    let mut handshake = Handshake::new(TlsPolicy::Off);
    feed(&mut handshake, &mut Rng::with_seed(1), &stream).expect("valid");
    let bytes = message(opt::SET_META_CONTEXT, &data);
    let (_, peak) = peak_of(|| handshake.feed(&mut &bytes[..], &OneDisk, &mut Vec::new()));
    assert!(peak <= 4096, "{peak} bytes for an option of {}", bytes.len());
}

fn any_session(rng: &mut Rng) -> Session {
    let mut export = disk();
    export.size = [0, 511, 1 << 20, 16 << 40, i64::MAX as u64][rng.usize(..5)];
    export.block_sizes.minimum = 1 << rng.u32(..13);
    export.read_only = rng.bool();
    export.fast_zero = rng.bool();
    let style = [HeaderStyle::Simple, HeaderStyle::Structured, HeaderStyle::Extended][rng.usize(..3)];
    let contexts = if style.is_structured() && rng.bool() {
        Contexts::all()
    } else {
        Contexts::NONE
    };
    Session {
        export,
        style,
        contexts,
        encrypted: false,
    }
}

/// Random offsets and lengths, mostly at limits.
fn number(rng: &mut Rng, size: u64) -> u64 {
    match rng.u32(..6) {
        0 => u64::MAX - rng.u64(..3),
        1 => size.wrapping_sub(rng.u64(..3) * 512),
        2 => (1 << rng.u32(..64)) - rng.u64(..2),
        3 => u64::from(MAX_PAYLOAD) + rng.u64(..2),
        4 => 0,
        _ => rng.u64(..1 << 12) * 512,
    }
}

#[test]
fn any_request_is_valid_refused_or_ends_the_connection() {
    fuzz(|rng| {
        let seed = rng.u8(..);
        let session = any_session(&mut Rng::with_seed(seed.into()));
        let mut header = session.style.request_magic().to_be_bytes().to_vec();
        let flags = if rng.bool() { 0 } else { 1_u16 << rng.u32(..8) };
        header.extend(flags.to_be_bytes());
        header.extend(rng.u16(..10).to_be_bytes());
        header.extend(rng.u64(..).to_be_bytes());
        header.extend(number(rng, session.export.size).to_be_bytes());
        let length = number(rng, session.export.size).to_be_bytes();
        header.extend(if session.style == HeaderStyle::Extended {
            &length[..]
        } else {
            &length[4..]
        });
        if rng.u32(..8) == 0 {
            let at = rng.usize(..header.len());
            header[at] = rng.u8(..);
        }
        header.insert(0, seed);
        request(&header);
    });
}

/// Decodes and answers a request: a byte says in which session, and the rest is its header.
pub(crate) fn request(data: &[u8]) {
    let Some((seed, header)) = data.split_first() else {
        return;
    };
    let mut rng = Rng::with_seed((*seed).into());
    let session = any_session(&mut rng);
    let Some(Ok(request)) = header
        .get(..session.style.request_len())
        .map(|header| Request::decode(header, &session))
    else {
        return;
    };
    assert!(request.payload <= MAX_PAYLOAD);
    let mut out = Vec::new();
    match &request.command {
        Ok(command) => {
            assert_sound(*command, &request, &session);
            answer(&mut rng, *command, &request, &session, &mut out);
        }
        Err(refusal) => request.reply_to.refuse(&mut out, refusal),
    }
    assert_reply_is_whole(&request, &session, &out);
}

fn assert_sound(command: Command, request: &Request, session: &Session) {
    let (offset, length, writes) = match command {
        Command::Read { offset, length, .. } => (offset, u64::from(length), false),
        Command::Write { offset, length, .. } => {
            assert_eq!(length, request.payload);
            (offset, u64::from(length), true)
        }
        Command::Trim { offset, length, .. } | Command::WriteZeroes { offset, length, .. } => (offset, length, true),
        Command::Cache { offset, length } => (offset, length, false),
        Command::BlockStatus { offset, length, .. } => {
            assert!(length > 0 && !session.contexts.is_empty());
            (offset, length, false)
        }
        Command::Flush | Command::Disconnect => return,
    };
    let end = offset.checked_add(length).expect("no sum wraps");
    assert!(end <= session.export.size);
    let minimum = u64::from(session.export.block_sizes.minimum);
    assert!(offset.is_multiple_of(minimum) && length.is_multiple_of(minimum));
    assert!(!(writes && session.export.read_only));
}

/// Appends one of the replies that a server may give to `command`.
fn answer(rng: &mut Rng, command: Command, request: &Request, session: &Session, out: &mut Vec<u8>) {
    let to = request.reply_to;
    let refusal = Refusal::new(Errno::Io, "é".repeat(rng.usize(..3000)));
    match command {
        _ if rng.u32(..4) == 0 => to.refuse(out, &refusal),
        Command::Read { offset, length, .. } if length > 0 => {
            let length = length.min(4096);
            to.data(out, offset, length, Position::Last);
            out.resize(out.len() + length as usize, 0xDA);
        }
        Command::BlockStatus { offset, length, one } => {
            let mut extents = Extents::new(session, length, one);
            let base = |zero| Status { zero, depth: 2 };
            let states = [Status::HOLE, Status::LOCAL, base(true), base(false)];
            while extents.push(1 << rng.u32(9..63), states[rng.usize(..4)].flags(Context::Allocation)) {}
            assert!(!one || extents.as_slice().len() == 1);
            assert!(extents.as_slice().iter().map(|(length, _)| length).sum::<u64>() <= length);
            to.status(out, Context::Allocation.id(), &extents, Position::More);
            to.refuse_at(out, &refusal, offset);
        }
        _ => to.done(out),
    }
}

/// Checks that `out` contains the complete reply to `request`, and nothing else.
fn assert_reply_is_whole(request: &Request, session: &Session, out: &[u8]) {
    let chunks = chunks(session.style, out);
    let (last, first) = chunks.split_last().expect("a reply");
    assert!(last.done && first.iter().all(|chunk| !chunk.done));
    assert!(chunks.iter().all(|chunk| chunk.cookie == request.reply_to.cookie));
}
