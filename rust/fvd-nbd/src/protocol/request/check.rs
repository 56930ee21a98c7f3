//! Checks whether a request is valid for the export and the session.

use super::{Command, Raw};
use crate::protocol::constants::cmd;
use crate::protocol::error::{Errno, Refusal};
use crate::protocol::session::{HeaderStyle, Session};

impl Raw {
    pub(super) fn check(self, session: &Session) -> Result<Command, Refusal> {
        let Raw { offset, length, .. } = self;
        if self.command == cmd::DISC {
            return Ok(Command::Disconnect);
        }
        self.check_offered(session)?;
        self.check_flags(session)?;
        let fua = self.has(cmd::FLAG_FUA);
        if self.command == cmd::FLUSH {
            if offset != 0 || length != 0 {
                return invalid("a flush has no offset and no length");
            }
            return Ok(Command::Flush);
        }
        self.check_range(session)?;
        Ok(match self.command {
            cmd::READ => Command::Read {
                offset,
                length: self.check_transfer(session)?,
                unfragmented: self.has(cmd::FLAG_DF),
            },
            cmd::WRITE => Command::Write {
                offset,
                length: self.check_transfer(session)?,
                fua,
            },
            cmd::TRIM => Command::Trim { offset, length, fua },
            cmd::CACHE => Command::Cache { offset, length },
            cmd::WRITE_ZEROES => Command::WriteZeroes {
                offset,
                length,
                fua,
                no_hole: self.has(cmd::FLAG_NO_HOLE),
                fast: self.has(cmd::FLAG_FAST_ZERO),
            },
            // A reply must have at least one extent, and an extent must not be empty.
            _ if length == 0 => return invalid("a block status of 0 bytes"),
            _ => Command::BlockStatus {
                offset,
                length,
                one: self.has(cmd::FLAG_REQ_ONE),
            },
        })
    }

    /// Checks that the command is known and the export supports it.
    fn check_offered(self, session: &Session) -> Result<(), Refusal> {
        let export = &session.export;
        let (name, offered) = match self.command {
            cmd::READ => ("read", true),
            cmd::WRITE => ("write", true),
            cmd::FLUSH => ("flush", export.flush),
            cmd::TRIM => ("trim", export.trim),
            cmd::CACHE => ("cache", export.cache),
            cmd::WRITE_ZEROES => ("write zeroes", export.write_zeroes),
            cmd::BLOCK_STATUS if session.contexts.is_empty() => {
                return invalid("a block status without a metadata context");
            }
            cmd::BLOCK_STATUS => ("block status", true),
            unknown => return invalid(format!("command {unknown} is not known")),
        };
        if export.read_only && self.modifies() {
            return Err(Refusal::new(Errno::Perm, format!("{name}: the export is read-only")));
        }
        if !offered {
            return invalid(format!("{name}: not offered by this export"));
        }
        Ok(())
    }

    fn modifies(self) -> bool {
        matches!(self.command, cmd::WRITE | cmd::TRIM | cmd::WRITE_ZEROES)
    }

    /// Checks that each flag is defined for the command and was offered.
    fn check_flags(self, session: &Session) -> Result<(), Refusal> {
        let export = &session.export;
        let own = match self.command {
            cmd::READ if session.style.is_structured() => cmd::FLAG_DF,
            cmd::WRITE if session.style == HeaderStyle::Extended => cmd::FLAG_PAYLOAD_LEN,
            cmd::WRITE_ZEROES if export.fast_zero => cmd::FLAG_NO_HOLE | cmd::FLAG_FAST_ZERO,
            cmd::WRITE_ZEROES => cmd::FLAG_NO_HOLE,
            cmd::BLOCK_STATUS => cmd::FLAG_REQ_ONE,
            _ => 0,
        };
        // Some existing clients set FUA on every command. Where nothing is written it has no effect.
        let fua = if export.fua { cmd::FLAG_FUA } else { 0 };
        let unknown = self.flags & !(own | fua);
        if unknown != 0 {
            return invalid(format!("flags {unknown:#x} do not go with command {}", self.command));
        }
        Ok(())
    }

    /// Checks that the range lies within the export and is aligned to the minimum block size.
    fn check_range(self, session: &Session) -> Result<(), Refusal> {
        let Raw { offset, length, .. } = self;
        let size = session.export.size;
        if offset.checked_add(length).is_none_or(|end| end > size) {
            let errno = match self.command {
                cmd::WRITE | cmd::WRITE_ZEROES => Errno::NoSpc,
                _ => Errno::Inval,
            };
            let message = format!("{length} bytes at {offset} reach beyond the end of the export, {size}");
            return Err(Refusal::new(errno, message));
        }
        let minimum = u64::from(session.export.block_sizes.minimum);
        if !offset.is_multiple_of(minimum) || !length.is_multiple_of(minimum) {
            return invalid(format!(
                "{length} bytes at {offset} are no multiples of the minimum block size, {minimum}"
            ));
        }
        Ok(())
    }

    /// Checks the length of a request that transfers data: at most the maximum block size.
    fn check_transfer(self, session: &Session) -> Result<u32, Refusal> {
        let maximum = session.export.block_sizes.maximum;
        match u32::try_from(self.length) {
            Ok(length) if length <= maximum => Ok(length),
            _ => invalid(format!(
                "{} bytes are more than the maximum block size, {maximum}",
                self.length
            )),
        }
    }
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(Errno::Inval, message))
}
