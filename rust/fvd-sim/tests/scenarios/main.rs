//! Single stories: what a failing disk, a power cut at a given step, or the end of a process does.

mod faults;
mod lying_media;
mod profile;
mod regressions;
mod restarts;
mod through;
