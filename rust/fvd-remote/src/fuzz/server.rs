//! A server in memory that answers as told, and honestly once it was told nothing more.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::choices::Choices;
use crate::fetch::UNIT;

pub(super) const LEN: u64 = 2 * UNIT + 4096 + 17;
pub(super) const ETAG: &str = "\"v0\"";

/// An answer that may be wrong in any way.
#[derive(Clone)]
pub(super) struct Answer {
    /// `{range}`, `{total}`, `{length}` and `{etag}` stand for what is right.
    head: Vec<u8>,
    framing: Framing,
    /// Nothing of the head was changed.
    is_plain: bool,
    /// Changes of the head, once it is filled in.
    changes: Vec<(usize, u8, u8)>,
    /// The body ends after this many bytes.
    cut: Option<usize>,
    /// What follows the answer.
    after: After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    /// Chunks whose heads are wrong.
    BadChunks(u8),
    UntilClose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Close,
    Silence,
    /// The connection serves other requests.
    Next,
    /// More bytes than were announced.
    Rubbish,
}

const HEADS: [&str; 12] = [
    "HTTP/1.1 206 Partial Content\r\nContent-Range: {range}\r\nETag: {etag}\r\n{length}\r\n",
    "HTTP/1.1 206 Partial Content\r\nContent-Range: {range}\r\nETag: {etag}\r\n{length}\r\n",
    "HTTP/1.1 206 Partial Content\r\nContent-Range: {range}\r\nETag: {etag}\r\nContent-Encoding: gzip\r\n{length}\r\n",
    "HTTP/1.1 200 OK\r\nETag: {etag}\r\n{length}\r\n",
    "HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/x\r\n{length}\r\n",
    "HTTP/1.1 307 X\r\nLocation: //u:p@127.0.0.1:1/\r\n{length}\r\n",
    "HTTP/1.1 416 X\r\nContent-Range: bytes */{total}\r\n{length}\r\n",
    "HTTP/1.1 412 X\r\n{length}\r\n",
    "HTTP/1.1 403 X\r\n{length}\r\n",
    "HTTP/1.1 429 X\r\nRetry-After: 7\r\n{length}\r\n",
    "HTTP/1.1 503 X\r\nRetry-After: Mon, 30 Nov 2026 10:00:00 GMT\r\n{length}\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 206 X\r\nContent-Range: {range}\r\nETag: {etag}\r\n{length}\r\n",
];

/// What may be put into a head.
const PIECES: [&str; 16] = [
    "Content-Range: bytes 0-0/1\r\n",
    "Content-Range: bytes 18446744073709551615-18446744073709551615/18446744073709551615\r\n",
    "Content-Range: bytes */*\r\n",
    "Content-Length: 18446744073709551615\r\n",
    "Content-Length: -1\r\n",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Retry-After: 99999999999999999999\r\n",
    "Retry-After: -1\r\n",
    "ETag: W/\"v0\"\r\n",
    "ETag: \"v1\"\r\n",
    "Location: gopher://x\r\n",
    "Last-Modified: \u{fffd}\r\n",
    "X: \r\n folded\r\n",
    "\r\n",
];

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = String::from_utf8_lossy(&self.head);
        let (framing, changes) = (self.framing, &self.changes);
        write!(
            f,
            "{head}{framing:?}, {changes:?}, cut {:?}, {:?}",
            self.cut, self.after
        )
    }
}

impl Answer {
    pub(super) fn new(choices: &mut Choices<'_>) -> Self {
        let mut head = choices.one_of(&HEADS).as_bytes().to_vec();
        let pieces = choices.below(3);
        for _ in 0..pieces {
            let at = choices.below(head.len());
            let line = head[..at]
                .iter()
                .rposition(|&byte| byte == b'\n')
                .map_or(0, |end| end + 1);
            head.splice(line..line, choices.one_of(&PIECES).bytes());
        }
        let how = choices.byte();
        let changes: Vec<_> = (0..choices.below(5))
            .map(|_| (choices.below(1 << 16), choices.byte(), choices.byte()))
            .collect();
        Self {
            head,
            is_plain: pieces == 0 && changes.is_empty(),
            changes,
            framing: choices.one_of(&[
                Framing::Length,
                Framing::Length,
                Framing::Chunked,
                Framing::BadChunks(how),
                Framing::UntilClose,
            ]),
            cut: (choices.below(3) == 0).then(|| choices.below(1 << 16) * 8),
            after: choices.one_of(&[After::Next, After::Next, After::Close, After::Silence, After::Rubbish]),
        }
    }

    /// Whether a client can tell where the body ends, and what belongs to it.
    fn is_framed(&self) -> bool {
        match self.framing {
            Framing::Length | Framing::UntilClose => true,
            // If the head does not say so any more, the heads of the chunks are data.
            Framing::Chunked => self.is_plain,
            Framing::BadChunks(_) => false,
        }
    }

