//! Side by side with `qemu-img`.

mod convert;
mod qcow2;
