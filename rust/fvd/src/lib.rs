//! Fast Virtual Disk: the FVD image format, its journal and its copy-on-write engine.
//!
//! Layers, from the ground up. No layer imports from a higher one:
//!
//! * [`process`]: the process that something belongs to.
//! * [`host`]: the clock that the program provides.
//! * [`aio`]: runs what would block where it may block.
//! * [`mod@format`]: bytes to typed values and back. No I/O.
//! * [`url`]: URLs, their normal form and their prefixes. No I/O.
//! * [`gate`]: decides whether a file that an image names may be opened.
//! * [`storage`]: positional I/O on files, devices and memory.
//! * [`remote`]: files on other machines, which the program provides.
//! * [`source`]: sources of base data.
//! * [`image`]: the engine, with one file per operation.
//! * [`copy`]: moves data between the base and the image in the background.
//! * [`chain`]: opens an image by path, and everything it names through the [`gate`].
//! * [`tool`]: commands on whole disks: convert, compare, map.
//!
//! `docs/design/README.md` has the format, the invariants and the crash cases.

pub mod aio;
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
pub mod remote;
pub mod source;
pub mod storage;
mod sync;
#[expect(unsafe_code, reason = "raw memory and system calls live in this one module")]
mod sys;
pub mod tool;
pub mod url;

pub use error::{Error, ErrorKind, Result};

#[cfg(all(feature = "mutations", not(debug_assertions)))]
compile_error!("the feature `mutations` makes the engine lose data: no release build has it");

const _: () = assert!(usize::BITS == 64, "offsets and sizes are cast between u64 and usize");
