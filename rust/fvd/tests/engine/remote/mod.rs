//! Files on other machines: chains, the gate, pins.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chain;
mod gate;
mod given;
mod pin;
mod pin_faults;
mod qcow2;
mod refused;
mod store;
