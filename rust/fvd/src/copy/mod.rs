//! Moves data between the base and the image in the background.
//!
//! Everything here is a future, driven by a thread, a task of a runtime or the simulator. It may be dropped
//! at any moment: the image stays valid. Copies are published only in memory, and a checkpoint makes them
//! durable (`docs/design/copies.md`, "Copies", "Prefetch" and "Profile").
//!
//! How fast prefetch goes: `pacing` caps it, `throttle` and `best` find contention, `foreground` makes way for the
//! guest, `window` widens it for a profile. `waits` and `step` apply them.

mod account;
mod background;
mod backoff;
mod base_writeback;
mod best;
mod command;
mod control;
mod copy_on_read;
mod direction;
mod fetch;
mod foreground;
mod machine;
mod moving;
mod options;
mod pacing;
mod pause;
mod plan;
mod prefetch;
mod profile;
mod shared;
mod shown_rate;
mod status;
mod step;
mod take;
mod throttle;
mod waits;
mod window;
mod work;

pub use background::{Background, background};
pub use base_writeback::write_back_base;
pub use control::Control;
pub use copy_on_read::copy_on_read;
pub use fetch::fetch;
pub use options::PrefetchOptions;
pub use pause::{Pause, PauseReason};
pub use plan::plan;
pub use prefetch::Prefetch;
pub use profile::profile;
pub use status::{PrefetchState, PrefetchStatus, status};
pub use window::Window;
