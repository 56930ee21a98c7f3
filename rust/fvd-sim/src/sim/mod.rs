//! The simulator: whole sessions of the whole engine, over the whole matrix of geometries.
//!
//! A seed gives a [`Script`]: a geometry, sessions, the requests of each, and what goes wrong. A
//! script is data, so that a failing one can be shrunk. From the ground up:
//!
//! * [`case`]: the matrix, and the geometry of a case;
//! * [`script`]: what is done; [`load`]: the requests;
//! * [`session`]: one open, until it ends well or not;
//! * [`run`]: sessions, one after the other, and what is checked in between;
//! * [`shrink`]: a smaller script that fails, too;
//! * [`report`]: what was done;
//! * [`coverage`]: which values and pairs of the matrix were met.
//!
//! `docs/simulation.md` has the model and how to use it.

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
