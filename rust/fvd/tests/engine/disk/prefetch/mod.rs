//! Prefetch of whole images, in memory and with a simulated clock.

mod background;
mod control;
mod far;
mod faults;
mod guest;
mod holes;
mod pace;
mod support;
mod whole;
mod zeros;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
