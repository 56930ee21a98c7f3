//! What the command line does with whole disks, by path.

mod create;

pub use create::{Backing, CreateRequest, create, create_raw};
