use super::*;
use crate::protocol::constants::{OPTION_REPLY_MAGIC, info, rep, transmission};
use crate::protocol::meta::{Context, Contexts};
use crate::protocol::session::HeaderStyle;

mod attacks;

/// Two exports; "" is the first.
struct Two;

fn disk() -> ExportInfo {
    ExportInfo {
        description: "a disk".into(),
        ..ExportInfo::new("disk", 1 << 20)
    }
}

fn other() -> ExportInfo {
    ExportInfo {
        read_only: true,
        contexts: Contexts::from_iter([Context::Allocation]),
        ..ExportInfo::new("other", 512)
    }
}

impl Catalog for Two {
    fn list(&self) -> Vec<ExportInfo> {
        vec![disk(), other()]
    }

    fn find(&self, name: &str) -> Option<ExportInfo> {
        match name {
            "" | "disk" => Some(disk()),
            "other" => Some(other()),
            _ => None,
        }
    }
}

/// The server's handshake, driven as a client would drive it.
struct Peer(Handshake);

impl Peer {
    fn new(tls: TlsPolicy) -> Self {
        Self::with_flags(tls, 3)
    }

    fn with_flags(tls: TlsPolicy, flags: u32) -> Self {
        let mut peer = Self(Handshake::new(tls));
        assert_eq!(peer.feed(&flags.to_be_bytes()), Ok((Event::NeedInput, vec![])));
        peer
    }

    fn structured() -> Self {
        let mut peer = Self::new(TlsPolicy::Off);
        peer.ack(opt::STRUCTURED_REPLY, b"");
        peer
    }

    fn feed(&mut self, mut input: &[u8]) -> Result<(Event, Vec<u8>), ProtocolError> {
        let mut out = Vec::new();
        let event = self.0.feed(&mut input, &Two, &mut out)?;
        assert!(input.is_empty(), "an option is taken whole");
        Ok((event, out))
    }

    fn send(&mut self, option: u32, data: &[u8]) -> Result<(Event, Vec<u8>), ProtocolError> {
        self.feed(&message(option, data))
    }

    /// The types and the data of the replies to `option`.
    fn ask(&mut self, option: u32, data: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let (event, out) = self.send(option, data).expect("the connection goes on");
        assert_eq!(event, Event::Reply);
        replies(option, &out)
    }

    fn ack(&mut self, option: u32, data: &[u8]) {
        assert_eq!(self.ask(option, data), [(rep::ACK, vec![])]);
    }

    fn rejected(&mut self, option: u32, data: &[u8]) -> (u32, String) {
        let replies = self.ask(option, data);
        let [(code, message)] = &replies[..] else {
            panic!("one reply, not {replies:?}")
        };
        (*code, String::from_utf8(message.clone()).unwrap())
    }

    fn go(&mut self, name: &str) -> Session {
        match self.send(opt::GO, &info_data(name, &[])).unwrap() {
            (Event::Done(session), _) => session,
            (event, _) => panic!("{event:?}"),
        }
    }
}

fn message(option: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = OPTION_MAGIC.to_be_bytes().to_vec();
    bytes.extend(option.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    bytes
}

fn replies(option: u32, mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut replies = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(bytes[..8], OPTION_REPLY_MAGIC.to_be_bytes());
        assert_eq!(be_u32(&bytes[8..12]), option);
        let (data, rest) = bytes[20..].split_at(be_u32(&bytes[16..20]) as usize);
        replies.push((be_u32(&bytes[12..16]), data.to_vec()));
        bytes = rest;
    }
    replies
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat()
}

fn info_data(name: &str, wanted: &[u16]) -> Vec<u8> {
    let mut data = text(name);
    data.extend((wanted.len() as u16).to_be_bytes());
    data.extend(wanted.iter().flat_map(|kind| kind.to_be_bytes()));
    data
}

fn meta_data(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = text(name);
    data.extend((queries.len() as u32).to_be_bytes());
    data.extend(queries.iter().flat_map(|query| text(query)));
    data
}

