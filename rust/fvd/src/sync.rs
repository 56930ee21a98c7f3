//! The primitives of the lock-free protocols. `rust/fvd-loom` compiles these protocols with a module of the same
//! names, whose types try every interleaving.

pub(crate) use std::sync::OnceLock;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

pub(crate) use event_listener::{Event, EventListener};
