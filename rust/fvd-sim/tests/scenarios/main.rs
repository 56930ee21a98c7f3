//! Individual scenarios: what a failing disk, a power cut at a given step, or the end of a process does.

mod base_writeback;
mod faults;
mod lying_media;
mod profile;
mod regressions;
mod restarts;