#[test]
fn the_greeting_offers_fixed_newstyle_without_zeroes() {
    assert_eq!(&Handshake::greeting(), b"NBDMAGICIHAVEOPT\0\x03");
}

#[test]
fn export_name_sends_124_zeroes_unless_they_are_declined() {
    for (flags, length) in [(0, 134), (1, 134), (2, 10), (3, 10)] {
        let mut peer = Peer::with_flags(TlsPolicy::Off, flags);
        let (event, out) = peer.send(opt::EXPORT_NAME, b"other").unwrap();
        assert!(matches!(event, Event::Done(session) if session.export == other()));
        assert_eq!(out.len(), length);
        assert_eq!(out[..8], 512_u64.to_be_bytes());
        assert_eq!(
            out[8..10],
            other().transmission_flags(HeaderStyle::Simple).to_be_bytes()
        );
    }
}

#[test]
fn a_failed_export_name_ends_the_connection_without_a_reply() {
    let long = "x".repeat(MAX_OPTION_DATA as usize + 1);
    for name in ["unknown", "a\0b", &"x".repeat(4097), &long] {
        let failed = Peer::new(TlsPolicy::Off).send(opt::EXPORT_NAME, name.as_bytes());
        assert!(matches!(failed, Err(ProtocolError::ExportName(_))), "{failed:?}");
    }
    let mut peer = Peer::new(TlsPolicy::Off);
    peer.ack(opt::EXTENDED_HEADERS, b"");
    assert!(peer.send(opt::EXPORT_NAME, b"disk").is_err());
    assert_eq!(peer.feed(b""), Err(ProtocolError::HandshakeOver));
}

#[test]
fn go_tells_about_the_export_and_ends_the_handshake() {
    let mut peer = Peer::new(TlsPolicy::Off);
    let wanted = [info::NAME, info::DESCRIPTION, 999];
    let (event, out) = peer.send(opt::GO, &info_data("", &wanted)).unwrap();
    let Event::Done(session) = event else {
        panic!("{event:?}")
    };
    assert_eq!(session.export.name, "disk");
    let all = replies(opt::GO, &out);
    let kinds: Vec<_> = all.iter().map(|(kind, data)| (*kind, data.get(1).copied())).collect();
    let info = |kind| (rep::INFO, Some(kind));
    assert_eq!(kinds, [info(0), info(1), info(2), info(3), (rep::ACK, None)]);
    assert_eq!(all[0].1.len(), 12);
    assert_eq!(all[1].1[2..], *b"disk");
    assert_eq!(all[2].1[2..], *b"a disk");
    assert_eq!(all[3].1[2..], [[0, 0, 0, 1], [0, 0, 16, 0], [4, 0, 0, 0]].concat());
}

#[test]
fn info_tells_the_same_and_the_handshake_goes_on() {
    let mut peer = Peer::new(TlsPolicy::Off);
    let told = peer.ask(opt::INFO, &info_data("disk", &[]));
    let (_, out) = peer.send(opt::GO, &info_data("disk", &[])).unwrap();
    assert_eq!(told, replies(opt::GO, &out));
}

#[test]
fn after_an_unknown_export_another_one_can_be_opened() {
    let mut peer = Peer::new(TlsPolicy::Off);
    let (code, message) = peer.rejected(opt::GO, &info_data("nope", &[]));
    assert_eq!((code, &message[..]), (rep::ERR_UNKNOWN, "there is no export \"nope\""));
    assert_eq!(peer.go("other").export, other());
}

#[test]
fn list_names_every_export_with_its_description() {
    let mut peer = Peer::new(TlsPolicy::Off);
    let replies = peer.ask(opt::LIST, b"");
    assert_eq!(replies[0], (rep::SERVER, [text("disk"), b"a disk".to_vec()].concat()));
    assert_eq!(replies[1], (rep::SERVER, text("other")));
    assert_eq!(replies[2], (rep::ACK, vec![]));
    assert_eq!(peer.rejected(opt::LIST, b"x").0, rep::ERR_INVALID);
}

