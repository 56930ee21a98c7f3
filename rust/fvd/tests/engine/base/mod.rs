//! Bases: chains of images, bases that fail, and bases with false claims.

mod async_chain;
mod deep_chain;
mod failing;
mod hostile_qcow2;
