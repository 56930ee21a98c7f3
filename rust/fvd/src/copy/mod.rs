//! What moves data from the base to the image, in the background.
//!
//! Everything here is a future that the host drives: a thread of its own, a task of its runtime,
//! the simulator. Dropped at any moment, it leaves the image as good as ever. Copies publish only in
//! memory; a checkpoint makes them durable (`docs/design.md`, "Copies").

mod copy_on_read;

pub use copy_on_read::copy_on_read;
