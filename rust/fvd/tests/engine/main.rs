//! The engine as programs use it. One binary, because the compiler makes the engine's generic code anew for each.

mod base;
mod convert;
mod disk;
mod file;
mod qemu;
mod remote;
