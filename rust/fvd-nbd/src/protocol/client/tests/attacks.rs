//! Servers that break the protocol: each ends the connection, with an error that says what was wrong.

use super::*;
use crate::protocol::client::reply::{MAX_CHUNK, MAX_PIECES};
use crate::protocol::constants::{MAX_OPTION_DATA, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, chunk, info, opt, rep};
use crate::protocol::handshake::Handshake;

/// A negotiation that waits for the answer to `option`.
fn waiting_for(option: u32) -> Negotiation {
    let tls = option == opt::STARTTLS;
    let mut client = Negotiation::new("x", tls);
    let mut out = Vec::new();
    client.feed(&mut &Handshake::greeting()[..], &mut out).expect("greeted");
    for before in [opt::STRUCTURED_REPLY, opt::SET_META_CONTEXT] {
        if tls || option == before {
            break;
        }
        client
            .feed(&mut &answers(before, &[(rep::ACK, b"")])[..], &mut out)
            .expect("goes on");
    }
    client
}

fn negotiated(option: u32, bytes: &[u8]) -> String {
    let fault = waiting_for(option).feed(&mut &bytes[..], &mut Vec::new());
    fault.expect_err("ends the connection").to_string()
}

fn size(size: u64) -> Vec<u8> {
    [&info::EXPORT.to_be_bytes()[..], &size.to_be_bytes(), &[0, 1]].concat()
}

fn block_sizes(sizes: [u32; 3]) -> Vec<u8> {
    let sizes = sizes.map(u32::to_be_bytes);
    [&info::BLOCK_SIZE.to_be_bytes()[..], sizes.as_flattened()].concat()
}

#[test]
fn what_is_no_nbd_server_is_told_so() {
    for (greeting, text) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "does not greet"),
        (b"NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53\0\0", "old protocol"),
    ] {
        let fault = Negotiation::new("", false).feed(&mut &greeting[..], &mut Vec::new());
        let fault = fault.expect_err("refused").to_string();
        assert!(fault.contains(text), "{fault}");
    }
}

#[test]
fn a_server_without_options_has_no_tls() {
    let mut greeting = Handshake::greeting();
    greeting[17] = 0;
    let fault = Negotiation::new("", true).feed(&mut &greeting[..], &mut Vec::new());
    assert!(fault.expect_err("refused").to_string().contains("has no TLS"));
}

#[test]
fn plain_text_behind_the_start_of_tls_is_refused() {
    let mut bytes = answers(opt::STARTTLS, &[(rep::ACK, b"")]);
    bytes.extend(answers(opt::STRUCTURED_REPLY, &[(rep::ACK, b"")]));
    assert!(negotiated(opt::STARTTLS, &bytes).contains("plain text"));
    let mut client = waiting_for(opt::STARTTLS);
    let ack = answers(opt::STARTTLS, &[(rep::ACK, b"")]);
    let step = client.feed(&mut &ack[..], &mut Vec::new());
    assert_eq!(step, Ok(Step::StartTls));
    client
        .feed(&mut &b"x"[..], &mut Vec::new())
        .expect_err("before TLS has begun");
}

#[test]
fn replies_to_options_are_bounded() {
    let endless = answers(opt::GO, &vec![(rep::INFO, &b"\0\x01name"[..]); 300]);
    assert!(negotiated(opt::GO, &endless).contains("more than 256"));
    let long = answers(
        opt::GO,
        &[(rep::ERR_UNKNOWN, &vec![b'x'; MAX_OPTION_DATA as usize + 1])],
    );
    assert!(negotiated(opt::GO, &long).contains("65537 bytes"));
    let text = vec![b'\n'; 4096];
    let shown = negotiated(opt::GO, &answers(opt::GO, &[(rep::ERR_UNKNOWN, &text)]));
    assert!(shown.len() < 400 && !shown.contains('\n'), "{shown}");
}

