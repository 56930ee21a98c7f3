//! Instant disks: what copy-on-read and a profile save on a slow base, and what prefetch costs the
//! requests of a guest.
//!
//! ```sh
//! cargo bench -p fvd --bench instant -- [--rounds N] [--only boot|far|latency] [--folder DIR]
//! ```
//!
//! *boot*: a trace like that of a starting system, 200 MiB in pieces of 32 KiB spread over 4 GiB, on a
//! base that takes 2 ms to answer and gives 50 MiB/s. The first session reads it with copy-on-read,
//! and records a profile; the second one reads it again; the third one is a fresh overlay that has the
//! profile of the first.
//!
//! *far*: 400 reads of 4 KiB from a base that takes 1 to 100 ms to answer, without a profile and with one.
//!
//! *latency*: reads of 4 KiB of local data, with prefetch running and without it, in turns.

#[path = "support/arguments.rs"]
mod arguments;
#[path = "instant/far.rs"]
mod far;
#[path = "instant/latency.rs"]
mod latency;
#[path = "instant/slow_base.rs"]
mod slow_base;
#[path = "instant/timer.rs"]
mod timer;
#[path = "instant/trace.rs"]
mod trace;

use std::error::Error;

use arguments::Arguments;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn main() -> Result<()> {
    let arguments = Arguments::parse(5, |_, _| Ok(false))?;
    let folder = tempfile::tempdir_in(&arguments.folder)?;
    if arguments.wants("boot") {
        trace::run(folder.path())?;
    }
    if arguments.wants("far") {
        far::run(folder.path())?;
    }
    if arguments.wants("latency") {
        latency::run(folder.path(), arguments.rounds)?;
    }
    Ok(())
}

/// `value`, and whether it is what is aimed at.
fn verdict(value: f64, limit: f64) -> &'static str {
    if value <= limit { "ok" } else { "MISS" }
}
