//! Bases: chains of them, and those that fail or lie.

mod async_chain;
mod deep_chain;
mod failing;
mod hostile_qcow2;
