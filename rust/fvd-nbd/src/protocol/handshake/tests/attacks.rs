//! Attacks that have worked against servers: false lengths, plain text taken for TLS, endless negotiation.

use super::*;

#[test]
fn an_option_of_4_gib_ends_the_connection_before_its_data() {
    let mut head = message(opt::LIST, b"");
    head[12..].fill(0xff);
    let failed = Peer::new(TlsPolicy::Off).feed(&head);
    let (option, length) = (opt::LIST, u32::MAX);
    assert_eq!(failed, Err(ProtocolError::OptionTooLong { option, length }));
}

#[test]
fn an_option_that_is_too_long_is_skipped_and_not_kept() {
    let mut peer = Peer::new(TlsPolicy::Off);
    let long = message(opt::INFO, &vec![0; 1 << 20]);
    let (rest, first) = (&long[1000..], &long[..1000]);
    assert_eq!(peer.feed(first).unwrap().0, Event::NeedInput);
    for part in rest.chunks(70_000) {
        let (event, out) = peer.feed(part).unwrap();
        assert!(peer.0.buffer.capacity() <= OPTION_HEAD_LEN);
        if event == Event::Reply {
            assert_eq!(replies(opt::INFO, &out)[0].0, rep::ERR_TOO_BIG);
        }
    }
    assert_eq!(peer.ask(opt::LIST, b"").len(), 3);
}

#[test]
fn an_announced_length_allocates_nothing_in_advance() {
    let mut peer = Peer::new(TlsPolicy::Off);
    let long = message(opt::INFO, &vec![0; MAX_OPTION_DATA as usize]);
    peer.feed(&long[..20]).unwrap();
    assert!(peer.0.buffer.capacity() < 100);
}

#[test]
fn a_name_longer_than_its_option_is_invalid() {
    let mut data = info_data("disk", &[]);
    data[..4].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(Peer::new(TlsPolicy::Off).rejected(opt::GO, &data).0, rep::ERR_INVALID);
    assert_eq!(
        Peer::structured().rejected(opt::SET_META_CONTEXT, &data).0,
        rep::ERR_INVALID
    );
}

#[test]
fn a_name_of_more_than_4096_bytes_is_invalid() {
    let data = info_data(&"x".repeat(4097), &[]);
    assert_eq!(Peer::new(TlsPolicy::Off).rejected(opt::GO, &data).0, rep::ERR_INVALID);
    let data = info_data(&"\u{1}".repeat(4096), &[]);
    let (code, message) = Peer::new(TlsPolicy::Off).rejected(opt::GO, &data);
    assert_eq!(code, rep::ERR_UNKNOWN);
    assert!(message.len() <= 4096, "messages are strings of the protocol, too");
}

#[test]
fn wrong_magic_ends_the_connection() {
    let mut bytes = message(opt::LIST, b"");
    bytes[0] ^= 1;
    let failed = Peer::new(TlsPolicy::Off).feed(&bytes);
    assert!(matches!(failed, Err(ProtocolError::OptionMagic(_))));
}

#[test]
fn endless_negotiation_is_cut_off() {
    let mut peer = Peer::new(TlsPolicy::Off);
    for _ in 0..MAX_OPTIONS {
        peer.ask(99, b"");
    }
    assert_eq!(peer.send(99, b""), Err(ProtocolError::TooManyOptions));
}

#[test]
fn where_tls_is_required_only_starttls_and_abort_work_before_it() {
    let mut peer = Peer::new(TlsPolicy::Required);
    let others = [
        opt::LIST,
        opt::INFO,
        opt::GO,
        opt::STRUCTURED_REPLY,
        opt::SET_META_CONTEXT,
        99,
    ];
    for option in others {
        assert_eq!(peer.rejected(option, &info_data("", &[])).0, rep::ERR_TLS_REQD);
    }
    let failed = peer.send(opt::EXPORT_NAME, b"disk");
    assert!(matches!(failed, Err(ProtocolError::ExportName(_))));
}

#[test]
fn nothing_agreed_in_plain_text_survives_starttls() {
    let mut peer = Peer::new(TlsPolicy::Optional);
    peer.ack(opt::STRUCTURED_REPLY, b"");
    peer.ask(opt::SET_META_CONTEXT, &meta_data("disk", &["base:allocation"]));
    peer.ack(opt::EXTENDED_HEADERS, b"");
    let (event, out) = peer.send(opt::STARTTLS, b"").unwrap();
    assert_eq!(event, Event::StartTls);
    assert_eq!(replies(opt::STARTTLS, &out), [(rep::ACK, vec![])]);
    peer.0.tls_started();
    let code = peer.rejected(opt::SET_META_CONTEXT, &meta_data("", &[])).0;
    assert_eq!(code, rep::ERR_INVALID, "structured replies are forgotten");
    let session = peer.go("disk");
    assert_eq!(session.style, HeaderStyle::Simple);
    assert_eq!(session.contexts, Contexts::NONE);
    assert!(session.encrypted);
}

#[test]
fn pipelined_plain_text_after_starttls_ends_the_connection() {
    let mut peer = Peer::new(TlsPolicy::Required);
    let bytes = [message(opt::STARTTLS, b""), message(opt::LIST, b"")].concat();
    let (mut input, mut out) = (&bytes[..], Vec::new());
    let failed = peer.0.feed(&mut input, &Two, &mut out);
    assert_eq!(failed, Err(ProtocolError::PlaintextAfterStartTls));
    assert!(out.is_empty());
}

#[test]
fn plain_text_between_starttls_and_tls_ends_the_connection() {
    let mut peer = Peer::new(TlsPolicy::Optional);
    peer.send(opt::STARTTLS, b"").unwrap();
    assert_eq!(peer.feed(b"").unwrap().0, Event::NeedInput);
    assert_eq!(peer.feed(b"I"), Err(ProtocolError::PlaintextAfterStartTls));
}

#[test]
fn starttls_is_refused_if_off_with_data_or_repeated() {
    assert_eq!(Peer::new(TlsPolicy::Off).rejected(opt::STARTTLS, b"").0, rep::ERR_UNSUP);
    let mut peer = Peer::new(TlsPolicy::Required);
    assert_eq!(peer.rejected(opt::STARTTLS, b"x").0, rep::ERR_INVALID);
    peer.send(opt::STARTTLS, b"").unwrap();
    peer.0.tls_started();
    assert_eq!(peer.rejected(opt::STARTTLS, b"").0, rep::ERR_INVALID);
    assert_eq!(peer.ask(opt::LIST, b"").len(), 3);
}
