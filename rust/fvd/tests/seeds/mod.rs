//! Iterations with one seed each: a failure prints its seed, which replays that iteration alone.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::abort;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use fastrand::Rng;

const DEFAULT_SEED: u64 = 0xF0D;

/// An iteration that takes this long hangs: they take milliseconds.
const HANG: Duration = Duration::from_secs(60);

/// Calls `run` `iterations` times, or `FVD_FUZZ_ITERATIONS` times. The first seed is `FVD_FUZZ_SEED`, if that
/// is set.
pub(crate) fn fuzz(iterations: u64, run: impl Fn(&mut Rng)) {
    let first = number("FVD_FUZZ_SEED").unwrap_or(DEFAULT_SEED);
    let iterations = number("FVD_FUZZ_ITERATIONS").unwrap_or(iterations);
    let now = Arc::new(AtomicU64::new(first));
    let _watch = watch(Arc::clone(&now));
    for seed in (first..).take(iterations as usize) {
        now.store(seed, Ordering::Relaxed);
        let iteration = AssertUnwindSafe(|| run(&mut Rng::with_seed(seed)));
        if let Err(panic) = catch_unwind(iteration) {
            eprintln!("{}", replay(seed));
            resume_unwind(panic);
        }
    }
    println!("{iterations} iterations from seed {first}");
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is {text}, not a number")))
}

fn replay(seed: u64) -> String {
    format!("replay with FVD_FUZZ_SEED={seed} FVD_FUZZ_ITERATIONS=1")
}

/// Prints the seed and aborts the process, if the seed does not change for too long. Ends when the result is
/// dropped.
fn watch(now: Arc<AtomicU64>) -> mpsc::Sender<()> {
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || {
        let fresh = AtomicBool::new(true);
        let mut last = 0;
        while ended.recv_timeout(HANG) == Err(mpsc::RecvTimeoutError::Timeout) {
            let seed = now.load(Ordering::Relaxed);
            if seed == last && !fresh.load(Ordering::Relaxed) {
                eprintln!("an iteration hangs: {}", replay(seed));
                abort();
            }
            fresh.store(false, Ordering::Relaxed);
            last = seed;
        }
    });
    sender
}
