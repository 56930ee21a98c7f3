//! Reads an object in order and prints how fast: `cargo run --release --example read -- URL [BYTES]`.

use std::env;
use std::time::Instant;

use fvd::remote::RemoteOpener as _;
use fvd::storage::IoBufMut;
use fvd_remote::{Config, Opener};
use pollster::block_on;

/// Bytes of a read.
const STEP: u64 = 256 << 10;

fn main() -> fvd::Result<()> {
    let mut arguments = env::args().skip(1);
    let url = arguments.next().unwrap_or_default();
    let limit = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
    let opener = Opener::new(Config::load()?);
    let begun = Instant::now();
    let file = opener.open(&url, None)?;
    let opened = begun.elapsed();
    let mut buf = block_on(file.read(IoBufMut::zeroed(4096), 0))?;
    println!("{}; open {opened:.1?}, first 4 KiB {:.1?}", file.pin(), begun.elapsed());
    let end = file.pin().len.min(limit);
    let begun = Instant::now();
    let mut sum = 0_u64;
    for offset in (0..end).step_by(STEP as usize) {
        if buf.len() as u64 != STEP {
            buf = IoBufMut::zeroed(STEP as usize);
        }
        buf = block_on(file.read(buf, offset))?;
        sum = buf
            .as_slice()
            .iter()
            .step_by(4096)
            .fold(sum, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
    }
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
    println!("{} MB/s, sum {sum:016x}", end / micros);
    println!("{:?}", opener.counters());
    Ok(())
}
