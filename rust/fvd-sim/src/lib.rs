//! For development only: simulated disks with power cuts, a seeded executor, a reference model, and the
//! randomized tester of the engine. See docs/simulation.md.
//!
//! One seed decides everything: the geometry, the requests, the order in which operations complete, the power
//! cuts. A run has no threads and no wall clock. The modules, from the bottom up:
//!
//! * [`medium`]: sparse bytes that are cheap to copy;
//! * [`world`], [`disk`]: disks with a volatile cache, and their operations in flight;
//! * [`cut`]: what a power cut leaves;
//! * [`executor`]: polls tasks and completes operations in random order;
//! * [`model`]: the contents that each sector may have;
//! * [`shape`]: geometries; [`rig`]: the disks of one image, created and opened;
//! * [`workload`]: requests; [`shared`]: the model and the counters that all requests share;
//! * [`verify`]: invariants on disk; [`check`]: what must hold after a power cut;
//! * [`base`]: the same for a base that fvd writes to;
//! * [`run`]: power cuts at every boundary of random workloads;
//! * [`sim`]: the simulator of the whole engine, over a matrix of geometries;
//! * [`fleet`]: a model of many machines that boot from one store.

pub mod base;
pub mod check;
pub mod cut;
pub mod disk;
pub mod executor;
pub mod fault;
pub mod fleet;
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
