//! A valid session of a client: what it sends, and the replies that it must get.

use fastrand::Rng;
use fvd_nbd::protocol::constants::{cmd, opt};

use super::options::{info, message, queries};

/// The size of the disk in bytes.
pub(crate) const SIZE: usize = 256 << 10;

#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Style {
    Simple,
    Structured,
    Extended,
}

/// The expected answer to a request.
enum Answer {
    Done,
    /// In any number of chunks.
    Data(Vec<u8>),
    /// In one chunk of data, because the client asked for that.
    Whole(Vec<u8>),
    Status,
    Refused,
}

pub(crate) struct Script {
    style: Style,
    bytes: Vec<u8>,
    /// In the order of the requests. The server keeps that order, because this disk answers at once.
    answers: Vec<(u64, u64, Answer)>,
    disk: Vec<u8>,
}

impl Script {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let style = [Style::Simple, Style::Structured, Style::Extended][rng.usize(..3)];
        let mut script = Self {
            style,
            bytes: 3_u32.to_be_bytes().to_vec(),
            answers: Vec::new(),
            disk: vec![0; SIZE],
        };
        let contexts = script.shake_hands(rng);
        for cookie in 0..rng.u64(..40) {
            script.request(rng, cookie, contexts);
        }
        if rng.bool() {
            script.header(0, cmd::DISC, 0, 0, 0);
        }
        script
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn content(&self) -> Vec<u8> {
        self.disk.clone()
    }

    /// Adds the handshake. Returns whether metadata contexts were selected.
    fn shake_hands(&mut self, rng: &mut Rng) -> bool {
        let option = match self.style {
            Style::Simple => None,
            Style::Structured => Some(opt::STRUCTURED_REPLY),
            Style::Extended => Some(opt::EXTENDED_HEADERS),
        };
        let contexts = option.is_some() && rng.bool();
        let maybe = [
            (rng.bool(), opt::LIST, vec![]),
            (rng.bool(), opt::INFO, info("disk", &[0, 1, 2, 3])),
            (rng.bool(), opt::GO, info("nope", &[])),
            (rng.bool(), 99, b"what is this".to_vec()),
            (option.is_some(), option.unwrap_or(0), vec![]),
            (contexts, opt::SET_META_CONTEXT, queries("disk", &["base:allocation"])),
            (true, opt::GO, info("disk", &[3])),
        ];
        for (wanted, option, data) in maybe {
            if wanted {
                self.bytes.extend(message(option, &data));
            }
        }
        contexts
    }

    fn header(&mut self, flags: u16, command: u16, cookie: u64, offset: u64, length: u64) {
        let extended = self.style == Style::Extended;
        let magic: u32 = if extended { 0x21e4_1c71 } else { 0x2560_9513 };
        self.bytes.extend(magic.to_be_bytes());
        self.bytes.extend(flags.to_be_bytes());
        self.bytes.extend(command.to_be_bytes());
        self.bytes.extend(cookie.to_be_bytes());
        self.bytes.extend(offset.to_be_bytes());
        let length = length.to_be_bytes();
        self.bytes.extend(if extended { &length[..] } else { &length[4..] });
    }

    /// Adds a random request, which may be one that the server refuses.
    fn request(&mut self, rng: &mut Rng, cookie: u64, contexts: bool) {
        let (mut offset, mut length) = (rng.u64(..SIZE as u64), rng.u64(..20_000));
        if rng.u32(..4) == 0 {
            (offset, length) = (offset & !511, 1 << rng.u32(..17));
        }
        let command = rng.u16(..8);
        let command = if command == cmd::DISC { 99 } else { command };
        if command == cmd::FLUSH {
            (offset, length) = (0, 0);
        }
        let payload = self.style == Style::Extended && command == cmd::WRITE;
        let whole = self.style != Style::Simple && command == cmd::READ && rng.bool();
        let flags = match (payload, whole) {
            (true, _) => cmd::FLAG_PAYLOAD_LEN,
            (_, true) => cmd::FLAG_DF,
            _ => 0,
        };
        self.header(flags, command, cookie, offset, length);
        let mut data: Vec<u8> = std::iter::repeat_n(cookie as u8 + 1, length as usize).collect();
        data[length as usize / 2..].fill(rng.u8(..2));
        if command == cmd::WRITE {
            self.bytes.extend(&data);
        }
        let range = offset as usize..(offset + length) as usize;
        let known = matches!(command, 0..=7) && (command != cmd::BLOCK_STATUS || (contexts && length > 0));
        let answer = if !known || range.end > SIZE {
            Answer::Refused
        } else {
            match command {
                cmd::READ if length > 0 && whole => Answer::Whole(self.disk[range].to_vec()),
                cmd::READ if length > 0 => Answer::Data(self.disk[range].to_vec()),
                cmd::BLOCK_STATUS => Answer::Status,
                cmd::WRITE => {
                    self.disk[range].copy_from_slice(&data);
                    Answer::Done
                }
                cmd::TRIM | cmd::WRITE_ZEROES => {
                    self.disk[range].fill(0);
                    Answer::Done
                }
                _ => Answer::Done,
            }
        };
        self.answers.push((cookie, offset, answer));
    }

