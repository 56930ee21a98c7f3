//! What the command line does with whole disks, by path.

mod check;
mod create;
mod info;

pub use check::check;
pub use create::{Backing, CreateRequest, create, create_raw};
pub use info::{DiskInfo, NamedBacking, info};
