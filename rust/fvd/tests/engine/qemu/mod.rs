//! Comparisons with `qemu-img`.

mod convert;
mod qcow2;
