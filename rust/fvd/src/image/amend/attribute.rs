//! The header fields that can be amended, and their legal values.

use std::ffi::OsString;

use crate::format::Header;

/// The legal values of an attribute, and the function that stores one in the header.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Flag(fn(&mut Header, bool)),
    /// A number from `least` to `most`.
    Number {
        least: i64,
        most: i64,
        set: fn(&mut Header, i64),
    },
    /// One of these keywords.
    Word(&'static [&'static str], fn(&mut Header, String)),
    /// Any name that fits.
    Name(fn(&mut Header, OsString)),
}

/// A field that can be amended.
pub(super) struct Attribute {
    /// The name of the field in the header.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Whether the attribute needs a base. It is zero in an image without one.
    pub(super) of_base: bool,
}

const LEAST_32: i64 = i32::MIN as i64;
const MOST_32: i64 = i32::MAX as i64;

/// A field of 32 bits that needs a base.
macro_rules! number {
    ($name:ident, $range:expr) => {
        Attribute {
            name: stringify!($name),
            kind: Kind::Number {
                least: *$range.start(),
                most: *$range.end(),
                set: |header, number| header.$name = number as i32,
            },
            of_base: true,
        }
    };
}

macro_rules! flag {
    ($name:ident, $of_base:literal) => {
        Attribute {
            name: stringify!($name),
            kind: Kind::Flag(|header, on| header.$name = on),
            of_base: $of_base,
        }
    };
}

macro_rules! text {
    ($name:ident, $kind:expr) => {
        Attribute {
            name: stringify!($name),
            kind: $kind,
            of_base: false,
        }
    };
}

/// All attributes except the size and the clean mark, which need more than a change of one field.
pub(super) const ATTRIBUTES: [Attribute; 22] = [
    text!(base_img, Kind::Name(|header, name| header.base_img = name)),
    text!(
        base_img_fmt,
        Kind::Word(&["", "raw", "qcow2", "fvd"], |header, name| header.base_img_fmt = name)
    ),
    text!(data_file, Kind::Name(|header, name| header.data_file = name)),
    text!(
        data_file_fmt,
        Kind::Word(&["", "raw"], |header, name| header.data_file_fmt = name)
    ),
    flag!(need_zero_init, false),
    flag!(copy_on_read, true),
    Attribute {
        name: "max_outstanding_copy_on_read_data",
        kind: Kind::Number {
            least: 0,
            most: i64::MAX,
            set: |header, bytes| header.max_outstanding_copy_on_read_data = bytes,
        },
        of_base: true,
    },
    Attribute {
        name: "storage_grow_unit",
        kind: Kind::Number {
            least: 1,
            most: i64::MAX,
            set: |header, bytes| header.storage_grow_unit = bytes.unsigned_abs(),
        },
        of_base: false,
    },
    Attribute {
        name: "write_updates_base_img",
        kind: Kind::Word(&["no", "writethrough", "writeback", "writenocache"], |header, mode| {
            header.write_updates_base_img = mode;
        }),
        of_base: true,
    },
    flag!(generate_prefetch_profile, true),
    number!(prefetch_start_delay, LEAST_32..=MOST_32),
    number!(num_prefetch_slots, 1..=MOST_32),
    number!(bytes_per_prefetch, 1..=MOST_32),
    number!(prefetch_read_throughput_measure_time, 1..=MOST_32),
    number!(prefetch_write_throughput_measure_time, 1..=MOST_32),
    number!(prefetch_perf_calc_alpha, 0..=100),
    number!(prefetch_min_read_throughput, 0..=MOST_32),
    number!(prefetch_min_write_throughput, 0..=MOST_32),
    number!(prefetch_max_read_throughput, 1..=MOST_32),
    number!(prefetch_max_write_throughput, 1..=MOST_32),
    number!(prefetch_throttle_time, 0..=MOST_32),
    number!(profile_directed_prefetch_start_delay, LEAST_32..=MOST_32),
];
