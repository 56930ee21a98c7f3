use super::*;
use crate::protocol::client::reply::{Answer, Extent};
use crate::protocol::client::request;
use crate::protocol::constants::{FLAG_FIXED_NEWSTYLE, opt, rep};
use crate::protocol::error::{Errno, Refusal};
use crate::protocol::export::{BlockSizes, ExportInfo};
use crate::protocol::handshake::{Catalog, Event, Handshake, TlsPolicy};
use crate::protocol::meta::{Context, Contexts, Status};
use crate::protocol::reply::{Extents, Position};
use crate::protocol::request::{Command, Request};
use crate::protocol::session::{HeaderStyle, Session};

struct One(ExportInfo);

impl Catalog for One {
    fn list(&self) -> Vec<ExportInfo> {
        vec![self.0.clone()]
    }

    fn find(&self, name: &str) -> Option<ExportInfo> {
        (name == self.0.name).then(|| self.0.clone())
    }
}

fn disk() -> ExportInfo {
    let mut disk = ExportInfo::new("a disk", 1 << 20);
    disk.block_sizes = BlockSizes {
        minimum: 512,
        preferred: 4096,
        maximum: 1 << 17,
    };
    disk
}

/// Both halves until the export is open, each byte on its own. The second is None if the client gave up.
fn negotiate(export: &str, tls: bool, disk: ExportInfo, policy: TlsPolicy) -> Result<(Opened, Session), ServerFault> {
    let (mut client, mut server) = (Negotiation::new(export, tls), Handshake::new(policy));
    let catalog = One(disk);
    let mut to_client = Handshake::greeting().to_vec();
    let mut session = None;
    loop {
        let mut to_server = Vec::new();
        for byte in std::mem::take(&mut to_client) {
            match client.feed(&mut &[byte][..], &mut to_server)? {
                Step::Continue => {}
                Step::StartTls => {
                    server.tls_started();
                    client.tls_started(&mut to_server);
                }
                Step::Done(opened) => return Ok((opened, session.expect("the server is done, too"))),
            }
        }
        let mut input = &to_server[..];
        assert!(!input.is_empty(), "both wait");
        while !input.is_empty() {
            let event = server.feed(&mut input, &catalog, &mut to_client).expect("valid");
            if let Event::Done(done) = event {
                session = Some(done);
            }
        }
    }
}

#[test]
fn an_export_is_opened_with_chunks_and_holes() {
    for (tls, policy) in [(false, TlsPolicy::Off), (true, TlsPolicy::Required)] {
        let (opened, session) = negotiate("a disk", tls, disk(), policy).expect("opened");
        assert_eq!(opened.size, 1 << 20);
        assert_eq!(opened.block_sizes, disk().block_sizes);
        assert_eq!(opened.flags, disk().transmission_flags(HeaderStyle::Structured));
        assert_eq!(opened.allocation, Some(Context::Allocation.id()));
        assert!(opened.structured);
        assert_eq!(session.contexts.iter().collect::<Vec<_>>(), [Context::Allocation]);
        assert_eq!((session.style, session.encrypted), (HeaderStyle::Structured, tls));
    }
}

#[test]
fn a_server_that_knows_no_holes_is_read_all_the_same() {
    let mut plain = disk();
    plain.contexts = Contexts::NONE;
    let (opened, _) = negotiate("a disk", false, plain, TlsPolicy::Off).expect("opened");
    assert_eq!((opened.structured, opened.allocation), (true, None));
}

#[test]
fn a_refusal_says_what_the_server_says() {
    let error = negotiate("other", false, disk(), TlsPolicy::Off).expect_err("no such export");
    let ServerFault::Refused { option, code, message } = error else {
        panic!("{error}");
    };
    assert_eq!((option, code), (opt::GO, rep::ERR_UNKNOWN));
    assert!(message.contains("other"), "{message}");
    let needs_tls = negotiate("a disk", false, disk(), TlsPolicy::Required).expect_err("no TLS");
    assert!(matches!(
        needs_tls,
        ServerFault::Refused {
            code: rep::ERR_TLS_REQD,
            ..
        }
    ));
    let has_none = negotiate("a disk", true, disk(), TlsPolicy::Off).expect_err("no TLS");
    assert!(matches!(
        has_none,
        ServerFault::Refused {
            option: opt::STARTTLS,
            ..
        }
    ));
}

#[test]
fn an_old_server_opens_exports_by_their_name_alone() {
    for (flags, zeros) in [(0, 124), (FLAG_FIXED_NEWSTYLE, 124), (3, 0)] {
        let mut greeting = Handshake::greeting();
        greeting[16..].copy_from_slice(&u16::to_be_bytes(flags));
        let (mut client, mut out) = (Negotiation::new("x", false), Vec::new());
        client.feed(&mut &greeting[..], &mut out).expect("greeted");
        if flags & FLAG_FIXED_NEWSTYLE != 0 {
            for option in [opt::STRUCTURED_REPLY, opt::GO] {
                let refused = answers(option, &[(rep::ERR_UNSUP, b"")]);
                client.feed(&mut &refused[..], &mut out).expect("goes on");
            }
        }
        assert!(out.ends_with(b"IHAVEOPT\0\0\0\x01\0\0\0\x01x"), "{out:?}");
        let mut reply = [&4096_u64.to_be_bytes()[..], &1_u16.to_be_bytes(), &vec![0; zeros]].concat();
        reply.push(99);
        let mut input = &reply[..];
        let Ok(Step::Done(opened)) = client.feed(&mut input, &mut out) else {
            panic!("not open");
        };
        assert_eq!((opened.size, opened.structured, input), (4096, false, &[99][..]));
    }
}

