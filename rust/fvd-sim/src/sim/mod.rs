//! The simulator: whole sessions of the whole engine, over the whole matrix of geometries.
//!
//! A seed gives a [`Script`]: a geometry, sessions, the requests of each, and the errors. A script is data,
//! so a failing one can be shrunk. The modules, from the bottom up:
//!
//! * [`case`]: the matrix, and the geometry of a case;
//! * [`script`]: what a run does; [`load`]: the requests;
//! * [`session`]: one session, from open to end;
//! * [`run`]: sessions, one after the other, and the checks between them;
//! * [`shrink`]: finds a smaller script that also fails;
//! * [`report`]: what a run did;
//! * [`coverage`]: which values and pairs of the matrix were covered.
//!
//! `docs/simulation.md` describes the model and how to use the simulator.

pub mod case;
pub mod coverage;
pub mod load;
pub mod report;
pub mod run;
pub mod script;
mod session;
pub mod shrink;

pub use case::Case;
pub use report::{Counts, Failure, Report};
pub use run::{Watch, run};
pub use script::Script;