#[test]
fn replies_that_make_no_sense_end_the_negotiation() {
    let (ack, context) = ((rep::ACK, &b""[..]), &b"\0\0\0\x01base:allocation"[..]);
    let sizes = [
        [0, 512, 512],
        [3, 512, 512],
        [1 << 17, 1 << 17, 1 << 20],
        [512, 512, 1],
        [4096, 512, 4096],
    ];
    let mut cases = vec![
        (opt::GO, answers(opt::INFO, &[ack])),
        (opt::GO, answers(opt::GO, &[ack])),
        (opt::GO, answers(opt::GO, &[(rep::ACK, b"x")])),
        (opt::GO, answers(opt::GO, &[(rep::SERVER, b"x")])),
        (opt::GO, answers(opt::GO, &[(rep::INFO, b"\0")])),
        (opt::GO, answers(opt::GO, &[(rep::INFO, &size(1)[..11])])),
        (opt::GO, answers(opt::GO, &[(rep::INFO, &size(1 << 63))])),
        (
            opt::SET_META_CONTEXT,
            answers(opt::SET_META_CONTEXT, &[(rep::META_CONTEXT, &context[..9])]),
        ),
        (
            opt::SET_META_CONTEXT,
            answers(opt::SET_META_CONTEXT, &[(rep::META_CONTEXT, context); 2]),
        ),
        (opt::STRUCTURED_REPLY, vec![0; 20]),
    ];
    cases.extend(sizes.map(|sizes| (opt::GO, answers(opt::GO, &[(rep::INFO, &block_sizes(sizes))]))));
    for (option, bytes) in cases {
        assert!(negotiated(option, &bytes).contains("breaks the protocol"), "{bytes:?}");
    }
}

#[test]
fn block_sizes_without_a_limit_are_taken() {
    let sizes = block_sizes([512, 512, u32::MAX]);
    let bytes = answers(
        opt::GO,
        &[(rep::INFO, &sizes), (rep::INFO, &size(1000)), (rep::ACK, b"")],
    );
    let step = waiting_for(opt::GO).feed(&mut &bytes[..], &mut Vec::new());
    let Ok(Step::Done(opened)) = step else {
        panic!("{step:?}")
    };
    assert_eq!((opened.size, opened.block_sizes.maximum), (1000, u32::MAX - 511));
}

