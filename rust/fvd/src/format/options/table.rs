//! The table of all options, in the order in which `amend` lists them.
//!
//! In the texts, `<range>` stands for the legal numbers, `<default>` for the default, `<default K>` and
//! `<default M>` for the default in KiB and MiB, and `<most M>` for the largest legal number in MiB.

use super::super::layout::{DEFAULT_CHUNK_SIZE, DEFAULT_JOURNAL_SIZE, DEFAULT_STORAGE_GROW_UNIT};
use super::super::{BaseUpdate, PAGE, SECTOR, profile};
use super::{CreateOptions, FormatOption, Header, Kind, Set, Use};

const MOST_32: i64 = i32::MAX as i64;
const FROM_0: Kind = Kind::Number(0, MOST_32);
const FROM_1: Kind = Kind::Number(1, MOST_32);
const SECONDS: Kind = Kind::Number(i32::MIN as i64, MOST_32);
const DISK_SIZE: Kind = Kind::Size(0, i64::MAX / SECTOR.cast_signed() * SECTOR.cast_signed());
const BLOCK_SIZE: Kind = Kind::Size(1, MOST_32 / SECTOR.cast_signed() * SECTOR.cast_signed());
const CHUNK_SIZE: Kind = Kind::Size(1, i64::MAX / PAGE.cast_signed() * PAGE.cast_signed());

const MIN_THROUGHPUT: &str = "KiB/s, <range>; default: <default>";
const MAX_THROUGHPUT: &str = "KiB/s, <range>; default: <default>, no limit in practice";
const MILLISECONDS: &str = "milliseconds, <range>; default: <default>";

/// An option that is stored in the field of its name: its name, and how to store it.
macro_rules! field {
    ($name:ident $(in $parent:ident)?) => {
        (stringify!($name), Some(|into, value| value.store(&mut into.$($parent.)?$name)))
    };
}

