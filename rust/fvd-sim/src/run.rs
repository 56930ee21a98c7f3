//! One seed: a geometry, several sessions of requests, and power cuts at every boundary between two
//! operations.

mod report;

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::slice::from_ref;

use fvd::copy::{copy_on_read, write_back_base};
use fvd::image::CacheMode;

use crate::base;
use crate::check::{check_closed, check_crashed, check_reopened_in};
use crate::cut::Cut;
use crate::executor::Executor;
use crate::fault::{Faults, Lie};
use crate::medium::Medium;
use crate::rig::{Rig, SimImage};
use crate::shape::Shape;
use crate::shared::{Shared, SharedRef};
use crate::workload::{Generator, perform};
use crate::world::World;

pub use report::{Failure, Plan, Report};

/// Runs one seed.
pub fn run(plan: &Plan) -> Result<Report, Failure> {
    let mut rng = fastrand::Rng::with_seed(plan.seed);
    let shape = Shape::random(&mut rng);
    let shape = plan.updates.map_or(shape.clone(), |updates| shape.updating(updates));
    let (rig, content) = Rig::create(&shape, rng.u64(..));
    let shared = Rc::new(RefCell::new(Shared::with_base(Medium::from_bytes(&content), &shape)));
    let mut runner = Runner {
        plan: *plan,
        generator: Generator::new(&shape, rng.u64(..)),
        rng,
        rig,
        shared,
        changes: u64::MAX,
        report: Report {
            features: shape.features(),
            ..Report::default()
        },
    };
    for _ in 0..runner.rng.u8(1..4) {
        runner.session()?;
    }
    Ok(runner.report)
}

struct Runner {
    plan: Plan,
    rng: fastrand::Rng,
    rig: Rig,
    shared: SharedRef,
    generator: Generator,
    /// The number of changes at the last boundary that was checked.
    changes: u64,
    report: Report,
}

/// Stores the blocks that reads fetched from the base (copy-on-read), until it is cancelled.
async fn copy_in_background(image: Rc<SimImage>) {
    while copy_on_read(&image).await.is_err() {
        // The failure has disabled copy-on-read.
    }
}

/// Writes dirty ranges back to the base, until that fails or it is cancelled.
async fn push_in_background(image: Rc<SimImage>) {
    let _ = write_back_base(&image).await;
}

/// Whether the session continues.
#[derive(PartialEq, Eq)]
enum Power {
    On,
    /// The power is cut, or the process dies.
    Cut,
}

impl Runner {
    fn session(&mut self) -> Result<(), Failure> {
        self.report.sessions += 1;
        let world = self.rig.file.world().clone();
        world.set_trace(self.plan.trace);
        world.set_lie(self.plan.lie);
        world.set_faults(Faults {
            one_in: self.plan.errors.then_some(100),
            ..Faults::default()
        });
        world.set_queueing(true);
        let mut executor = Executor::new(&world, self.rng.u64(..));
        let mut fuse = if self.rng.bool() {
            self.rng.u64(1..200)
        } else {
            u64::MAX
        };
        let power = self.requests(&mut executor, &mut fuse)?;
        // A generator of its own, so that the runs of other seeds do not change.
        let dies = power == Power::Cut && fastrand::Rng::with_seed(self.plan.seed ^ world.digest()).u8(..3) == 0;
        let is_cut = power == Power::Cut && !dies;
        if is_cut {
            world.kill();
        }
        drop(executor);
        self.report.digest = self.report.digest.rotate_left(7) ^ world.digest();
        if is_cut {
            return self.crash();
        }
        world.set_lie(Lie::None);
        world.end_process();
        let media = self.rig.media();
        let content = if dies {
            let seed = self.rng.u64(..);
            let checked = self.check_crashed(&media, seed);
            checked.map_err(|detail| self.failure(None, format!("after the process has died: {detail}")))?
        } else {
            let checked = self.check_closed(&media);
            let content = checked.map_err(|detail| self.failure(None, format!("after a close: {detail}")))?;
            if self.is_promised(&world) {
                let checked = self.check_closed(&world.cut(Cut::Nothing));
                checked.map_err(|detail| self.failure(None, format!("after a close and a power cut: {detail}")))?;
            }
            content
        };
        let reopened = self.check_reopened();
        reopened.map_err(|detail| self.failure(None, detail))?;
        self.outlive_process(&media, &content);
        Ok(())
    }

