//! Runs sessions, one after the other, and checks the disks between them.

use std::cell::RefCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::report::{Counts, Ended, Failure, Report};
use super::script::Script;
use super::session;
use crate::base;
use crate::check::{check_closed_in, check_crashed_in, check_reopened_in};
use crate::cut::Cut;
use crate::medium::{Medium, SECTOR};
use crate::model::Model;
use crate::rig::{Rig, islands};
use crate::shared::{Shared, SharedRef};
use crate::world::World;

/// Disks of up to this many bytes are always compared as a whole.
const SMALL: u64 = 1 << 20;
/// Disks of more than this many bytes are never compared as a whole.
const LARGE: u64 = 160 << 20;
/// In disks that are not compared as a whole: bytes around each write that are compared too.
const AROUND: u64 = 8 << 10;

/// What to do with the trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watch {
    /// Discard it.
    #[default]
    No,
    /// Print it.
    Print,
    /// Put it into the report.
    Keep,
}

/// Runs a script. A panic of the engine counts as a failure.
pub fn run(script: &Script, watch: Watch) -> Result<Report, Failure> {
    let session = RefCell::new(0);
    let result = catch_unwind(AssertUnwindSafe(|| run_sessions(script, watch, &session)));
    let detail = match result {
        Ok(Ok(report)) => return Ok(report),
        Ok(Err(detail)) => detail,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            format!("panic: {}", text.unwrap_or_default())
        }
    };
    let session = session.into_inner();
    Err(Failure { session, detail })
}

fn run_sessions(script: &Script, watch: Watch, number: &RefCell<usize>) -> Result<Report, String> {
    let (rig, content) = Rig::create_sparse(&script.shape, script.image_seed);
    let mut simulation = Simulation {
        script,
        watch,
        rig,
        shared: Rc::new(RefCell::new(Shared::with_base(content, &script.shape))),
        durable: true,
        losses: 0,
        report: Report::default(),
    };
    for index in 0..script.sessions.len() {
        *number.borrow_mut() = index;
        simulation.session(index)?;
        if simulation.is_forfeit() {
            break;
        }
    }
    Ok(simulation.report)
}

struct Simulation<'a> {
    script: &'a Script,
    watch: Watch,
    rig: Rig,
    shared: SharedRef,
    /// Whether everything that was flushed would survive a power cut now.
    durable: bool,
    /// Losses of the world before the sessions that were not durable.
    losses: u64,
    report: Report,
}

