//! Fast Virtual Disk: the FVD image format, its journal and its copy-on-write engine.
//!
//! Layers, from the ground up; nothing imports upwards:
//!
//! * [`process`]: which process something belongs to.
//! * [`host`]: what the host lends the engine besides storage: time.
//! * [`mod@format`]: bytes to typed values and back. No I/O.
//! * [`gate`]: may a name found inside an image be opened?
//! * [`storage`]: positional I/O on files, devices and memory.
//! * [`source`]: where base data comes from.
//! * [`image`]: the engine; one verb, one file.
//! * [`copy`]: what moves data from the base to the image in the background.
//! * [`chain`]: opening by path, with everything an image names, through the [`gate`].
//! * [`tool`]: what works on whole disks: convert, compare, map.
//!
//! `docs/design.md` has the format, the invariants and the crash cases.

mod aio;
pub mod chain;
pub mod copy;
pub mod error;
pub mod format;
pub mod gate;
pub mod host;
pub mod image;
mod join;
#[cfg(feature = "mutations")]
pub mod mutation;
#[cfg(not(feature = "mutations"))]
#[expect(unreachable_pub, reason = "with the feature it can be reached")]
mod mutation;
pub mod notice;
pub mod process;
pub mod source;
pub mod storage;
#[expect(unsafe_code, reason = "raw memory and system calls live in this one module")]
mod sys;
pub mod tool;

pub use error::{Error, ErrorKind, Result};

#[cfg(all(feature = "mutations", not(debug_assertions)))]
compile_error!("the feature `mutations` makes the engine lose data: no release build has it");

const _: () = assert!(usize::BITS == 64, "offsets and sizes are cast between u64 and usize");
