//! The models. A model runs once for each interleaving of its threads.

use loom::model::Builder;

use crate::sync::{Fences, set_fences};

pub mod epochs;
pub mod segment;

/// Checks a model of two threads.
fn check(model: impl Fn() + Copy + Send + Sync + 'static) {
    run(&Builder::new(), model);
}

/// Checks a model of three threads. It has too many interleavings: only those in which a thread is interrupted
/// at most twice.
fn check_three(model: impl Fn() + Copy + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(2);
    run(&builder, model);
}

fn run(builder: &Builder, model: impl Fn() + Copy + Send + Sync + 'static) {
    for fences in [Fences::AfterChanges, Fences::BeforeLoads] {
        set_fences(fences);
        builder.check(model);
    }
}