fn head(flags: u16, kind: u16, cookie: u64, length: u32) -> Vec<u8> {
    let mut bytes = STRUCTURED_REPLY_MAGIC.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

fn data(flags: u16, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = head(flags, chunk::OFFSET_DATA, 1, 8 + length);
    bytes.extend(offset.to_be_bytes());
    bytes.resize(bytes.len() + length as usize, 7);
    bytes
}

fn hole(flags: u16, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = head(flags, chunk::OFFSET_HOLE, 1, 12);
    bytes.extend(offset.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

fn status(id: u32, extents: &[[u32; 2]]) -> Vec<u8> {
    let mut bytes = head(0, chunk::BLOCK_STATUS, 2, 4 + 8 * extents.len() as u32);
    bytes.extend(id.to_be_bytes());
    for field in extents.as_flattened() {
        bytes.extend(field.to_be_bytes());
    }
    bytes
}

fn error(errno: u32, length: u16, rest: &[u8]) -> Vec<u8> {
    let mut bytes = head(1, chunk::ERROR, 1, 6 + rest.len() as u32);
    bytes.extend(errno.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(rest);
    bytes
}

fn simple(errno: u32, cookie: u64) -> Vec<u8> {
    let mut bytes = SIMPLE_REPLY_MAGIC.to_be_bytes().to_vec();
    bytes.extend(errno.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes
}

#[test]
fn replies_that_are_no_answers_end_the_connection() {
    let cases = [
        ("no magic number", vec![0; 16]),
        ("an unknown cookie", head(1, chunk::NONE, 3, 0)),
        ("an unknown cookie", simple(0, 3)),
        ("an unknown cookie with an error", simple(5, 3)),
        ("a simple reply to a read", simple(0, 1)),
        ("a simple reply to a status", simple(0, 2)),
        ("nothing, and more to come", head(0, chunk::NONE, 1, 0)),
        ("nothing, with a payload", head(1, chunk::NONE, 1, 1)),
        ("no byte", head(1, chunk::NONE, 1, 0)),
        ("no extent", head(1, chunk::NONE, 2, 0)),
        ("data of no length", head(0, chunk::OFFSET_DATA, 1, 8)),
        ("more data than was asked for", head(0, chunk::OFFSET_DATA, 1, 8 + 1025)),
        ("data before the range", data(0, 511, 1)),
        ("data behind the range", data(0, 512 + 1023, 2)),
        ("data at the end of all numbers", data(0, u64::MAX, 2)),
        ("data twice", [data(0, 512, 512), data(0, 1023, 1)].concat()),
        ("data in a hole", [hole(0, 512, 512), data(0, 1000, 100)].concat()),
        ("a hole over data", [data(0, 600, 10), hole(0, 512, 1024)].concat()),
        ("a gap", [data(0, 512, 100), data(1, 613, 923)].concat()),
        ("an empty hole", hole(0, 512, 0)),
        ("a hole that is too long", hole(0, 512, u32::MAX)),
        ("a hole with a longer payload", head(0, chunk::OFFSET_HOLE, 1, 13)),
        ("a status for a read", head(0, chunk::BLOCK_STATUS, 1, 12)),
        ("data for a status", head(0, chunk::OFFSET_DATA, 2, 9)),
        ("another context", status(2, &[[512, 0]])),
        (
            "two statuses",
            [status(1, &[[512, 0]]), status(1, &[[512, 0]])].concat(),
        ),
        ("an empty extent", status(1, &[[0, 0]])),
        ("an extent beyond the range", status(1, &[[512, 0], [4096, 1], [1, 0]])),
        (
            "half an extent",
            head(0, chunk::BLOCK_STATUS, 2, 15)[..]
                .iter()
                .copied()
                .chain([0; 15])
                .collect(),
        ),
        ("too many extents", head(0, chunk::BLOCK_STATUS, 2, MAX_CHUNK + 8)),
        ("an unknown chunk", head(0, 9, 1, 0)),
        ("a long error", head(0, chunk::ERROR, 1, 1 << 20)),
        ("a short error", head(0, chunk::ERROR, 1, 5)),
        ("an error message beyond its chunk", error(5, 100, b"x")),
        ("an error without a number", error(0, 0, b"")),
    ];
    for (what, bytes) in cases {
        for piece in [1, 10_000] {
            let mut replies = Replies::new(true, Some(1));
            replies.expect_read(1, 512, 1024);
            replies.expect_status(2, 4096);
            let fault = feed(&mut replies, &bytes, piece).expect_err(what).to_string();
            assert!(fault.contains("breaks the protocol"), "{what}: {fault}");
        }
    }
}

#[test]
fn chunks_without_an_agreement_end_the_connection() {
    let mut replies = Replies::new(false, None);
    replies.expect_read(1, 512, 1024);
    feed(&mut replies, &data(1, 512, 1024), 10_000).expect_err("no chunks");
}

#[test]
fn a_reply_in_thousands_of_pieces_is_refused() {
    let mut replies = Replies::new(true, None);
    replies.expect_read(1, 0, 1 << 20);
    for piece in 0..=MAX_PIECES as u64 {
        let fed = feed(&mut replies, &data(0, piece * 2, 1), 100);
        assert_eq!(fed.is_err(), piece == MAX_PIECES as u64, "{piece}");
    }
}

#[test]
fn unknown_errors_are_errors_too() {
    let mut bytes = error(77, 1, b"xyz");
    bytes[7] = 99;
    let mut replies = Replies::new(true, None);
    replies.expect_read(1, 512, 1024);
    let done = feed(&mut replies, &bytes, 3).expect("the connection goes on");
    let fault = done[0].result.clone().expect_err("an error");
    assert_eq!((fault.errno, fault.message.as_str()), (77, "x"));
}
