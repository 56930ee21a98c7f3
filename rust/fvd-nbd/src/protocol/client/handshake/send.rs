//! Encodes options.

use super::{Negotiation, Phase};
use crate::protocol::constants::{OPTION_MAGIC, info, opt};
use crate::protocol::meta::Context;

impl Negotiation {
    pub(super) fn send(&mut self, option: u32, data: &[&[u8]], out: &mut Vec<u8>) {
        let length: usize = data.iter().map(|part| part.len()).sum();
        out.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
        out.extend_from_slice(&option.to_be_bytes());
        out.extend_from_slice(&(length as u32).to_be_bytes());
        for part in data {
            out.extend_from_slice(part);
        }
        self.phase = Phase::Head(option);
        self.replies = 0;
    }

    pub(super) fn send_context(&mut self, out: &mut Vec<u8>) {
        let (export, query) = (self.export.clone(), Context::Allocation.name());
        let one = 1_u32.to_be_bytes();
        let data = [
            &length(&export)[..],
            export.as_bytes(),
            &one,
            &length(query),
            query.as_bytes(),
        ];
        self.send(opt::SET_META_CONTEXT, &data, out);
    }

    pub(super) fn send_go(&mut self, out: &mut Vec<u8>) {
        let export = self.export.clone();
        let wanted = [1, info::BLOCK_SIZE].map(u16::to_be_bytes);
        self.send(
            opt::GO,
            &[&length(&export)[..], export.as_bytes(), wanted.as_flattened()],
            out,
        );
    }

    /// There is no error reply: a server that has no such export closes the connection.
    pub(super) fn send_export_name(&mut self, out: &mut Vec<u8>) {
        let export = self.export.clone();
        self.send(opt::EXPORT_NAME, &[export.as_bytes()], out);
        self.phase = Phase::Export;
    }
}

fn length(text: &str) -> [u8; 4] {
    (text.len() as u32).to_be_bytes()
}
