//! The properties of an export: name, size, capabilities.

use crate::protocol::constants::{MAX_PAYLOAD, MAX_STRING, transmission};
use crate::protocol::meta::Contexts;
use crate::protocol::session::HeaderStyle;

/// The block sizes of an export, in bytes, as the NBD specification defines them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    /// Every offset and length must be a multiple of it. A power of two, at most 64 KiB.
    pub minimum: u32,
    /// Requests aligned to it are the fastest. A power of two, at least 512 and at least `minimum`.
    pub preferred: u32,
    /// The maximum length of one read or write. A multiple of `minimum`, at least `preferred`, at most 64
    /// MiB.
    pub maximum: u32,
}

impl Default for BlockSizes {
    fn default() -> Self {
        Self {
            minimum: 1,
            preferred: 4096,
            maximum: MAX_PAYLOAD,
        }
    }
}

/// The properties of an export as clients see them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the protocol")]
pub struct ExportInfo {
    /// The name: at most 4096 bytes, no NUL. "" is the default export.
    pub name: String,
    /// A description for people: at most 4096 bytes, no NUL.
    pub description: String,
    /// Size in bytes, at most `i64::MAX`.
    pub size: u64,
    /// Writes, `WRITE_ZEROES` and `TRIM` are refused.
    pub read_only: bool,
    /// `FLUSH` is supported.
    pub flush: bool,
    /// The flag `FUA` is supported: a write is durable before it is answered.
    pub fua: bool,
    /// `TRIM` is supported.
    pub trim: bool,
    /// `WRITE_ZEROES` is supported.
    pub write_zeroes: bool,
    /// The flag `FAST_ZERO` is supported.
    pub fast_zero: bool,
    /// `CACHE` is supported.
    pub cache: bool,
    /// A flush on one connection also covers writes that completed on other connections.
    pub multi_conn: bool,
    /// The block sizes.
    pub block_sizes: BlockSizes,
    /// The metadata contexts that clients can query.
    pub contexts: Contexts,
}

impl ExportInfo {
    /// A writable export of `size` bytes that supports everything.
    #[must_use]
    pub fn new(name: impl Into<String>, size: u64) -> Self {
        Self {
            name: name.into(),
            description: String::new(),
            size,
            read_only: false,
            flush: true,
            fua: true,
            trim: true,
            write_zeroes: true,
            fast_zero: true,
            cache: true,
            multi_conn: true,
            block_sizes: BlockSizes::default(),
            contexts: Contexts::all(),
        }
    }

    /// Checks that the protocol can express these properties. Call it once, before the export is offered.
    ///
    /// # Errors
    ///
    /// The reason as a message: a name or description that is too long or contains NUL, a size above
    /// `i64::MAX`, block sizes that violate the limits in [`BlockSizes`], or a size that is no multiple of
    /// the minimum block size.
    pub fn check(&self) -> Result<(), String> {
        for (what, text) in [("name", &self.name), ("description", &self.description)] {
            if text.len() > MAX_STRING || text.contains('\0') {
                return Err(format!(
                    "the {what} of an export has at most {MAX_STRING} bytes and no NUL"
                ));
            }
        }
        if self.size > i64::MAX as u64 {
            return Err(format!("an export of {} bytes is too large", self.size));
        }
        let BlockSizes {
            minimum,
            preferred,
            maximum,
        } = self.block_sizes;
        let sound = minimum.is_power_of_two()
            && minimum <= 1 << 16
            && preferred.is_power_of_two()
            && preferred >= minimum.max(512)
            && maximum >= preferred
            && maximum <= MAX_PAYLOAD
            && maximum.is_multiple_of(minimum);
        if !sound {
            return Err(format!(
                "block sizes {minimum}, {preferred}, {maximum} (minimum, preferred, maximum) contradict the protocol"
            ));
        }
        if !self.size.is_multiple_of(u64::from(minimum)) {
            return Err(format!(
                "the size of an export, {}, is no multiple of its minimum block size, {minimum}",
                self.size
            ));
        }
        Ok(())
    }

    /// The transmission flags for a client that negotiated `style`.
    #[must_use]
    pub fn transmission_flags(&self, style: HeaderStyle) -> u16 {
        let writable = !self.read_only;
        let flags = [
            (true, transmission::HAS_FLAGS),
            (self.read_only, transmission::READ_ONLY),
            (self.flush, transmission::SEND_FLUSH),
            (self.fua, transmission::SEND_FUA),
            (self.trim && writable, transmission::SEND_TRIM),
            (self.write_zeroes && writable, transmission::SEND_WRITE_ZEROES),
            (style.is_structured(), transmission::SEND_DF),
            (self.multi_conn, transmission::CAN_MULTI_CONN),
            (self.cache, transmission::SEND_CACHE),
            (
                self.fast_zero && self.write_zeroes && writable,
                transmission::SEND_FAST_ZERO,
            ),
        ];
        flags
            .iter()
            .filter(|(set, _)| *set)
            .fold(0, |all, (_, flag)| all | flag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_say_what_an_export_can_do() {
        let mut export = ExportInfo::new("", 4096);
        assert_eq!(export.transmission_flags(HeaderStyle::Simple), 0b1101_0110_1101);
        assert_eq!(export.transmission_flags(HeaderStyle::Structured), 0b1101_1110_1101);
        export.read_only = true;
        assert_eq!(export.transmission_flags(HeaderStyle::Extended), 0b0101_1000_1111);
        export.read_only = false;
        export.write_zeroes = false;
        let flags = export.transmission_flags(HeaderStyle::Simple);
        assert_eq!(
            flags & transmission::SEND_FAST_ZERO,
            0,
            "fast zeroing is a way of zeroing"
        );
    }

    #[test]
    fn what_the_protocol_cannot_express_is_refused() {
        let sound = ExportInfo::new("disk", 1 << 20);
        assert_eq!(sound.check(), Ok(()));
        let faults: [fn(&mut ExportInfo); 9] = [
            |e| e.name = "x".repeat(4097),
            |e| e.description = "a\0b".into(),
            |e| e.size = 1 << 63,
            |e| e.block_sizes.minimum = 3,
            |e| e.block_sizes.minimum = 1 << 17,
            |e| e.block_sizes.preferred = 256,
            |e| e.block_sizes.maximum = (64 << 20) + 1,
            |e| e.block_sizes.maximum = 2048,
            |e| (e.block_sizes.minimum, e.size) = (4096, 4095),
        ];
        for (number, fault) in faults.into_iter().enumerate() {
            let mut export = sound.clone();
            fault(&mut export);
            assert!(export.check().is_err(), "fault {number}");
        }
    }
}
