//! Attacks that have worked against servers: lengths above limits, sums that wrap, payloads taken for
//! requests.

use super::*;

#[test]
fn a_write_beyond_64_mib_ends_the_connection_before_its_payload() {
    for (style, flags) in [(HeaderStyle::Simple, 0), (HeaderStyle::Extended, cmd::FLAG_PAYLOAD_LEN)] {
        let session = session(style);
        let most = u64::from(MAX_PAYLOAD);
        assert_eq!(
            decode(&session, flags, cmd::WRITE, 0, most).unwrap().payload,
            MAX_PAYLOAD
        );
        for length in [most + 1, u64::from(u32::MAX)] {
            let cookie = COOKIE;
            let failed = decode(&session, flags, cmd::WRITE, 0, length);
            assert_eq!(failed, Err(ProtocolError::PayloadTooLong { cookie, length }));
        }
    }
    let failed = decode(&session(HeaderStyle::Extended), 32, cmd::WRITE, 0, 1 << 32);
    assert!(failed.is_err(), "the low 32 bits alone are 0");
}

#[test]
fn a_refused_write_still_has_its_payload_length() {
    let mut session = session(HeaderStyle::Simple);
    session.export.block_sizes.maximum = 1 << 20;
    let request = decode(&session, 0, cmd::WRITE, 0, 2 << 20).unwrap();
    assert_eq!(request.payload, 2 << 20);
    assert_eq!(request.command.unwrap_err().errno, Errno::Inval);
    session.export.read_only = true;
    let request = decode(&session, 0xffff, cmd::WRITE, u64::MAX, 512).unwrap();
    assert_eq!(request.payload, 512);
    assert_eq!(request.command.unwrap_err().errno, Errno::Perm);
}

#[test]
fn an_unexpected_payload_is_reported_so_that_it_can_be_skipped() {
    let session = session(HeaderStyle::Extended);
    for number in [cmd::READ, cmd::BLOCK_STATUS, cmd::FLUSH, 99] {
        let request = decode(&session, cmd::FLAG_PAYLOAD_LEN, number, 0, 16).unwrap();
        assert_eq!(request.payload, 16);
        assert_eq!(request.command.unwrap_err().errno, Errno::Inval);
    }
}

#[test]
fn the_payload_flag_means_nothing_without_extended_headers() {
    let request = decode(&session(HeaderStyle::Structured), 32, cmd::READ, 0, 16).unwrap();
    assert_eq!(request.payload, 0);
    assert_eq!(request.command.unwrap_err().errno, Errno::Inval);
}

#[test]
fn an_extended_write_has_a_payload_even_without_the_flag() {
    let request = decode(&session(HeaderStyle::Extended), 0, cmd::WRITE, 0, 512).unwrap();
    assert_eq!(request.payload, 512);
    assert!(request.command.is_ok());
}

#[test]
fn a_read_above_the_maximum_is_invalid_beyond_32_bits_too() {
    let session = session(HeaderStyle::Extended);
    for length in [u64::from(MAX_PAYLOAD) + 1, 1 << 32, (1 << 32) + 512] {
        assert_eq!(command(&session, 0, cmd::READ, 0, length), Err(Errno::Inval));
    }
}

#[test]
fn the_magic_number_of_another_style_ends_the_connection() {
    for (style, other) in [
        (HeaderStyle::Simple, HeaderStyle::Extended),
        (HeaderStyle::Extended, HeaderStyle::Simple),
    ] {
        let mut bytes = header(style, 0, cmd::READ, 0, 512);
        bytes[..4].copy_from_slice(&other.request_magic().to_be_bytes());
        let failed = Request::decode(&bytes, &session(style));
        assert!(matches!(failed, Err(ProtocolError::RequestMagic { .. })));
    }
}
