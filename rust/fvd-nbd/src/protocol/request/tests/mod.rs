use super::*;
use crate::protocol::error::Errno;
use crate::protocol::export::ExportInfo;
use crate::protocol::meta::Contexts;

mod attacks;

const TIB: u64 = 1 << 40;
const COOKIE: u64 = 0x00C0_FFEE;

fn session(style: HeaderStyle) -> Session {
    Session {
        export: ExportInfo::new("", 16 * TIB),
        style,
        contexts: Contexts::all(),
        encrypted: false,
    }
}

fn header(style: HeaderStyle, flags: u16, command: u16, offset: u64, length: u64) -> Vec<u8> {
    let mut bytes = style.request_magic().to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(command.to_be_bytes());
    bytes.extend(COOKIE.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    let length = length.to_be_bytes();
    bytes.extend(if style == HeaderStyle::Extended {
        &length[..]
    } else {
        &length[4..]
    });
    bytes
}

fn decode(session: &Session, flags: u16, command: u16, offset: u64, length: u64) -> Result<Request, ProtocolError> {
    Request::decode(&header(session.style, flags, command, offset, length), session)
}

fn command(session: &Session, flags: u16, command: u16, offset: u64, length: u64) -> Result<Command, Errno> {
    let request = decode(session, flags, command, offset, length).expect("the connection goes on");
    request.command.map_err(|refusal| refusal.errno)
}

const STYLES: [HeaderStyle; 3] = [HeaderStyle::Simple, HeaderStyle::Structured, HeaderStyle::Extended];

#[test]
fn a_header_is_decoded_to_a_command_and_reply_fields() {
    for style in STYLES {
        let request = decode(&session(style), 0, cmd::READ, 512, 4096).unwrap();
        let reply_to = ReplyTo {
            style,
            cookie: COOKIE,
            offset: 512,
            read: true,
        };
        assert_eq!((request.reply_to, request.payload), (reply_to, 0));
        let (offset, length, unfragmented) = (512, 4096, false);
        let read = Command::Read {
            offset,
            length,
            unfragmented,
        };
        assert_eq!(request.command, Ok(read));
    }
}

#[test]
fn every_command_is_known_with_its_flags() {
    let session = session(HeaderStyle::Extended);
    let (offset, length, fua) = (512, TIB, true);
    let ask = |flags, number| command(&session, flags, number, offset, length);
    assert_eq!(ask(1, cmd::TRIM), Ok(Command::Trim { offset, length, fua }));
    assert_eq!(ask(1, cmd::CACHE), Ok(Command::Cache { offset, length }));
    let (no_hole, fast) = (true, true);
    let zeroes = Command::WriteZeroes {
        offset,
        length,
        fua,
        no_hole,
        fast,
    };
    assert_eq!(ask(0b1_0011, cmd::WRITE_ZEROES), Ok(zeroes));
    let one = true;
    assert_eq!(
        ask(0b1000, cmd::BLOCK_STATUS),
        Ok(Command::BlockStatus { offset, length, one })
    );
    assert_eq!(command(&session, 0, cmd::FLUSH, 0, 0), Ok(Command::Flush));
    assert_eq!(command(&session, 0, cmd::DISC, 0, 0), Ok(Command::Disconnect));
    let length = 8192;
    let write = decode(&session, 0b10_0001, cmd::WRITE, offset, length.into()).unwrap();
    assert_eq!(write.command, Ok(Command::Write { offset, length, fua }));
    assert_eq!(write.payload, length);
    let unfragmented = true;
    let read = Command::Read {
        offset,
        length,
        unfragmented,
    };
    assert_eq!(command(&session, 0b100, cmd::READ, offset, length.into()), Ok(read));
}

#[test]
fn flags_that_a_command_does_not_define_are_invalid() {
    let session = session(HeaderStyle::Structured);
    let allowed = [
        (cmd::READ, 0b00_0101),
        (cmd::WRITE, 0b00_0001),
        (cmd::FLUSH, 0b00_0001),
        (cmd::TRIM, 0b00_0001),
        (cmd::CACHE, 0b00_0001),
        (cmd::WRITE_ZEROES, 0b01_0011),
        (cmd::BLOCK_STATUS, 0b00_1001),
    ];
    for (number, allowed) in allowed {
        let length = if number == cmd::FLUSH { 0 } else { 512 };
        for bit in 0..16 {
            let served = command(&session, 1 << bit, number, 0, length);
            assert_eq!(served.is_ok(), allowed & 1 << bit != 0, "command {number}, flag {bit}");
        }
    }
}

#[test]
fn flags_and_commands_that_were_not_offered_are_invalid() {
    let mut session = session(HeaderStyle::Simple);
    assert_eq!(command(&session, 4, cmd::READ, 0, 1), Err(Errno::Inval));
    session.contexts = Contexts::NONE;
    assert_eq!(command(&session, 0, cmd::BLOCK_STATUS, 0, 1), Err(Errno::Inval));
    let export = &mut session.export;
    (export.fua, export.flush, export.trim, export.cache, export.fast_zero) = (false, false, false, false, false);
    assert_eq!(command(&session, 1, cmd::WRITE, 0, 1), Err(Errno::Inval));
    assert_eq!(command(&session, 16, cmd::WRITE_ZEROES, 0, 1), Err(Errno::Inval));
    session.export.write_zeroes = false;
    for number in [cmd::FLUSH, cmd::TRIM, cmd::CACHE, cmd::WRITE_ZEROES, 8, 0xffff] {
        assert_eq!(command(&session, 0, number, 0, 0), Err(Errno::Inval), "{number}");
    }
}

#[test]
fn commands_that_change_a_read_only_export_are_refused() {
    let mut session = session(HeaderStyle::Simple);
    session.export.read_only = true;
    for number in [cmd::WRITE, cmd::TRIM, cmd::WRITE_ZEROES] {
        assert_eq!(command(&session, 0, number, 0, 1), Err(Errno::Perm));
    }
    assert!(command(&session, 0, cmd::READ, 0, 1).is_ok());
    assert!(command(&session, 0, cmd::FLUSH, 0, 0).is_ok());
}

#[test]
fn ranges_beyond_the_end_of_the_export_are_refused() {
    for style in STYLES {
        let session = session(style);
        let end = 16 * TIB;
        for (number, errno) in [
            (cmd::READ, Errno::Inval),
            (cmd::TRIM, Errno::Inval),
            (cmd::CACHE, Errno::Inval),
            (cmd::WRITE_ZEROES, Errno::NoSpc),
            (cmd::BLOCK_STATUS, Errno::Inval),
        ] {
            assert!(command(&session, 0, number, end - 1, 1).is_ok());
            assert_eq!(command(&session, 0, number, end - 1, 2), Err(errno));
            assert_eq!(command(&session, 0, number, end + 1, 0), Err(errno));
            assert_eq!(
                command(&session, 0, number, u64::MAX, 1),
                Err(errno),
                "a sum that wraps"
            );
            assert_eq!(
                command(&session, 0, number, u64::MAX - 511, 512),
                Err(errno),
                "a sum that is 0"
            );
        }
    }
    let session = session(HeaderStyle::Simple);
    assert_eq!(command(&session, 0, cmd::WRITE, u64::MAX, 1), Err(Errno::NoSpc));
}

#[test]
fn requests_below_the_minimum_block_size_are_invalid() {
    let mut session = session(HeaderStyle::Simple);
    session.export.block_sizes.minimum = 512;
    for (offset, length) in [(1, 512), (0, 511), (513, 513)] {
        assert_eq!(command(&session, 0, cmd::READ, offset, length), Err(Errno::Inval));
        assert_eq!(command(&session, 0, cmd::WRITE, offset, length), Err(Errno::Inval));
    }
    assert!(command(&session, 0, cmd::READ, 512, 1024).is_ok());
}

#[test]
fn a_flush_has_no_range() {
    let session = session(HeaderStyle::Simple);
    assert_eq!(command(&session, 0, cmd::FLUSH, 1, 0), Err(Errno::Inval));
    assert_eq!(command(&session, 0, cmd::FLUSH, 0, 1), Err(Errno::Inval));
}

#[test]
fn empty_requests_are_served_except_an_empty_status() {
    let session = session(HeaderStyle::Structured);
    for number in [cmd::READ, cmd::WRITE, cmd::TRIM, cmd::CACHE, cmd::WRITE_ZEROES] {
        assert!(command(&session, 0, number, 0, 0).is_ok());
    }
    assert_eq!(command(&session, 0, cmd::BLOCK_STATUS, 0, 0), Err(Errno::Inval));
}