    /// The head for a request for `range`.
    fn head(&self, range: &Range<u64>) -> Vec<u8> {
        let text = String::from_utf8_lossy(&self.head);
        let length = match self.framing {
            Framing::Length => format!("Content-Length: {}\r\n", range.end - range.start),
            Framing::Chunked | Framing::BadChunks(_) => "Transfer-Encoding: chunked\r\n".to_owned(),
            Framing::UntilClose => "Connection: close\r\n".to_owned(),
        };
        let text = text
            .replace("{range}", &format!("bytes {}-{}/{LEN}", range.start, range.end - 1))
            .replace("{total}", &LEN.to_string())
            .replace("{etag}", ETAG)
            .replace("{length}", &length);
        let mut head = text.into_bytes();
        for &(at, how, value) in &self.changes {
            let at = at % head.len().max(1);
            match how % 4 {
                _ if head.is_empty() => {}
                0 => head[at] = value,
                1 => head[at] ^= 1 << (value % 8),
                2 => drop(head.remove(at)),
                _ => head.insert(at, value),
            }
        }
        head
    }

    /// The whole answer. The body is the right one for `range`, if the head has the right mark.
    fn bytes(&self, range: &Range<u64>, is_framed: &AtomicBool) -> Vec<u8> {
        let mut all = self.head(range);
        if !self.is_framed() || !ends_once(&all) {
            is_framed.store(false, Ordering::Relaxed);
        }
        let is_ours = all.windows(ETAG.len()).any(|window| window == ETAG.as_bytes());
        let mut body = content(u64::from(!is_ours))
            .slice(range.start as usize..range.end as usize)
            .to_vec();
        body.truncate(self.cut.unwrap_or(usize::MAX));
        match self.framing {
            Framing::Length | Framing::UntilClose => all.extend(body),
            Framing::Chunked | Framing::BadChunks(_) => {
                for piece in body.chunks(50_000) {
                    all.extend(format!("{:x}\r\n", piece.len()).bytes());
                    if let Framing::BadChunks(how) = self.framing {
                        let at = all.len() - 3 - usize::from(how % 3);
                        all[at] = b"ffffx;\n\0-"[usize::from(how) % 9];
                    }
                    all.extend(piece);
                    all.extend(b"\r\n");
                }
                if self.cut.is_none() {
                    all.extend(b"0\r\n\r\n");
                }
            }
        }
        if self.after == After::Rubbish {
            all.extend(b"HTTP/1.1 206 X\r\nContent-Length: 3\r\n\r\nxyz");
        }
        all
    }
}

/// Whether the head ends where it should, and not before.
fn ends_once(head: &[u8]) -> bool {
    let last = head.windows(5).rposition(|window| window == b"HTTP/").unwrap_or(0);
    let ends = |at: &usize| head[*at..].starts_with(b"\n\r\n") || head[*at..].starts_with(b"\n\n");
    (last..head.len()).find(ends) == head.len().checked_sub(3)
}

/// Bytes that say which version they are of, and where they are.
pub(super) fn content(version: u64) -> Bytes {
    let words = (0..LEN.div_ceil(8)).flat_map(|word| (word ^ (version + 1) << 40).to_le_bytes());
    words.take(LEN as usize).collect::<Vec<u8>>().into()
}

#[derive(Clone)]
pub(super) struct Server {
    /// The answers that are left, one for each request.
    answers: Arc<Mutex<VecDeque<Answer>>>,
    /// Whether a client can tell what belongs to each body that was sent.
    is_framed: Arc<AtomicBool>,
}

impl Server {
    pub(super) fn new(answers: VecDeque<Answer>) -> Self {
        Self {
            answers: Arc::new(Mutex::new(answers)),
            is_framed: Arc::new(AtomicBool::new(true)),
        }
    }

    pub(super) fn is_framed(&self) -> bool {
        self.is_framed.load(Ordering::Relaxed)
    }

    /// Serves a connection to its end. It ends when the client goes, too.
    pub(super) async fn serve(self, mut stream: DuplexStream) {
        let mut seen = Vec::new();
        while let Some(range) = request(&mut stream, &mut seen).await {
            let answer = self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(answer) = answer else {
                if stream.write_all(&honest(&range)).await.is_err() {
                    return;
                }
                continue;
            };
            if stream.write_all(&answer.bytes(&range, &self.is_framed)).await.is_err() {
                return;
            }
            match answer.after {
                After::Next | After::Rubbish if answer.cut.is_none() && answer.framing != Framing::UntilClose => {}
                After::Silence => {
                    // Until the client has had enough.
                    _ = stream.read_to_end(&mut Vec::new()).await;
                    return;
                }
                _ => return,
            }
        }
    }
}

fn honest(range: &Range<u64>) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 206 X\r\nContent-Range: bytes {}-{}/{LEN}\r\nETag: {ETAG}\r\nContent-Length: {}\r\n\r\n",
        range.start,
        range.end - 1,
        range.end - range.start
    );
    [head.as_bytes(), &content(0)[range.start as usize..range.end as usize]].concat()
}

/// The range of the next request. None: the client has gone.
async fn request(stream: &mut DuplexStream, seen: &mut Vec<u8>) -> Option<Range<u64>> {
    let end = loop {
        if let Some(at) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => seen.extend_from_slice(&piece[..count]),
        }
    };
    let head = String::from_utf8_lossy(&seen[..end]).to_ascii_lowercase();
    seen.drain(..end);
    let (_, rest) = head.split_once("range: bytes=")?;
    let (range, _) = rest.split_once("\r\n")?;
    let (first, last) = range.split_once('-')?;
    let first: u64 = first.parse().ok()?;
    Some(first.min(LEN - 1)..(last.parse::<u64>().ok()? + 1).clamp(first.min(LEN - 1) + 1, LEN))
}