#[test]
fn abort_is_acknowledged_whatever_comes_with_it() {
    for length in [0, 5, MAX_OPTION_DATA as usize + 1] {
        let (event, out) = Peer::new(TlsPolicy::Required)
            .send(opt::ABORT, &vec![1; length])
            .unwrap();
        assert_eq!(event, Event::Aborted);
        assert_eq!(replies(opt::ABORT, &out), [(rep::ACK, vec![])]);
    }
}

#[test]
fn headers_go_from_simple_to_extended_and_not_back() {
    assert_eq!(Peer::new(TlsPolicy::Off).go("").style, HeaderStyle::Simple);
    assert_eq!(Peer::structured().go("").style, HeaderStyle::Structured);
    let mut peer = Peer::structured();
    assert_eq!(peer.rejected(opt::EXTENDED_HEADERS, b"x").0, rep::ERR_INVALID);
    peer.ack(opt::EXTENDED_HEADERS, b"");
    assert_eq!(peer.rejected(opt::STRUCTURED_REPLY, b"").0, rep::ERR_EXT_HEADER_REQD);
    let flags = &peer.ask(opt::INFO, &info_data("", &[]))[0].1[10..];
    assert_ne!(u16::from_be_bytes(flags.try_into().unwrap()) & transmission::SEND_DF, 0);
    assert_eq!(peer.go("").style, HeaderStyle::Extended);
}

#[test]
fn header_styles_cannot_be_negotiated_twice() {
    for (option, style) in [
        (opt::STRUCTURED_REPLY, HeaderStyle::Structured),
        (opt::EXTENDED_HEADERS, HeaderStyle::Extended),
    ] {
        let mut peer = Peer::new(TlsPolicy::Off);
        peer.ack(option, b"");
        peer.ask(opt::SET_META_CONTEXT, &meta_data("disk", &["base:allocation"]));
        assert_eq!(peer.rejected(option, b"").0, rep::ERR_INVALID);
        let session = peer.go("disk");
        assert_eq!(session.style, style, "what was agreed upon stays");
        assert!(!session.contexts.is_empty());
    }
}

#[test]
fn contexts_are_listed_with_id_0_and_selected_with_their_id() {
    let mut peer = Peer::structured();
    let listed = peer.ask(opt::LIST_META_CONTEXT, &meta_data("disk", &[]));
    assert_eq!(listed.len(), 3);
    assert_eq!(listed[0], (rep::META_CONTEXT, b"\0\0\0\0base:allocation".to_vec()));
    let listed = peer.ask(opt::LIST_META_CONTEXT, &meta_data("disk", &["qemu:"]));
    assert_eq!(
        listed[0],
        (rep::META_CONTEXT, b"\0\0\0\0qemu:allocation-depth".to_vec())
    );
    peer.ack(opt::SET_META_CONTEXT, &meta_data("disk", &["base:", "qemu:"]));
    let set = peer.ask(
        opt::SET_META_CONTEXT,
        &meta_data("disk", &["x-no:such", "base:allocation"]),
    );
    assert_eq!(set[0], (rep::META_CONTEXT, b"\0\0\0\x01base:allocation".to_vec()));
    assert_eq!(set.len(), 2);
    assert_eq!(peer.go("disk").contexts, Contexts::from_iter([Context::Allocation]));
}

#[test]
fn contexts_apply_only_to_the_export_they_were_selected_for() {
    let mut peer = Peer::structured();
    peer.ask(opt::SET_META_CONTEXT, &meta_data("disk", &["base:allocation"]));
    assert_eq!(peer.go("other").contexts, Contexts::NONE);
    let mut peer = Peer::structured();
    peer.ack(opt::SET_META_CONTEXT, &meta_data("other", &["qemu:allocation-depth"]));
    assert_eq!(peer.go("other").contexts, Contexts::NONE);
}

