//! One session: from the open of the image to the end, successful or not.

mod copier;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;

use fvd::ErrorKind;
use fvd::image::CacheMode;

use copier::Copier;

use super::report::{Counts, Ended};
use super::script::{End, Errors, Phase, Session, Step};
use crate::executor::Executor;
use crate::fault::{Faults, Target};
use crate::rig::{Rig, SimImage};
use crate::shared::SharedRef;
use crate::workload::{Request, perform};
use crate::world::World;

/// Maximum number of completions in a session. More of them indicate an endless loop.
const MOST_COMPLETIONS: u64 = 1 << 20;
/// Maximum number of overlapping writes in a sector, which keeps the sets of the model small.
const CROWD: usize = 8;

/// Maximum number of completions for which a power cut waits until metadata is being written.
const PATIENCE: u64 = 100;

/// Why the session stopped.
enum Stop {
    Ended(Ended),
    Wrong(String),
}

/// The result of a session.
pub(super) struct Run {
    pub(super) ended: Ended,
    pub(super) counts: Counts,
    /// Whether everything that was flushed would survive a power cut from now on.
    pub(super) durable: bool,
}

/// Opens the image and carries out the session. `durable`: whether everything that was flushed would survive
/// a power cut before the open.
pub(super) fn run(rig: &Rig, session: &Session, shared: &SharedRef, durable: bool) -> Result<Run, String> {
    let world = rig.file.world();
    world.set_queueing(true);
    world.set_base_latency(session.latency);
    world.set_hangs(session.hangs);
    world.set_faults(Faults {
        space: scarce(session),
        ..errors(session, Phase::Open)
    });
    let mut runner = Runner {
        session,
        rig,
        shared,
        executor: Executor::new(world, session.seed),
        rng: fastrand::Rng::with_seed(!session.seed),
        completions: 0,
        cancels: BTreeMap::new(),
        counts: Counts::default(),
        image: None,
        copier: None,
        durable,
        inherits_failure: world.has_unseen_failure(),
    };
    let ended = match runner.run() {
        Ok(()) => Ended::Closed,
        Err(Stop::Ended(ended)) => ended,
        Err(Stop::Wrong(detail)) => return Err(detail),
    };
    if ended == Ended::Cut {
        // From now on, dropping a task has no effect on the disks.
        world.kill();
    }
    runner.count();
    Ok(Run {
        ended,
        counts: runner.counts,
        durable: runner.durable,
    })
}

/// Bytes of new space that can be allocated at first.
fn scarce(session: &Session) -> Option<u64> {
    session.space.map(|pages| pages * 4096)
}

/// The errors to inject in this part of the session.
fn errors(session: &Session, now: Phase) -> Faults {
    let is_now = |errors: &Errors| errors.phase == Phase::Whole || errors.phase == now;
    let errors = session.errors.filter(is_now);
    Faults {
        writeback: errors
            .filter(|errors| errors.target == Target::Anything && session.cache != CacheMode::Unsafe)
            .map(|errors| errors.one_in * 4),
        ..errors.map_or_else(Faults::default, Faults::from)
    }
}

struct Runner<'a> {
    session: &'a Session,
    rig: &'a Rig,
    shared: &'a SharedRef,
    executor: Executor<'a>,
    rng: fastrand::Rng,
    completions: u64,
    /// Tasks by the completion after which they are cancelled.
    cancels: BTreeMap<u64, Vec<u64>>,
    counts: Counts,
    /// The image, once it is open.
    image: Option<Rc<SimImage>>,
    copier: Option<Copier>,
    /// Whether everything that was flushed would survive a power cut. False after a session without syncs,
    /// until the next session has opened the image.
    durable: bool,
    /// A sync will report a failure from an earlier session.
    inherits_failure: bool,
}

