use super::*;
use crate::protocol::export::ExportInfo;
use crate::protocol::meta::Contexts;
use crate::protocol::session::Session;

fn to(style: HeaderStyle, read: bool) -> ReplyTo {
    ReplyTo {
        style,
        cookie: 0x0102_0304_0506_0708,
        offset: 0x1000,
        read,
    }
}

/// The bytes that `write` appends, in hexadecimal.
fn hex(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    out.iter()
        .fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"))
}

const COOKIE: &str = "0102030405060708";
const OFFSET: &str = "0000000000001000";

fn extents(style: HeaderStyle) -> Extents {
    let session = Session {
        export: ExportInfo::new("", 1 << 20),
        style,
        contexts: Contexts::all(),
        encrypted: false,
    };
    let mut extents = Extents::new(&session, 0x3000, false);
    extents.push(0x1000, 0);
    extents.push(0x2000, 3);
    extents
}

#[test]
fn simple_replies_have_an_error_and_a_cookie() {
    let to = to(HeaderStyle::Simple, true);
    let ok = format!("6744669800000000{COOKIE}");
    assert_eq!(hex(|out| to.done(out)), ok);
    assert_eq!(hex(|out| to.data(out, 0x1000, 512, Position::Last)), ok);
    let refusal = Refusal::new(Errno::NoSpc, "words");
    let failed = format!("674466980000001c{COOKIE}");
    assert_eq!(hex(|out| to.refuse(out, &refusal)), failed);
    assert_eq!(hex(|out| to.refuse_at(out, &refusal, 0x1200)), failed);
}

#[test]
fn structured_reads_are_answered_in_chunks_only() {
    let to = to(HeaderStyle::Structured, true);
    let head = |flags: &str, kind: &str| format!("668e33ef{flags}{kind}{COOKIE}");
    assert_eq!(hex(|out| to.done(out)), head("0001", "0000") + "00000000");
    let data = hex(|out| to.data(out, 0x1000, 512, Position::More));
    assert_eq!(data, head("0000", "0001") + "00000208" + OFFSET);
    let hole = hex(|out| to.hole(out, 0x1000, 512, Position::Last));
    assert_eq!(hole, head("0001", "0002") + "0000000c" + OFFSET + "00000200");
    let refusal = Refusal::new(Errno::Io, "no");
    let failed = hex(|out| to.refuse(out, &refusal));
    assert_eq!(failed, head("0001", "8001") + "00000008" + "00000005" + "0002" + "6e6f");
    let failed = hex(|out| to.refuse_at(out, &refusal, 0x1000));
    assert_eq!(
        failed,
        head("0001", "8002") + "00000010" + "00000005" + "0002" + "6e6f" + OFFSET
    );
}

#[test]
fn structured_success_without_data_is_a_simple_reply() {
    let done = hex(|out| to(HeaderStyle::Structured, false).done(out));
    assert_eq!(done, format!("6744669800000000{COOKIE}"));
}

#[test]
fn extended_replies_are_chunks_with_the_offset_of_the_request() {
    let to_write = to(HeaderStyle::Extended, false);
    let head = |flags: &str, kind: &str| format!("6e8a278c{flags}{kind}{COOKIE}{OFFSET}");
    assert_eq!(hex(|out| to_write.done(out)), head("0001", "0000") + "0000000000000000");
    let data = hex(|out| to(HeaderStyle::Extended, true).data(out, 0x1200, 512, Position::Last));
    assert_eq!(data, head("0001", "0001") + "0000000000000208" + "0000000000001200");
}

#[test]
fn extended_headers_have_64_bit_extents_in_a_status() {
    let style = HeaderStyle::Structured;
    let status = hex(|out| to(style, false).status(out, 2, &extents(style), Position::More));
    let payload = "00000002".to_owned() + "0000100000000000" + "0000200000000003";
    assert_eq!(status, format!("668e33ef00000005{COOKIE}00000014{payload}"));
    let style = HeaderStyle::Extended;
    let status = hex(|out| to(style, false).status(out, 1, &extents(style), Position::Last));
    let payload =
        "0000000100000002".to_owned() + "00000000000010000000000000000000" + "00000000000020000000000000000003";
    assert_eq!(
        status,
        format!("6e8a278c00010006{COOKIE}{OFFSET}0000000000000028{payload}")
    );
}

#[test]
fn messages_are_cut_to_4096_bytes_between_characters() {
    let refusal = Refusal::new(Errno::Io, "x".to_owned() + &"é".repeat(4096));
    let failed = hex(|out| to(HeaderStyle::Structured, true).refuse(out, &refusal));
    assert_eq!(failed.len(), 2 * (20 + 6 + 4095));
    assert!(failed[48..].starts_with("0fff78c3a9"));
}
