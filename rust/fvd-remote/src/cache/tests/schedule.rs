//! Simulated processes: threads of which one runs at a time, and which of them is random. Each may die at any
//! step.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What a killed process unwinds with.
struct Killed;

/// Decides who runs.
pub(super) struct Schedule {
    state: Mutex<State>,
    changed: Condvar,
}

pub(super) struct State {
    pub(super) random: fastrand::Rng,
    /// Threads that have not ended.
    live: Vec<usize>,
    running: usize,
    /// The number of the process that runs on each thread.
    processes: Vec<u32>,
    next_process: u32,
    pub(super) steps: u32,
}

impl Schedule {
    pub(super) fn new(seed: u64, threads: usize) -> Self {
        Self {
            state: Mutex::new(State {
                random: fastrand::Rng::with_seed(seed),
                live: (0..threads).collect(),
                running: 0,
                processes: (0..threads as u32).collect(),
                next_process: threads as u32,
                steps: 0,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `process` on a thread, and again, as another process, after each kill.
    pub(super) fn run(&self, thread: usize, process: impl Fn(u32)) {
        drop(self.wait(self.lock(), thread));
        loop {
            let number = self.lock().processes[thread];
            match catch_unwind(AssertUnwindSafe(|| process(number))) {
                Ok(()) => break,
                Err(payload) if payload.is::<Killed>() => {}
                Err(payload) => {
                    self.end(thread);
                    resume_unwind(payload);
                }
            }
        }
        self.end(thread);
    }

    fn end(&self, thread: usize) {
        let mut state = self.lock();
        state.live.retain(|&other| other != thread);
        state.choose();
        self.changed.notify_all();
    }

    /// A random decision of the process that runs.
    pub(super) fn random<T>(&self, decide: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        decide(&mut self.lock().random)
    }

    pub(super) fn is_alive(&self, process: u32) -> bool {
        self.lock().processes.contains(&process)
    }

    /// Another process may run here. Ends the process that calls if it has been killed meanwhile.
    pub(super) fn step(&self, process: u32) {
        let mut state = self.lock();
        let thread = state.processes.iter().position(|&other| other == process);
        let Some(thread) = thread.filter(|_| !std::thread::panicking()) else {
            drop(state);
            return die();
        };
        state.steps += 1;
        state.choose();
        self.changed.notify_all();
        let state = self.wait(state, thread);
        let is_alive = state.processes[thread] == process;
        drop(state);
        if !is_alive {
            die();
        }
    }

    fn wait<'a>(&self, mut state: MutexGuard<'a, State>, thread: usize) -> MutexGuard<'a, State> {
        while state.running != thread {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// Kills a process, at the step where it is. Its thread goes on as another one.
    pub(super) fn kill(&self, process: u32) {
        let mut state = self.lock();
        if let Some(thread) = state.processes.iter().position(|&other| other == process) {
            state.processes[thread] = state.next_process;
            state.next_process += 1;
        }
    }

    /// Kills all.
    pub(super) fn kill_all(&self) -> Vec<u32> {
        let processes = self.lock().processes.clone();
        for &process in &processes {
            self.kill(process);
        }
        processes
    }

    pub(super) fn some_process(&self) -> u32 {
        let mut state = self.lock();
        let threads = state.processes.len();
        let thread = state.random.usize(..threads);
        state.processes[thread]
    }

    pub(super) fn steps(&self) -> u32 {
        self.lock().steps
    }
}

impl State {
    fn choose(&mut self) {
        // A change of threads takes long on a busy machine, so there are not more of them than needed.
        let goes_on = self.live.contains(&self.running) && self.random.u32(..4) > 0;
        if !self.live.is_empty() && !goes_on {
            let chosen = self.random.usize(..self.live.len());
            self.running = self.live[chosen];
        }
    }
}

/// Without a message. What is dropped meanwhile has no effect.
fn die() {
    if !std::thread::panicking() {
        resume_unwind(Box::new(Killed));
    }
}