#[test]
fn a_failed_or_empty_selection_replaces_the_previous_one() {
    let too_long = vec![0; MAX_OPTION_DATA as usize + 1];
    let faults: [&[u8]; 4] = [b"", &meta_data("nope", &[]), &meta_data("disk", &[]), &too_long];
    for fault in faults {
        let mut peer = Peer::structured();
        peer.ask(opt::SET_META_CONTEXT, &meta_data("disk", &["base:allocation"]));
        peer.ask(opt::SET_META_CONTEXT, fault);
        assert_eq!(peer.go("disk").contexts, Contexts::NONE);
    }
}

#[test]
fn contexts_need_structured_replies() {
    let mut peer = Peer::new(TlsPolicy::Off);
    for option in [opt::SET_META_CONTEXT, opt::LIST_META_CONTEXT] {
        assert_eq!(peer.rejected(option, &meta_data("disk", &[])).0, rep::ERR_INVALID);
    }
}

#[test]
fn unknown_options_are_answered_and_the_next_one_works() {
    let mut peer = Peer::new(TlsPolicy::Off);
    for (option, length) in [(4, 0), (0, 3), (12, 70_000), (u32::MAX, 65_536)] {
        assert_eq!(peer.rejected(option, &vec![0x49; length]).0, rep::ERR_UNSUP, "{option}");
        assert_eq!(peer.ask(opt::LIST, b"").len(), 3);
    }
}

#[test]
fn a_client_without_fixed_newstyle_gets_no_option_replies() {
    let failed = Peer::with_flags(TlsPolicy::Off, 2).send(opt::LIST, b"");
    assert_eq!(failed, Err(ProtocolError::NotFixedNewstyle { option: opt::LIST }));
}

#[test]
fn client_flags_that_were_not_offered_end_the_connection() {
    let failed = Peer(Handshake::new(TlsPolicy::Off)).feed(&7_u32.to_be_bytes());
    assert_eq!(failed, Err(ProtocolError::UnknownClientFlags(7)));
}

#[test]
fn a_server_that_shuts_down_refuses_all_options_but_abort() {
    let mut peer = Peer::new(TlsPolicy::Off);
    peer.0.shut_down();
    assert_eq!(peer.rejected(opt::GO, &info_data("", &[])).0, rep::ERR_SHUTDOWN);
    assert_eq!(peer.rejected(99, b"").0, rep::ERR_SHUTDOWN);
    assert_eq!(peer.send(opt::ABORT, b"").unwrap().0, Event::Aborted);
}

#[test]
fn one_call_answers_one_option() {
    let pipelined = message(opt::LIST, b"").repeat(100);
    let mut peer = Peer::new(TlsPolicy::Off);
    let mut input = &pipelined[..];
    let mut out = Vec::new();
    assert_eq!(peer.0.feed(&mut input, &Two, &mut out), Ok(Event::Reply));
    assert_eq!(input.len(), pipelined.len() - 16);
    assert_eq!(replies(opt::LIST, &out).len(), 3);
}

#[test]
fn a_handshake_fed_byte_by_byte_has_the_same_result() {
    let all = [
        message(opt::STRUCTURED_REPLY, b""),
        message(77, &[1; 100]),
        message(opt::SET_META_CONTEXT, &meta_data("", &["base:allocation"])),
        message(opt::GO, &info_data("", &[info::NAME])),
    ];
    let mut whole = Peer::new(TlsPolicy::Off);
    let mut bytewise = Peer::new(TlsPolicy::Off);
    for message in all {
        let expected = whole.feed(&message).unwrap();
        let (last, first) = message.split_last().unwrap();
        for byte in first {
            assert_eq!(bytewise.feed(&[*byte]), Ok((Event::NeedInput, vec![])));
        }
        assert_eq!(bytewise.feed(&[*last]).unwrap(), expected);
    }
}

#[test]
fn requests_after_the_handshake_are_left_to_the_caller() {
    let mut peer = Peer::new(TlsPolicy::Off);
    let bytes = [message(opt::GO, &info_data("", &[])), b"requests".to_vec()].concat();
    let mut input = &bytes[..];
    let event = peer.0.feed(&mut input, &Two, &mut Vec::new()).unwrap();
    assert!(matches!(event, Event::Done(_)));
    assert_eq!(input, b"requests");
}
