//! What a server offers: a name, a size, what it can do.

use crate::constants::{MAX_PAYLOAD, MAX_STRING, transmission};
use crate::meta::Contexts;
use crate::session::HeaderStyle;

/// Sizes of requests, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    /// Offsets and lengths are multiples of it; a power of two, at most 64 KiB.
    pub minimum: u32,
    /// Requests that are multiples of it are the fastest; a power of two, at least 512.
    pub preferred: u32,
    /// Most bytes of one read or write; a multiple of the minimum, at most 64 MiB.
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

/// An export as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the protocol")]
pub struct ExportInfo {
    /// The name, at most 4096 bytes without NUL; "" is the default export.
    pub name: String,
    /// Words for people, at most 4096 bytes without NUL.
    pub description: String,
    /// Size in bytes, at most `i64::MAX`.
    pub size: u64,
    /// Writes, zeroing and trimming are refused.
    pub read_only: bool,
    /// A flush makes what was written durable.
    pub flush: bool,
    /// A write can be made durable before it is answered.
    pub fua: bool,
    /// Trimming is known.
    pub trim: bool,
    /// Zeroing is known.
    pub write_zeroes: bool,
    /// The flag `FAST_ZERO` is known.
    pub fast_zero: bool,
    /// Caching is known.
    pub cache: bool,
    /// A flush on one connection covers what was written on the others.
    pub multi_conn: bool,
    /// Sizes of requests.
    pub block_sizes: BlockSizes,
    /// What clients may ask about ranges.
    pub contexts: Contexts,
}

impl ExportInfo {
    /// An export of `size` bytes that can do everything.
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

    /// Whether the protocol can express it; if not, why. To be asked once, before it is offered.
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
