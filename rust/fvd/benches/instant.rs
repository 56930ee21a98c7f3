//! Instant disks: what copy-on-read and a profile save on a slow base, and what prefetch costs the
//! requests of a guest.
//!
//! ```sh
//! cargo bench -p fvd --bench instant -- [--rounds N] [--only boot|latency] [--folder DIR]
//! ```
//!
//! *boot*: a trace like that of a starting system, 200 MiB in pieces of 32 KiB spread over 4 GiB, on a
//! base that takes 2 ms to answer and gives 50 MiB/s. The first session reads it with copy-on-read,
//! and records a profile; the second one reads it again; the third one is a fresh overlay that has the
//! profile of the first.
//!
//! *latency*: reads of 4 KiB of local data, with prefetch running and without it, in turns.

#[path = "instant/latency.rs"]
mod latency;
#[path = "instant/slow_base.rs"]
mod slow_base;
#[path = "instant/timer.rs"]
mod timer;
#[path = "instant/trace.rs"]
mod trace;

use std::error::Error;
use std::path::PathBuf;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

struct Arguments {
    rounds: usize,
    only: Option<String>,
    folder: PathBuf,
}

impl Arguments {
    fn parse() -> Result<Self> {
        let mut arguments = Self {
            rounds: 5,
            only: None,
            folder: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--bench" => {} // cargo says so
                "--rounds" => arguments.rounds = value()?.parse()?,
                "--only" => arguments.only = Some(value()?),
                "--folder" => arguments.folder = value()?.into(),
                other => return Err(format!("unknown option '{other}'").into()),
            }
        }
        Ok(arguments)
    }

    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == name)
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse()?;
    let folder = tempfile::tempdir_in(&arguments.folder)?;
    if arguments.wants("boot") {
        trace::run(folder.path())?;
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
