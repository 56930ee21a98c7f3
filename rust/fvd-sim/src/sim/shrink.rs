//! Finds a smaller script that also fails.
//!
//! It need not fail in the same way: the shortest script that fails is the most useful one.

use std::time::Duration;

use fvd::format::BaseUpdate;
use fvd::image::DetectZeroes;

use super::report::Failure;
use super::run::{Watch, run};
use super::script::{End, Script, Session, Step};

/// Maximum number of runs.
const RUNS: usize = 400;

/// Drops everything that is not needed for a failure.
#[must_use]
pub fn shrink(script: Script, failure: Failure) -> (Script, Failure) {
    let mut shrinker = Shrinker {
        script,
        failure,
        left: RUNS,
    };
    shrinker.drop_later_sessions();
    loop {
        let before = (shrinker.script.requests(), shrinker.script.sessions.len());
        shrinker.drop_sessions();
        shrinker.drop_requests();
        shrinker.simplify();
        let after = (shrinker.script.requests(), shrinker.script.sessions.len());
        if after == before || shrinker.left == 0 {
            return (shrinker.script, shrinker.failure);
        }
    }
}

struct Shrinker {
    script: Script,
    failure: Failure,
    left: usize,
}

impl Shrinker {
    /// Keeps the script if it fails.
    fn attempt(&mut self, script: Script) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        match run(&script, Watch::No) {
            Ok(_) => false,
            Err(failure) => {
                self.script = script;
                self.failure = failure;
                true
            }
        }
    }

    /// Sessions after the failure have no effect.
    fn drop_later_sessions(&mut self) {
        self.script.sessions.truncate(self.failure.session + 1);
    }

    fn drop_sessions(&mut self) {
        let mut index = 0;
        while index + 1 < self.script.sessions.len() {
            let mut script = self.script.clone();
            script.sessions.remove(index);
            if self.attempt(script) {
                self.drop_later_sessions();
            } else {
                index += 1;
            }
        }
    }

    /// Drops ever smaller pieces of each session, from the end.
    fn drop_requests(&mut self) {
        for session in (0..self.script.sessions.len()).rev() {
            let mut piece = self.script.sessions.get(session).map_or(0, |s| s.steps.len());
            while piece > 0 {
                let mut end = self.script.sessions.get(session).map_or(0, |s| s.steps.len());
                while end > 0 {
                    let start = end.saturating_sub(piece);
                    let mut script = self.script.clone();
                    script.sessions[session].steps.drain(start..end);
                    if self.attempt(script) {
                        self.drop_later_sessions();
                        if session >= self.script.sessions.len() {
                            return;
                        }
                    }
                    end = start;
                }
                piece /= 2;
            }
        }
    }

    /// Tries to remove every optional part of a session.
    fn simplify(&mut self) {
        let simpler: [fn(&mut Session); 8] = [
            |session| session.errors = None,
            |session| session.space = None,
            |session| session.latency = Duration::ZERO,
            |session| session.hangs = None,
            |session| session.end = End::Close,
            |session| session.depth = 1,
            |session| session.steps.iter_mut().for_each(|step| step.cancel = None),
            |session| session.steps.retain(|step: &Step| !step.request.is_read()),
        ];
        for change in simpler {
            for index in 0..self.script.sessions.len() {
                let mut script = self.script.clone();
                let Some(session) = script.sessions.get_mut(index) else {
                    break;
                };
                change(session);
                if self.attempt(script) {
                    self.drop_later_sessions();
                }
            }
        }
        let off: [fn(&mut Script); 4] = [
            |script| script.shape.prefetch = false,
            |script| script.shape.copy_on_read = false,
            |script| script.shape.detect_zeroes = DetectZeroes::Off,
            |script| script.shape.updates = BaseUpdate::No,
        ];
        for change in off {
            let mut script = self.script.clone();
            change(&mut script);
            self.attempt(script);
        }
    }
}
