//! One machine: its guest plays the trace, and its process has an image over the base.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use fvd::copy::Window;

use super::bits::Bits;
use super::memory::Memory;

/// Slots of prefetch, and helpers with them while a profile is fetched.
const SLOTS: (usize, usize) = (2, 64);

pub(super) struct Machine {
    pub(super) host: usize,
    pub(super) started: Duration,
    pub(super) is_local: bool,
    pub(super) local: Bits,
    pub(super) memory: Memory,
    /// Reads of the trace that have not ended.
    pub(super) left: usize,
    /// When the last one has ended, since the start.
    pub(super) took: Option<Duration>,
    /// What reads still wait for, and what they make local.
    pub(super) reads: HashMap<usize, Pending>,
    /// What the profile names, in order.
    pub(super) plan: VecDeque<Range<u64>>,
    pub(super) steps: HashMap<usize, Pending>,
    pub(super) window: Window,
    pub(super) next_step: usize,
    pub(super) requests: u64,
    pub(super) refused: u64,
    pub(super) bytes: u64,
}

/// A read, or a step, that waits.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) bytes: Range<u64>,
    pub(super) begun: Duration,
    /// Answers that are still to come.
    pub(super) answers: usize,
}

impl Machine {
    pub(super) fn new(host: usize, disk: u64, reads: usize, plan: VecDeque<Range<u64>>) -> Self {
        Self {
            host,
            started: Duration::ZERO,
            is_local: false,
            local: Bits::new(disk),
            memory: Memory::default(),
            left: reads,
            took: None,
            reads: HashMap::new(),
            plan,
            steps: HashMap::new(),
            window: Window::without_caps(SLOTS.0, SLOTS.1),
            next_step: 0,
            requests: 0,
            refused: 0,
            bytes: 0,
        }
    }
}
