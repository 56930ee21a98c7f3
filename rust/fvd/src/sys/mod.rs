//! The only module of the crate with `unsafe` code: raw memory and raw system calls.

pub(crate) mod buffer;
pub(crate) mod file;
pub(crate) mod fork;
pub(crate) mod nowait;
pub(crate) mod per_process;
pub(crate) mod resolved;
pub(crate) mod stack;
pub(crate) mod threads;
pub(crate) mod uring;
