//! What a server's reply to an option means.

use super::{Negotiation, Phase, be_u16, be_u32, be_u64};
use crate::protocol::client::fault::{ServerFault, shown};
use crate::protocol::constants::{info, opt, rep};
use crate::protocol::export::BlockSizes;
use crate::protocol::meta::Context;

impl Negotiation {
    /// A whole reply. After the last one to an option the next option is sent.
    pub(super) fn reply(&mut self, option: u32, kind: u32, data: &[u8], out: &mut Vec<u8>) -> Result<(), ServerFault> {
        if kind & rep::ERROR != 0 {
            return self.refused(option, kind, data, out);
        }
        match (option, kind) {
            (_, rep::ACK) if !data.is_empty() => return ServerFault::violation("data in an acknowledgement"),
            (opt::STARTTLS, rep::ACK) => self.phase = Phase::Tls,
            (opt::STRUCTURED_REPLY, rep::ACK) => {
                self.opened.structured = true;
                self.send_context(out);
            }
            (opt::SET_META_CONTEXT, rep::META_CONTEXT) => self.context(data)?,
            (opt::SET_META_CONTEXT, rep::ACK) => self.send_go(out),
            (opt::GO, rep::INFO) => self.info(data)?,
            (opt::GO, rep::ACK) if self.has_size => self.phase = Phase::Over,
            (opt::GO, rep::ACK) => return ServerFault::violation("it opens an export without its size"),
            _ => return ServerFault::violation(format!("a reply of type {kind} to option {option}")),
        }
        Ok(())
    }

    fn refused(&mut self, option: u32, code: u32, data: &[u8], out: &mut Vec<u8>) -> Result<(), ServerFault> {
        match option {
            _ if code == rep::ERR_TLS_REQD || code == rep::ERR_SHUTDOWN => {}
            opt::STRUCTURED_REPLY => {
                self.send_go(out);
                return Ok(());
            }
            opt::SET_META_CONTEXT => {
                self.opened.allocation = None;
                self.send_go(out);
                return Ok(());
            }
            opt::GO if code == rep::ERR_UNSUP => {
                self.send_export_name(out);
                return Ok(());
            }
            _ => {}
        }
        let message = shown(data);
        Err(ServerFault::Refused { option, code, message })
    }

    fn context(&mut self, data: &[u8]) -> Result<(), ServerFault> {
        let is_ours = data.len() > 4 && &data[4..] == Context::Allocation.name().as_bytes();
        if !is_ours || self.opened.allocation.is_some() {
            return ServerFault::violation("a metadata context that was not asked for");
        }
        self.opened.allocation = Some(be_u32(&data[..4]));
        Ok(())
    }

    fn info(&mut self, data: &[u8]) -> Result<(), ServerFault> {
        if data.len() < 2 {
            return ServerFault::violation("information without a type");
        }
        let (kind, data) = data.split_at(2);
        match (be_u16(kind), data.len()) {
            (info::EXPORT, 10) => self.size(data),
            (info::BLOCK_SIZE, 12) => self.block_sizes(data),
            (info::EXPORT | info::BLOCK_SIZE, length) => {
                ServerFault::violation(format!("{length} bytes of information"))
            }
            // A name or a description, though not asked for.
            _ => Ok(()),
        }
    }

    /// The reply to `EXPORT_NAME`. Zeros may follow, which no one checks.
    pub(super) fn export(&mut self, data: &[u8]) -> Result<(), ServerFault> {
        self.phase = Phase::Over;
        self.size(&data[..10])
    }

    fn size(&mut self, data: &[u8]) -> Result<(), ServerFault> {
        let (size, flags) = data.split_at(8);
        let size = be_u64(size);
        if size > i64::MAX as u64 {
            return ServerFault::violation(format!("an export of {size} bytes"));
        }
        self.opened.size = size;
        self.opened.flags = be_u16(flags);
        self.has_size = true;
        Ok(())
    }

    fn block_sizes(&mut self, data: &[u8]) -> Result<(), ServerFault> {
        let [minimum, preferred, maximum] = [0, 4, 8].map(|at| be_u32(&data[at..at + 4]));
        // `maximum` may be 2^32 - 1, for "no limit".
        let is_sound = minimum.is_power_of_two()
            && minimum <= 1 << 16
            && preferred.is_power_of_two()
            && preferred >= minimum
            && maximum >= minimum;
        if !is_sound {
            return ServerFault::violation(format!(
                "block sizes {minimum}, {preferred}, {maximum} (minimum, preferred, maximum)"
            ));
        }
        self.opened.block_sizes = BlockSizes {
            minimum,
            preferred,
            maximum: maximum - maximum % minimum,
        };
        Ok(())
    }
}
