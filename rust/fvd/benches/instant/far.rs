//! *far*: a boot with small reads from remote bases.

use std::path::Path;
use std::time::Duration;

use pollster::block_on;

use crate::trace::{SIZE, create, open, read_all};
use crate::{Result, verdict};

const READS: usize = 400;
const READ: u64 = 4096;

pub(crate) fn run(folder: &Path) -> Result<()> {
    let base = folder.join("base");
    std::fs::File::create(&base)?.set_len(SIZE)?;
    let mut rng = fastrand::Rng::with_seed(2011);
    let trace: Vec<u64> = (0..READS).map(|_| rng.u64(..SIZE / READ) * READ).collect();
    println!("{READS} reads of 4 KiB over 4 GiB; base: 50 MiB/s");
    for latency_ms in [1, 10, 30, 100] {
        let latency = Duration::from_millis(latency_ms);
        let path = folder.join("far");
        create(&path)?;
        let image = open(&path, &base, latency)?;
        let without = read_all(&image, &trace, READ, Vec::new(), false)?;
        block_on(image.close())?;
        let image = open(&path, &base, latency)?;
        let profile = block_on(image.profile())?;
        block_on(image.close())?;
        create(&path)?;
        let image = open(&path, &base, latency)?;
        let with = read_all(&image, &trace, READ, profile, true)?;
        block_on(image.close())?;
        let ratio = with.as_secs_f64() / without.as_secs_f64();
        println!(
            "{latency_ms:4} ms  without a profile {:6.2} s, with it {:6.2} s  ratio {ratio:.3}  {}",
            without.as_secs_f64(),
            with.as_secs_f64(),
            verdict(ratio, 0.5)
        );
    }
    Ok(())
}