impl Runner<'_> {
    fn world(&self) -> World {
        self.executor.world().clone()
    }

    fn run(&mut self) -> Result<(), Stop> {
        let (rig, cache) = (self.rig.clone(), self.session.cache);
        let left = self.shared.borrow_mut().begin_flush();
        let image = self.complete("open", async move { rig.open(true, cache).await })?;
        self.durable = cache != CacheMode::Unsafe;
        if self.durable {
            // The open has made durable what earlier sessions left.
            self.shared.borrow_mut().ack_flush(left);
        }
        let image = Rc::new(image);
        self.image = Some(image.clone());
        self.world().set_faults(Faults {
            space: scarce(self.session),
            ..errors(self.session, Phase::Whole)
        });
        self.start_copier(&image);
        self.requests(&image)?;
        self.linger()?;
        self.stop_copier()?;
        self.world().set_faults(errors(self.session, Phase::Close));
        let left = self.shared.borrow_mut().begin_flush();
        let closing = image.clone();
        self.complete("close", async move { closing.close().await })?;
        let waiting = image.outstanding_copies();
        if waiting > 0 {
            let detail = format!("{waiting} bytes wait to be stored after a close");
            return Err(Stop::Wrong(detail));
        }
        if self.durable {
            // A close is a flush, too.
            self.shared.borrow_mut().ack_flush(left);
        }
        Ok(())
    }

    /// Carries out the requests.
    fn requests(&mut self, image: &Rc<SimImage>) -> Result<(), Stop> {
        let session = self.session;
        for (number, step) in session.steps.iter().enumerate() {
            if number == session.steps.len() / 2 {
                self.make_room();
            }
            while self.executor.active() >= session.depth {
                self.step()?;
            }
            self.issue(step, image.clone(), session.cache);
            self.disturb_copier(image);
            // Some requests start in bursts, others while earlier ones are in flight.
            for _ in 0..self.rng.usize(..3) {
                self.step()?;
            }
        }
        self.make_room();
        self.resume_prefetch();
        while self.executor.active() > 0 {
            self.step()?;
        }
        Ok(())
    }

    /// Ends the limit on new space.
    fn make_room(&self) {
        self.world().set_faults(errors(self.session, Phase::Whole));
    }

    fn issue(&mut self, step: &Step, image: Rc<SimImage>, cache: CacheMode) {
        let mut request = step.request.clone();
        if let Some((offset, len)) = request.written() {
            let model = &self.shared.borrow().model;
            let end = offset + len;
            if model.meets_part(offset, end) || model.crowd(offset, end) >= CROWD {
                // The model cannot predict the result.
                request = Request::Read { offset, len };
            }
        }
        let task = self.executor.spawn(perform(request, image, cache, self.shared.clone()));
        self.counts.requests += 1;
        if let Some(after) = step.cancel {
            let due = self.completions + after;
            self.cancels.entry(due).or_default().push(task);
        }
        // The model must know of this request before the next one is drawn.
        self.executor.settle();
    }

    /// Lets the background tasks continue for a while.
    fn linger(&mut self) -> Result<(), Stop> {
        let mut left = match self.rng.u8(..4) {
            0 => 0,
            1 => self.rng.u64(..40),
            _ => 5000,
        };
        let world = self.world();
        while left > 0 && (world.is_busy() || world.has_sleepers()) {
            self.step()?;
            left -= 1;
        }
        Ok(())
    }

    /// Runs one task to its end. The other tasks run meanwhile.
    fn complete<T: 'static>(
        &mut self,
        what: &str,
        work: impl Future<Output = fvd::Result<T>> + 'static,
    ) -> Result<T, Stop> {
        let result = Rc::new(RefCell::new(None));
        let slot = result.clone();
        self.executor.spawn(async move {
            let outcome = work.await;
            *slot.borrow_mut() = Some(outcome);
        });
        self.executor.settle();
        while self.executor.active() > 0 {
            self.step()?;
        }
        match result.take().expect("the task has ended") {
            Ok(value) => Ok(value),
            Err(error) => {
                self.expected(what, &error)?;
                Err(Stop::Ended(self.dead()))
            }
        }
    }

    /// Completes one operation, and polls the tasks that it wakes.
    fn step(&mut self) -> Result<(), Stop> {
        self.executor.settle();
        self.executor.step();
        self.completions += 1;
        if self.completions > MOST_COMPLETIONS {
            return Err(Stop::Wrong(format!("no end after {MOST_COMPLETIONS} completions")));
        }
        for task in self.cancels.remove(&self.completions).unwrap_or_default() {
            if self.executor.cancel(task) {
                self.world().tell(|| format!("cancel    task {task}"));
                self.counts.cancelled += 1;
            }
        }
        if self.world().has_unsynced_metadata() && self.rng.u8(..32) == 0 {
            // Possibly in the middle of the copier's checkpoint.
            if let Some(image) = self.image.clone() {
                self.restart_copier(&image);
            }
        }
        self.executor.settle();
        self.look()
    }

    /// Stops if something is wrong or if the session ends here.
    fn look(&mut self) -> Result<(), Stop> {
        if let Some(detail) = self.shared.borrow_mut().wrong.take() {
            return Err(Stop::Wrong(detail));
        }
        let errors = std::mem::take(&mut self.shared.borrow_mut().errors);
        self.counts.failed += errors.len() as u64;
        for error in &errors {
            self.expected("a request", error)?;
        }
        let poisoned = errors.iter().any(|error| error.kind() == ErrorKind::Poisoned);
        if poisoned {
            self.counts.poisoned = 1;
        }
        if poisoned && self.rng.u8(..8) == 0 {
            return Err(Stop::Ended(self.dead()));
        }
        let session = self.session;
        match session.end {
            End::Cut(after) if self.durable && self.is_moment(after) => Err(Stop::Ended(Ended::Cut)),
            End::Kill(after) if after == self.completions => Err(Stop::Ended(Ended::Killed)),
            _ => Ok(()),
        }
    }

    /// Whether the power is cut now. That is after `after` completions, or, in every second session, later,
    /// when metadata is being written, unless that takes too long.
    fn is_moment(&mut self, after: u64) -> bool {
        if self.completions < after {
            return false;
        }
        let waits = self.session.seed.is_multiple_of(2) && self.completions < after + PATIENCE;
        !waits || (self.world().has_unsynced_metadata() && self.rng.u8(..4) == 0)
    }

    /// Checks that an error was injected. Devices are no exception: they have room for every chunk, whatever
    /// earlier sessions left there.
    fn expected(&self, what: &str, error: &fvd::Error) -> Result<(), Stop> {
        let full = self.session.space.is_some() && error.kind() == ErrorKind::NoSpace;
        if self.session.errors.is_some() || self.inherits_failure || full {
            return Ok(());
        }
        Err(Stop::Wrong(format!("{what} failed: {error}")))
    }

    /// Adds the statistics of the engine to the counts.
    fn count(&mut self) {
        self.drop_copier();
        let counts = &mut self.counts;
        if let Some(image) = &self.image {
            let stats = image.stats();
            counts.copied_on_read = stats.copied_on_read;
            counts.prefetched = stats.prefetched;
            counts.journal_sectors = stats.journal_sectors;
            counts.checkpoints = stats.checkpoints;
        }
    }

    /// The image is unusable, so the session ends: either the process exits or the machine is restarted.
    fn dead(&mut self) -> Ended {
        if self.durable && self.rng.bool() {
            Ended::Cut
        } else {
            Ended::Killed
        }
    }
}