/// All options.
#[rustfmt::skip]
pub static OPTIONS: [FormatOption; 32] = [
    option(DISK_SIZE).both(("size", None), ("size", None), "Virtual disk size", "").also(&["virtual_disk_size"]),
    option(Kind::File)
        .create(("backing_file", None), "File name of a base image", "")
        .amend(field!(base_img), "File name of the base image; the new one must have the same content", ""),
    option(Kind::Word(&["", "raw", "qcow2", "fvd"]))
        .create(("backing_fmt", None), "Image format of the base image, believed at every opening",
            "fvd, raw or qcow2; default: found out at every opening")
        .amend(field!(base_img_fmt), "Image format of the base image",
            "fvd, raw, qcow2 or nothing: to be found out"),
    option(Kind::Word(&["update"]))
        .amend(("backing_pin", None), "Accept the object that a base image on another machine is now", "update"),
    option(Kind::File)
        .create(field!(data_file), "File name of a separate data file, which is made, too", "default: none")
        .amend(field!(data_file), "File name of the separate data file, after it was moved", ""),
    option(Kind::Word(&["", "raw"]))
        .create(field!(data_file_fmt), "Image format of the data file", "raw; default: raw")
        .amend(field!(data_file_fmt), "Image format of the data file", "raw"),
    option(Kind::Bool)
        .amend(field!(clean_shutdown), "On: recover the image; off: have the next open recover it", ""),
    option(Kind::Bool)
        .amend(field!(need_zero_init), "Storage that was never written must be made to read as zeros",
            "default: off, on with detect_sparse_hole"),
    option(Kind::Size(1, i64::MAX)).default(DEFAULT_STORAGE_GROW_UNIT.cast_signed())
        .both(field!(storage_grow_unit in layout), field!(storage_grow_unit),
            "Step in which a compact image's storage grows; larger: less often",
            "bytes, from 1, at least chunk_size; default: <default M>"),
    of_base(Kind::Bool)
        .create(field!(copy_on_read), "Keep what is read from the base image, so that it is read once",
            "default: off")
        .amend(field!(copy_on_read), "Keep what is read from the base image", "default: off"),
    of_base(Kind::Size(0, i64::MAX)).default(2_000_000)
        .amend(field!(max_outstanding_copy_on_read_data),
            "Data waiting to be kept above which nothing more is kept for a while; above 64M as 64M",
            "bytes, <range>; default: <default>"),
    of_base(Kind::Word(&BaseUpdate::NAMES))
        .both(field!(write_updates_base_img), field!(write_updates_base_img), "Write to the base image, too",
            "no, writethrough, writeback or writenocache; default: no"),
    of_base(SECONDS).default(-1)
        .create(field!(prefetch_start_delay),
            "Time from opening for writing until all of the base image is copied, in the background",
            "seconds, <range>; 0 or negative: never; default: <default>")
        .amend(field!(prefetch_start_delay),
            "Time from opening for writing until all of the base image is copied",
            "seconds, <range>; 0 or negative: never; default: <default>"),
    of_base(FROM_1).default(2)
        .amend(field!(num_prefetch_slots),
            "Pieces that prefetch works on at once; above 16 as 16. More hide the latency of a far base",
            "<range>; default: <default>")
        .also(&["max_num_outstanding_prefetch_writes"]),
    of_base(Kind::Size(1, MOST_32)).default(1 << 20)
        .amend(field!(bytes_per_prefetch),
            "What prefetch moves at once; above 4M as 4M. Larger: faster, and a guest waits longer behind it",
            "bytes, <range>, rounded up to whole blocks; default: <default>"),
    of_base(FROM_0).default(5120)
        .amend(field!(prefetch_min_read_throughput),
            "Reads slower than this are a sign that others need the base: prefetch pauses", MIN_THROUGHPUT)
        .also(&["prefetch_min_read_throughput_threshold"]),
    of_base(FROM_0).default(5120)
        .amend(field!(prefetch_min_write_throughput),
            "Writes slower than this are a sign that others need the disk: prefetch pauses", MIN_THROUGHPUT)
        .also(&["prefetch_min_write_throughput_threshold"]),
    of_base(FROM_1).default(1_000_000_000)
        .amend(field!(prefetch_max_read_throughput), "What reads of prefetch may not exceed", MAX_THROUGHPUT)
        .also(&["prefetch_max_read_throughput_threshold"]),
    of_base(FROM_1).default(1_000_000_000)
        .amend(field!(prefetch_max_write_throughput), "What writes of prefetch may not exceed", MAX_THROUGHPUT)
        .also(&["prefetch_max_write_throughput_threshold"]),
    of_base(Kind::Number(0, 100)).default(80)
        .amend(field!(prefetch_perf_calc_alpha),
            "Weight of the old average of the throughput; larger: slower to notice others",
            "percent, <range>; default: <default>"),
    of_base(FROM_1).default(100)
        .amend(field!(prefetch_read_throughput_measure_time), "Least time over which reads are measured",
            MILLISECONDS),
    of_base(FROM_1).default(100)
        .amend(field!(prefetch_write_throughput_measure_time), "Least time over which writes are measured",
            MILLISECONDS),
    of_base(FROM_0).default(30_000)
        .amend(field!(prefetch_throttle_time),
            "The longest of the random pauses that prefetch makes when others seem to need the base",
            MILLISECONDS)
        .also(&["prefetch_over_threshold_throttle_time"]),
    of_base(Kind::Bool)
        .create(field!(generate_prefetch_profile),
            "Record which parts of the base the first session needs, for images that use the profile",
            "default: off")
        .amend(field!(generate_prefetch_profile), "Record what is read first", "default: off"),
    of_base(SECONDS).default(-1)
        .both(field!(profile_directed_prefetch_start_delay), field!(profile_directed_prefetch_start_delay),
            "Time from opening for writing until what the profile names is copied",
            "seconds, <range>; negative: never; default: <default>"),
    option(Kind::Text)
        .create(field!(add_storage_cmd),
            "Command noted in the image for growing a block device; never run because an image names it",
            "default: none"),
    option(BLOCK_SIZE)
        .create(field!(block_size in layout),
            "Unit of copy-on-write; larger: a smaller bitmap and more that is copied for a small write",
            "bytes, <range>, rounded up to 512; default: 4096 up to a base of 1 TiB, then doubled with it (64K for 16 TiB)"),
    option(CHUNK_SIZE).default(DEFAULT_CHUNK_SIZE.cast_signed())
        .create(field!(chunk_size in layout),
            "Unit of allocation of a compact image; larger: a smaller table and more space for a small write",
            "bytes, <range>, rounded up to 4096; default: <default M>"),
    option(Kind::Bool)
        .create(("compact_image", Some(|options, value| value.store(&mut options.layout.compact))),
            "Allocate storage as it is written, through a table: a file that grows, also without holes",
            "default: off"),
    option(Kind::Size(1, i64::MAX))
        .create(field!(detect_sparse_hole),
            "Search the base image for regions of this size that are zeros, which are then never read from it",
            "bytes, from 1, not with compact_image; default: no search"),
    option(Kind::SignedSize).default(DEFAULT_JOURNAL_SIZE.cast_signed())
        .create(field!(journal_size in layout),
            "Size of the journal; larger: fewer checkpoints. Without one flushes are slower",
            "bytes, rounded up to 4096 and to what the table needs; 0 or default: <default M>; negative: no \
             journal. Without a base, and not compact, an image has no metadata for a journal to keep, and has none"),
    option(Kind::Size(0, profile::MAX_SIZE.cast_signed())).default(profile::DEFAULT_SIZE.cast_signed())
        .create(field!(prefetch_profile_size in layout), "Room for a prefetch profile: 12 bytes for each range",
            "bytes, 0 to <most M>, rounded up to 4096; default: <default K> where a profile is recorded or used, \
             else none"),
];

const fn option(kind: Kind) -> FormatOption {
    FormatOption {
        kind,
        other_names: &[],
        default: None,
        of_base: false,
        create: None,
        amend: None,
    }
}

const fn of_base(kind: Kind) -> FormatOption {
    FormatOption {
        of_base: true,
        ..option(kind)
    }
}

/// The name of an option, and how to store it.
type Field<T> = (&'static str, Option<Set<T>>);
type Text = &'static str;

impl FormatOption {
    const fn default(mut self, default: i64) -> Self {
        self.default = Some(default);
        self
    }

    const fn also(mut self, names: &'static [&'static str]) -> Self {
        self.other_names = names;
        self
    }

    const fn create(mut self, (name, set): Field<CreateOptions>, description: Text, limits: Text) -> Self {
        self.create = Some(Use {
            name,
            description,
            limits,
            set,
        });
        self
    }

    const fn amend(mut self, (name, set): Field<Header>, description: Text, limits: Text) -> Self {
        self.amend = Some(Use {
            name,
            description,
            limits,
            set,
        });
        self
    }

    const fn both(self, create: Field<CreateOptions>, amend: Field<Header>, description: Text, limits: Text) -> Self {
        self.create(create, description, limits)
            .amend(amend, description, limits)
    }
}
