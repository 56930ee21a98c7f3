//! Encodes replies to options.

use super::data::Rejection;
use crate::protocol::constants::{OPTION_REPLY_MAGIC, info, rep};
use crate::protocol::export::ExportInfo;
use crate::protocol::meta::Context;
use crate::protocol::session::HeaderStyle;

/// The number of zero bytes after the reply to `EXPORT_NAME`, for clients that did not decline them.
const ZEROES: usize = 124;

/// Appends the replies to one option.
pub(super) struct Replies<'a> {
    pub(super) option: u32,
    pub(super) out: &'a mut Vec<u8>,
}

impl Replies<'_> {
    pub(super) fn ack(&mut self) {
        self.put(rep::ACK, &[]);
    }

    pub(super) fn reject(&mut self, rejection: &Rejection) {
        self.put(rejection.code, &[rejection.message.as_bytes()]);
    }

    /// One export of a list.
    pub(super) fn server(&mut self, export: &ExportInfo) {
        let name = export.name.as_bytes();
        let length = (name.len() as u32).to_be_bytes();
        self.put(rep::SERVER, &[&length, name, export.description.as_bytes()]);
    }

    /// The information about an export. Name and description are sent only if the client asked for them.
    pub(super) fn info(&mut self, export: &ExportInfo, style: HeaderStyle, wanted: &[u16]) {
        let flags = export.transmission_flags(style).to_be_bytes();
        self.put_info(info::EXPORT, &[&export.size.to_be_bytes(), &flags]);
        if wanted.contains(&info::NAME) {
            self.put_info(info::NAME, &[export.name.as_bytes()]);
        }
        if wanted.contains(&info::DESCRIPTION) && !export.description.is_empty() {
            self.put_info(info::DESCRIPTION, &[export.description.as_bytes()]);
        }
        // Sent to every client, because the maximum is enforced whether or not the client asked for it.
        let sizes = export.block_sizes;
        let sizes = [sizes.minimum, sizes.preferred, sizes.maximum].map(u32::to_be_bytes);
        self.put_info(info::BLOCK_SIZE, &[sizes.as_flattened()]);
    }

    /// A metadata context. In a list its id is 0.
    pub(super) fn context(&mut self, context: Context, id: u32) {
        self.put(rep::META_CONTEXT, &[&id.to_be_bytes(), context.name().as_bytes()]);
    }

    /// The reply to `EXPORT_NAME`, which has no header.
    pub(super) fn export_name(&mut self, export: &ExportInfo, style: HeaderStyle, zeroes: bool) {
        self.out.extend_from_slice(&export.size.to_be_bytes());
        self.out
            .extend_from_slice(&export.transmission_flags(style).to_be_bytes());
        if zeroes {
            self.out.extend_from_slice(&[0; ZEROES]);
        }
    }

    fn put_info(&mut self, kind: u16, data: &[&[u8]]) {
        let kind = kind.to_be_bytes();
        let data: Vec<&[u8]> = std::iter::once(&kind[..]).chain(data.iter().copied()).collect();
        self.put(rep::INFO, &data);
    }

    fn put(&mut self, kind: u32, data: &[&[u8]]) {
        let length: usize = data.iter().map(|part| part.len()).sum();
        self.out.extend_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
        for field in [self.option, kind, length as u32] {
            self.out.extend_from_slice(&field.to_be_bytes());
        }
        for part in data {
            self.out.extend_from_slice(part);
        }
    }
}
