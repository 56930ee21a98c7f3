//! Instant disks: the savings of copy-on-read and a profile with a slow base, and the cost of prefetch for
//! requests of a guest.
//!
//! ```sh
//! cargo bench -p fvd --bench instant -- [--rounds N] [--only boot|far|latency] [--folder DIR]
//! ```
//!
//! *boot*: a trace like that of a booting system, 200 MiB in pieces of 32 KiB spread over 4 GiB, on a base
//! with a latency of 2 ms and 50 MiB/s. The first session reads it with copy-on-read and records a profile.
//! The second session reads it again. The third session uses a new overlay with the profile of the first.
//!
//! *far*: 400 reads of 4 KiB from a base with a latency of 1 to 100 ms, without and with a profile.
//!
//! *latency*: reads of 4 KiB of local data, with and without prefetch running, alternating.

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

/// Whether `value` meets the goal.
fn verdict(value: f64, limit: f64) -> &'static str {
    if value <= limit { "ok" } else { "MISS" }
}
