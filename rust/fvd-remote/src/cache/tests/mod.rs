//! The cache with several processes, kills, power cuts and failing disks (`docs/design/cache.md`).

mod disk;
mod run;
mod schedule;
mod view;

use crate::fault::Fault;
use run::{Case, run};

const SEEDS: u64 = 200;

fn seeds() -> std::ops::Range<u64> {
    // FVD_SEEDS=1000..2000 explores others.
    let given = std::env::var("FVD_SEEDS").ok();
    let given = given.as_deref().and_then(|text| text.split_once(".."));
    let parsed = given.and_then(|(first, end)| Some(first.parse().ok()?..end.parse().ok()?));
    parsed.unwrap_or(0..SEEDS)
}

#[test]
fn readers_get_the_data_of_the_object_whatever_dies() {
    for seed in seeds() {
        if let Err(found) = run(&Case::random(seed), None) {
            panic!("seed {seed}: {found}");
        }
    }
}

#[test]
fn every_deliberate_fault_is_found() {
    for fault in Fault::OF_THE_CACHE {
        let found = (0..10 * SEEDS).find(|&seed| run(&Case::random(seed), Some(fault)).is_err());
        assert!(found.is_some(), "{fault:?} is not found");
    }
}