fn session(style: HeaderStyle) -> Session {
    Session {
        export: disk(),
        style,
        contexts: Contexts::from_iter([Context::Allocation]),
        encrypted: false,
    }
}

/// The request as the server decodes it.
fn decoded(session: &Session, bytes: &[u8]) -> Request {
    Request::decode(bytes, session).expect("a request")
}

#[test]
fn a_simple_reply_brings_all_bytes() {
    let session = session(HeaderStyle::Simple);
    let (mut replies, mut sent) = (Replies::new(false, None), Vec::new());
    request::read(&mut sent, 7, 512, 1024);
    replies.expect_read(7, 512, 1024);
    let asked = decoded(&session, &sent);
    let (offset, length, unfragmented) = (512, 1024, false);
    let read = Command::Read {
        offset,
        length,
        unfragmented,
    };
    assert_eq!(asked.command, Ok(read));
    let mut reply = Vec::new();
    asked.reply_to.data(&mut reply, 512, 1024, Position::Last);
    reply.extend([5; 1024]);
    for piece in [1, 3, 5000] {
        let mut replies = Replies::new(false, None);
        replies.expect_read(7, 512, 1024);
        let done = feed(&mut replies, &reply, piece).expect("valid");
        let result = Ok(Answer::Data(vec![5; 1024]));
        assert_eq!(done, [Done { cookie: 7, result }]);
    }
}

#[test]
fn chunks_and_holes_in_any_order_become_the_bytes_of_a_read() {
    let session = session(HeaderStyle::Structured);
    let mut sent = Vec::new();
    request::read(&mut sent, 1, 0, 2048);
    let first = decoded(&session, &sent).reply_to;
    sent.clear();
    request::read(&mut sent, 2, 4096, 512);
    let second = decoded(&session, &sent).reply_to;
    let mut reply = Vec::new();
    first.data(&mut reply, 1536, 512, Position::More);
    reply.extend([3; 512]);
    second.hole(&mut reply, 4096, 512, Position::Last);
    first.hole(&mut reply, 512, 1024, Position::More);
    first.data(&mut reply, 0, 512, Position::More);
    reply.extend([1; 512]);
    first.done(&mut reply);
    for piece in [1, 7, 5000] {
        let mut replies = Replies::new(true, None);
        replies.expect_read(1, 0, 2048);
        replies.expect_read(2, 4096, 512);
        let done = feed(&mut replies, &reply, piece).expect("valid");
        let bytes = [vec![1; 512], vec![0; 1024], vec![3; 512]].concat();
        let data = |cookie, bytes| Done {
            cookie,
            result: Ok(Answer::Data(bytes)),
        };
        assert_eq!(done, [data(2, vec![0; 512]), data(1, bytes)]);
    }
}

#[test]
fn a_status_tells_zeros_from_data() {
    let session = session(HeaderStyle::Structured);
    let mut sent = Vec::new();
    request::block_status(&mut sent, 9, 0, 1 << 20);
    let asked = decoded(&session, &sent);
    let mut extents = Extents::new(&session, 1 << 20, false);
    for (length, status) in [(4096, Status::LOCAL), (8192, Status::HOLE), (1 << 20, Status::LOCAL)] {
        extents.push(length, status.flags(Context::Allocation));
    }
    let mut reply = Vec::new();
    asked.reply_to.status(&mut reply, 1, &extents, Position::Last);
    let mut replies = Replies::new(true, Some(1));
    replies.expect_status(9, 1 << 20);
    let done = feed(&mut replies, &reply, 5).expect("valid");
    let extent = |length, zero| Extent { length, zero };
    let expected = vec![
        extent(4096, false),
        extent(8192, true),
        extent((1 << 20) - 12288, false),
    ];
    assert_eq!(done[0].result, Ok(Answer::Status(expected)));
}

#[test]
fn an_error_ends_its_request_and_not_the_connection() {
    for style in [HeaderStyle::Simple, HeaderStyle::Structured] {
        let session = session(style);
        let mut replies = Replies::new(style.is_structured(), None);
        let mut reply = Vec::new();
        for cookie in [1, 2] {
            let mut sent = Vec::new();
            request::read(&mut sent, cookie, 0, 512);
            replies.expect_read(cookie, 0, 512);
            let to = decoded(&session, &sent).reply_to;
            if cookie == 1 {
                to.refuse_at(&mut reply, &Refusal::new(Errno::Io, "the disk\nis gone"), 0);
            } else {
                to.data(&mut reply, 0, 512, Position::Last);
                reply.extend([1; 512]);
            }
        }
        let done = feed(&mut replies, &reply, 5).expect("the connection goes on");
        let fault = done[0].result.as_ref().expect_err("an error");
        assert_eq!(fault.errno, Errno::Io.to_wire());
        let text = if style.is_structured() { "the disk is gone" } else { "" };
        assert_eq!(fault.message, text, "on one line");
        assert_eq!(done[1].result, Ok(Answer::Data(vec![1; 512])));
    }
}