    /// Opens the image, carries out requests and closes it, unless a power cut ends the session first.
    fn requests(&mut self, executor: &mut Executor<'_>, fuse: &mut u64) -> Result<Power, Failure> {
        let (rig, cache) = (self.rig.clone(), self.rig.shape.cache);
        let left = self.shared.borrow_mut().begin_flush();
        let Some(image) = self.complete(executor, fuse, "open", async move { rig.open(true, cache).await })? else {
            return Ok(Power::Cut);
        };
        // The open has made durable what earlier sessions left.
        self.shared.borrow_mut().ack_flush(left);
        let image = Rc::new(image);
        let copier = executor.spawn_in_background(copy_in_background(image.clone()));
        let pusher = executor.spawn_in_background(push_in_background(image.clone()));
        if self.rig.shape.writes_base() && self.rng.u8(..4) == 0 {
            // Flushes and the close must write back everything.
            executor.cancel(pusher);
        }
        // Some sessions are long enough for the journal to wrap several times.
        let most = if self.rng.u8(..8) == 0 { 200 } else { 40 };
        let mut left = self.rng.u64(5..most);
        let depth = [1, 2, 4, 8, 16][self.rng.usize(..5)];
        let mut tasks = Vec::new();
        while left > 0 {
            while left > 0 && executor.active() < depth {
                let request = self.generator.next(&self.shared.borrow().model);
                let task = perform(request, image.clone(), cache, self.shared.clone());
                tasks.push(executor.spawn(task));
                left -= 1;
                self.report.requests += 1;
                // The model must know of this request before the next one is drawn.
                executor.settle();
            }
            if self.boundary(executor, fuse)? == Power::Cut {
                return Ok(Power::Cut);
            }
            if self.plan.cancel && self.rng.u8(..24) == 0 {
                let recent = tasks.len() - tasks.len().min(depth);
                executor.cancel(tasks[self.rng.usize(recent..tasks.len())]);
            } else {
                executor.step();
            }
            executor.settle();
        }
        if self.drain(executor, fuse)? == Power::Cut {
            return Ok(Power::Cut);
        }
        if self.rng.bool() {
            executor.cancel(copier);
            executor.cancel(pusher);
        } else {
            while executor.world().is_busy() {
                if self.boundary(executor, fuse)? == Power::Cut {
                    return Ok(Power::Cut);
                }
                executor.step();
                executor.settle();
            }
            executor.cancel(copier);
            executor.cancel(pusher);
        }
        let closed = self.complete(executor, fuse, "close", async move { image.close().await })?;
        Ok(if closed.is_some() { Power::On } else { Power::Cut })
    }

    /// Runs one task to its end. `None`: the power was cut, or an expected error ends the session.
    fn complete<'a, T: 'a>(
        &mut self,
        executor: &mut Executor<'a>,
        fuse: &mut u64,
        what: &str,
        work: impl Future<Output = fvd::Result<T>> + 'a,
    ) -> Result<Option<T>, Failure> {
        let slot = Rc::new(RefCell::new(None));
        let result = slot.clone();
        executor.spawn(async move {
            let outcome = work.await;
            *result.borrow_mut() = Some(outcome);
        });
        if self.drain(executor, fuse)? == Power::Cut {
            return Ok(None);
        }
        match slot.take().expect("the task has ended") {
            Ok(value) => Ok(Some(value)),
            Err(_) if self.plan.errors => Ok(None),
            Err(error) => Err(self.failure(None, format!("{what} failed: {error}"))),
        }
    }

    /// Runs until all tasks have ended.
    fn drain(&mut self, executor: &mut Executor<'_>, fuse: &mut u64) -> Result<Power, Failure> {
        executor.settle();
        loop {
            if self.boundary(executor, fuse)? == Power::Cut {
                return Ok(Power::Cut);
            }
            if executor.active() == 0 {
                return Ok(Power::On);
            }
            executor.step();
            executor.settle();
        }
    }