impl Simulation<'_> {
    fn session(&mut self, index: usize) -> Result<(), String> {
        let session = &self.script.sessions[index];
        let world = self.rig.file.world().clone();
        match self.watch {
            Watch::No => {}
            Watch::Print => world.set_trace(true),
            Watch::Keep => world.keep_trace(),
        }
        let mut rng = fastrand::Rng::with_seed(session.seed.rotate_left(32));
        if self.durable {
            self.losses = world.losses();
        }
        let run = session::run(&self.rig, session, &self.shared, self.durable)?;
        let (ended, counts) = (run.ended, run.counts);
        self.durable = run.durable;
        world.tell(|| format!("session   {index} has ended: {ended:?}"));
        self.count(ended, counts, &world);
        if ended == Ended::Cut {
            let media = world.cut(Cut::numbered(rng.u64(..), rng.u64(..), rng.u64(..4)));
            let found = self.check(ended, false, &media, &mut rng)?;
            self.power_up(&media, &found, rng.u64(..));
            return Ok(());
        }
        world.end_process();
        if self.is_forfeit() {
            return Ok(());
        }
        if ended == Ended::Closed && self.rig.shape.writes_base() && !world.has_durable_base() {
            return Err("the base of an image that was closed is not durable".into());
        }
        // Data that was given up in the base's cache was written but is not there, as after a power cut.
        let given_up = world.has_given_up();
        if ended == Ended::Closed && self.durable && !given_up {
            // A power cut takes nothing of an image that was closed.
            let durable = world.cut(Cut::Nothing);
            self.check(ended, false, &durable, &mut rng.clone())?;
        }
        if rng.u8(..4) == 0 {
            world.drop_caches();
            self.shared.borrow_mut().lose_cache();
        }
        let media = self.rig.media();
        let found = self.check(ended, given_up, &media, &mut rng)?;
        if rng.bool() {
            self.check_reopened(&found.ranges, rng.u64(..))?;
        }
        let mut shared = self.shared.borrow_mut();
        shared.outlive_process(&self.rig, &media, &found.ranges, &found.bytes);
        Ok(())
    }

    /// Whether writeback has failed in or after a session without syncs. Then nothing is guaranteed.
    fn is_forfeit(&self) -> bool {
        let world = self.rig.file.world();
        !self.durable && (world.has_given_up() || world.losses() > self.losses)
    }

    fn count(&mut self, ended: Ended, counts: Counts, world: &World) {
        let report = &mut self.report;
        report.counts.add(&counts);
        report.counts.end(ended);
        report.digest = report.digest.rotate_left(7) ^ world.digest();
        report.trace.push_str(&world.take_trace());
    }

    /// Compares what is on the disks with the model. Returns the ranges that it compared and their content.
    /// `given_up`: a cache holds content that its disk may never get.
    fn check(&self, ended: Ended, given_up: bool, media: &[Medium], rng: &mut fastrand::Rng) -> Result<Found, String> {
        let Shared { model, base, .. } = &*self.shared.borrow();
        let ranges = self.ranges(model, base.as_ref(), rng);
        let checked = match ended {
            Ended::Closed => check_closed_in(&self.rig, media, model, &ranges),
            Ended::Cut | Ended::Killed => check_crashed_in(&self.rig, media, model, &ranges, rng.u64(..)),
        };
        let checked = checked.and_then(|bytes| match base {
            None => Ok(bytes),
            Some(base) if given_up || ended == Ended::Cut => {
                base::check_crashed(&self.rig, media, base, &ranges).map(|()| bytes)
            }
            Some(base) => base::check_written(&self.rig, media, base, &ranges).map(|()| bytes),
        });
        match checked {
            Ok(bytes) => Ok(Found { ranges, bytes }),
            Err(detail) => Err(format!("after it has ended ({ended:?}): {detail}")),
        }
    }

    /// The next process opens the image, and then the power is cut.
    fn check_reopened(&self, ranges: &[Range<u64>], seed: u64) -> Result<(), String> {
        let Shared { model, base, .. } = &*self.shared.borrow();
        let media = check_reopened_in(&self.rig, model, ranges, self.durable, seed)?;
        match (media, base) {
            (Some(media), Some(base)) => base::check_crashed(&self.rig, &media, base, ranges),
            _ => Ok(()),
        }
    }

    /// The ranges to compare: the whole disk, or, if it is large, what was written, what is not a hole of the
    /// base, and random parts of the rest.
    fn ranges(&self, model: &Model, base: Option<&Model>, rng: &mut fastrand::Rng) -> Vec<Range<u64>> {
        let size = model.size();
        if size <= SMALL || (size <= LARGE && rng.u8(..32) == 0) {
            return std::iter::once(0..size).collect();
        }
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let written = model.written().into_iter();
        for run in written.chain(base.map(Model::written).unwrap_or_default()) {
            ranges.push((run.start * SECTOR).saturating_sub(AROUND)..run.end * SECTOR + AROUND);
        }
        ranges.extend(islands(&self.script.shape, self.script.image_seed));
        for _ in 0..8 {
            let start = rng.u64(..size);
            ranges.push(start..start + rng.u64(..64 << 10));
        }
        merge(ranges, size)
    }

    /// The machine starts again after a power cut.
    fn power_up(&mut self, media: &[Medium], found: &Found, seed: u64) {
        self.durable = true;
        self.rig = self.rig.on(&World::seeded(seed), media);
        let mut shared = self.shared.borrow_mut();
        if let Some(base) = &mut shared.base {
            base::restart(&self.rig, media, base, &found.ranges, &found.bytes);
        }
        shared.model.collapse_in(&found.ranges, &found.bytes);
        shared.errors.clear();
    }
}

/// Content of the disk: the bytes of `ranges`, one range after the other.
struct Found {
    ranges: Vec<Range<u64>>,
    bytes: Vec<u8>,
}

/// Merges the ranges into ascending, disjoint ranges of whole sectors within `size`.
fn merge(mut ranges: Vec<Range<u64>>, size: u64) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        let start = range.start / SECTOR * SECTOR;
        let end = range.end.next_multiple_of(SECTOR).min(size);
        match merged.last_mut() {
            Some(last) if start <= last.end => last.end = last.end.max(end),
            _ if start < end => merged.push(start..end),
            _ => {}
        }
    }
    merged
}