    /// Checks that the bytes after the handshake are the expected answers and nothing else.
    pub(crate) fn assert_answered(&self, received: &[u8]) {
        let mut rest = Bytes(after_the_handshake(received));
        for (cookie, offset, answer) in &self.answers {
            match self.style {
                Style::Simple => simple(&mut rest, *cookie, answer),
                _ => self.chunks(&mut rest, *cookie, *offset, answer),
            }
        }
        assert!(rest.0.is_empty(), "{} bytes too many", rest.0.len());
    }

    fn chunks(&self, rest: &mut Bytes<'_>, cookie: u64, offset: u64, answer: &Answer) {
        let Answer::Data(data) = answer else {
            let (done, kind, payload) = self.chunk(rest, cookie, offset);
            return assert_one(done, kind, payload, offset, answer, self.style);
        };
        let mut at = 0;
        loop {
            let (done, kind, mut payload) = self.chunk(rest, cookie, offset);
            assert_eq!(payload.number(8), offset + at as u64);
            let zeros = vec![0; if kind == 2 { payload.number(4) as usize } else { 0 }];
            let part = if kind == 2 { &zeros[..] } else { payload.0 };
            assert!(kind <= 2 && data[at..].starts_with(part));
            at += part.len();
            if done {
                return assert_eq!(at, data.len());
            }
        }
    }

    /// Reads a chunk. Returns whether it is the last one, its type and its payload. A simple reply counts as
    /// one without data.
    fn chunk<'a>(&self, rest: &mut Bytes<'a>, cookie: u64, offset: u64) -> (bool, u64, Bytes<'a>) {
        let extended = self.style == Style::Extended;
        let magic = rest.number(4);
        if magic == 0x6744_6698 {
            assert!(!extended);
            assert_eq!((rest.number(4), rest.number(8)), (0, cookie));
            return (true, 0, Bytes(&[]));
        }
        assert_eq!(magic, if extended { 0x6e8a_278c } else { 0x668e_33ef });
        let (done, kind) = (rest.number(2) == 1, rest.number(2));
        assert_eq!(rest.number(8), cookie);
        if extended {
            assert_eq!(rest.number(8), offset);
        }
        let length = rest.number(if extended { 8 } else { 4 });
        (done, kind, Bytes(rest.take(length as usize)))
    }
}

/// Checks an answer that must be one chunk.
fn assert_one(done: bool, kind: u64, mut payload: Bytes<'_>, offset: u64, answer: &Answer, style: Style) {
    assert!(done, "one chunk is all");
    match answer {
        Answer::Done => assert_eq!((kind, payload.0.len()), (0, 0)),
        Answer::Refused => assert_eq!(kind, 0x8001),
        Answer::Status => assert_eq!(kind, if style == Style::Extended { 6 } else { 5 }),
        Answer::Data(data) | Answer::Whole(data) => {
            assert_eq!((kind, payload.number(8)), (1, offset));
            assert!(payload.0 == data);
        }
    }
}

fn simple(rest: &mut Bytes<'_>, cookie: u64, answer: &Answer) {
    assert_eq!(rest.number(4), 0x6744_6698);
    let error = rest.number(4);
    assert_eq!(rest.number(8), cookie);
    assert_eq!(error != 0, matches!(answer, Answer::Refused));
    if let Answer::Data(data) = answer {
        assert!(rest.take(data.len()) == data);
    }
}

/// The received bytes that are not decoded yet.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn number(&mut self, count: usize) -> u64 {
        self.take(count).iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
    }
}

/// The bytes after the handshake, which ends with the reply to the successful `GO`.
fn after_the_handshake(received: &[u8]) -> &[u8] {
    let mut bytes = Bytes(received);
    bytes.take(18);
    loop {
        assert_eq!(bytes.number(8), 0x0003_e889_0455_65a9);
        let (option, kind, length) = (bytes.number(4), bytes.number(4), bytes.number(4));
        bytes.take(length as usize);
        if (option, kind) == (u64::from(opt::GO), 1) {
            return bytes.0;
        }
    }
}