    /// A boundary between two operations: checks power cuts, each on its own copy of the disks.
    fn boundary(&mut self, executor: &Executor<'_>, fuse: &mut u64) -> Result<Power, Failure> {
        let wrong = self.shared.borrow_mut().wrong.take();
        let error = self.shared.borrow_mut().errors.pop().filter(|_| !self.plan.errors);
        if let Some(detail) = wrong.or(error.map(|error| format!("a request failed: {error}"))) {
            return Err(self.failure(None, detail));
        }
        let world = executor.world();
        let changes = world.changes();
        if changes == self.changes {
            return Ok(Power::On);
        }
        self.changes = changes;
        self.report.boundaries += 1;
        let boundary = self.report.boundaries;
        for number in 0..self.plan.cuts {
            let chosen = self
                .plan
                .only
                .is_none_or(|(only, cut)| only == boundary && cut.is_none_or(|cut| cut == number));
            if chosen {
                self.check_cut(number)?;
            }
        }
        *fuse -= 1;
        Ok(if *fuse == 0 { Power::Cut } else { Power::On })
    }

    fn check_cut(&mut self, number: u64) -> Result<Vec<u8>, Failure> {
        let boundary = self.report.boundaries;
        let cut = Cut::numbered(self.plan.seed, boundary, number);
        let media = self.rig.file.world().cut(cut);
        let seed = self.plan.seed ^ boundary << 20 ^ number << 50;
        self.report.images += 1;
        let result = self.check_crashed(&media, seed);
        result.map_err(|detail| self.failure(Some((number, cut)), detail))
    }

    fn check_crashed(&self, media: &[Medium], seed: u64) -> Result<Vec<u8>, String> {
        let Shared { model, base, .. } = &*self.shared.borrow();
        if let Some(base) = base {
            base::check_crashed(&self.rig, media, base, from_ref(&(0..model.size())))?;
        }
        check_crashed(&self.rig, media, model, seed)
    }

    fn check_reopened(&mut self) -> Result<(), String> {
        let seed = self.rng.u64(..);
        let model = &self.shared.borrow().model;
        let durable = self.rig.shape.cache != CacheMode::Unsafe;
        check_reopened_in(&self.rig, model, from_ref(&(0..model.size())), durable, seed).map(drop)
    }

    /// Whether a power cut takes nothing of what was closed.
    fn is_promised(&self, world: &World) -> bool {
        self.rig.shape.cache != CacheMode::Unsafe && !world.has_given_up()
    }

    fn check_closed(&self, media: &[Medium]) -> Result<Vec<u8>, String> {
        let Shared { model, base, .. } = &*self.shared.borrow();
        if let Some(base) = base {
            base::check_written(&self.rig, media, base, from_ref(&(0..model.size())))?;
        }
        check_closed(&self.rig, media, model)
    }

    /// The power cut after which the next session starts.
    fn crash(&mut self) -> Result<(), Failure> {
        let number = self.rng.u64(..4);
        let cut = Cut::numbered(self.plan.seed, self.report.boundaries, number);
        let media = self.rig.file.world().cut(cut);
        let content = self.check_cut(number)?;
        self.restart(&media, &content);
        Ok(())
    }

    /// The next session finds what this one has left in the caches.
    fn outlive_process(&mut self, media: &[Medium], content: &[u8]) {
        let whole = 0..content.len() as u64;
        let mut shared = self.shared.borrow_mut();
        shared.outlive_process(&self.rig, media, from_ref(&whole), content);
        drop(shared);
        self.changes = u64::MAX;
    }

    fn restart(&mut self, media: &[Medium], content: &[u8]) {
        self.rig = self.rig.on(&World::seeded(self.rng.u64(..)), media);
        let mut shared = self.shared.borrow_mut();
        if let Some(base) = &mut shared.base {
            let whole = 0..content.len() as u64;
            base::restart(&self.rig, media, base, from_ref(&whole), content);
        }
        shared.model.collapse(content);
        drop(shared);
        self.changes = u64::MAX;
    }

    fn failure(&self, cut: Option<(u64, Cut)>, detail: String) -> Failure {
        Failure {
            seed: self.plan.seed,
            boundary: self.report.boundaries,
            cut,
            shape: self.rig.shape.to_string(),
            detail,
        }
    }
}
