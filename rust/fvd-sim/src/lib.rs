//! Development only: simulated disks with power cuts, a seeded executor, a reference model, and
//! the randomized tester of the engine.
//!
//! One seed decides everything: geometry, requests, the order in which operations complete, power
//! cuts. There is no wall clock and no thread in a run. From the ground up:
//!
//! * [`medium`]: sparse bytes that are cheap to copy;
//! * [`world`], [`disk`]: disks with a volatile cache, and their operations in flight;
//! * [`cut`]: what a power cut leaves;
//! * [`executor`]: polls tasks and completes operations in random order;
//! * [`model`]: which contents each sector may have;
//! * [`shape`]: geometries; [`rig`]: the disks of one image, created and opened;
//! * [`workload`]: requests; [`shared`]: what they share; [`verify`]: invariants on disk; [`check`]: what holds after a power cut;
//! * [`base`]: the same of a base that is written to;
//! * [`run`]: power cuts at every boundary of random workloads;
//! * [`sim`]: the simulator of the whole engine, over a matrix of geometries.

pub mod base;
pub mod check;
pub mod cut;
pub mod disk;
pub mod executor;
pub mod fault;
pub mod medium;
pub mod model;
pub mod rig;
pub mod run;
pub mod shape;
pub mod shared;
pub mod sim;
pub mod verify;
pub mod workload;
pub mod world;
