//! Whatever a server sends to a client.

use fastrand::Rng;
use fvd_nbd::protocol::client::handshake::{Negotiation, Step};
use fvd_nbd::protocol::client::reply::{Answer, Replies};
use fvd_nbd::protocol::error::{Errno, Refusal};
use fvd_nbd::protocol::handshake::Handshake;
use fvd_nbd::protocol::reply::{Position, ReplyTo};
use fvd_nbd::protocol::session::HeaderStyle;

use super::memory::peak_of;
use super::seeds;

/// Of the two requests that wait, in bytes.
const ASKED: u32 = 8192;
/// What the answers may take: both reads, the pieces of each, one chunk that is no data, and what it becomes.
const MOST_MEMORY: usize = 8 << 20;

fn mutate(rng: &mut Rng, stream: &mut [u8]) {
    for _ in 0..rng.usize(..6) {
        let at = rng.usize(..stream.len());
        stream[at] = [0, 0xff, rng.u8(..), stream[at] ^ (1 << rng.u32(..8))][rng.usize(..4)];
    }
}

#[test]
fn a_mutated_negotiation_is_refused_or_opens_an_export() {
    seeds::fuzz(20_000, |rng| {
        let mut stream = vec![rng.u8(..2)];
        stream.extend(Handshake::greeting());
        for _ in 0..rng.usize(..8) {
            let length = rng.usize(..40);
            stream.extend(0x0003_e889_0455_65a9_u64.to_be_bytes());
            stream.extend([5_u32, 8, 10, 7][rng.usize(..4)].to_be_bytes());
            stream.extend([1_u32, 3, 4, 1 << 31 | 1][rng.usize(..4)].to_be_bytes());
            stream.extend((length as u32).to_be_bytes());
            stream.extend(std::iter::repeat_with(|| rng.u8(..4)).take(length));
        }
        mutate(rng, &mut stream);
        negotiation(&stream);
    });
}

/// Negotiates with a server that sends `data`, of which the first byte says whether TLS is wanted.
pub(crate) fn negotiation(data: &[u8]) {
    let Some((tls, mut rest)) = data.split_first() else {
        return;
    };
    let mut client = Negotiation::new("disk", tls & 1 != 0);
    while !rest.is_empty() {
        let ((), peak) = peak_of(|| {
            let mut out = Vec::new();
            match client.feed(&mut rest, &mut out) {
                Ok(Step::Continue) => assert!(rest.is_empty()),
                Ok(Step::StartTls) => client.tls_started(&mut out),
                Ok(Step::Done(opened)) => {
                    assert!(i64::try_from(opened.size).is_ok());
                    rest = &[];
                }
                Err(_) => rest = &[],
            }
        });
        assert!(peak <= 1 << 20, "{peak} bytes");
    }
}

#[test]
fn mutated_replies_are_refused_or_answer_what_was_asked() {
    seeds::fuzz(20_000, |rng| {
        let mode = rng.u8(..2);
        let style = [HeaderStyle::Simple, HeaderStyle::Structured][usize::from(mode)];
        let mut stream = vec![mode];
        for _ in 0..rng.usize(1..6) {
            let cookie = rng.u64(..4);
            let read = cookie < 2;
            let to = ReplyTo {
                style,
                cookie,
                offset: 4096,
                read,
            };
            let position = [Position::Last, Position::More][rng.usize(..2)];
            match rng.u32(..4) {
                0 => to.refuse(&mut stream, &Refusal::new(Errno::Io, "x".repeat(rng.usize(..30)))),
                1 if read && style == HeaderStyle::Structured => {
                    to.hole(&mut stream, 4096 + rng.u64(..9000), rng.u32(1..ASKED + 2), position);
                }
                2 if read => {
                    let length = if mode == 0 { ASKED } else { rng.u32(1..ASKED + 2) };
                    let position = if mode == 0 { Position::Last } else { position };
                    to.data(&mut stream, 4096, length, position);
                    stream.resize(stream.len() + length as usize, 7);
                }
                _ => to.done(&mut stream),
            }
        }
        mutate(rng, &mut stream);
        replies(&stream);
    });
}

/// Reads the answers of a server that sends `data`, of which the first byte says whether they are structured.
pub(crate) fn replies(data: &[u8]) {
    let Some((mode, mut rest)) = data.split_first() else {
        return;
    };
    let mut replies = Replies::new(mode & 1 != 0, Some(1));
    for cookie in 0..4 {
        match cookie {
            0 | 1 => replies.expect_read(cookie, 4096, ASKED),
            _ => replies.expect_status(cookie, ASKED),
        }
    }
    let ((), peak) = peak_of(|| {
        while let Ok(Some(done)) = replies.feed(&mut rest) {
            match (done.cookie, done.result) {
                (0 | 1, Ok(Answer::Data(data))) => assert_eq!(data.len(), ASKED as usize),
                (2 | 3, Ok(Answer::Status(extents))) => {
                    let length: u64 = extents.iter().map(|extent| extent.length).sum();
                    assert!((1..=u64::from(ASKED)).contains(&length));
                }
                (0..4, Err(fault)) => assert!(fault.errno != 0 && fault.message.len() <= 1024),
                (cookie, result) => panic!("{cookie}: {result:?}"),
            }
        }
    });
    assert!(peak <= MOST_MEMORY, "{peak} bytes");
}
