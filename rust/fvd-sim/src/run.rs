//! One seed: a geometry, several sessions of requests, and power cuts at every boundary.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use crate::check::{check_closed, check_crashed};
use crate::cut::Cut;
use crate::executor::Executor;
use crate::fault::Lie;
use crate::model::Model;
use crate::rig::{Rig, SimImage};
use crate::shape::Shape;
use crate::workload::{Generator, Shared, SharedRef, perform};
use crate::world::World;

/// What to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// Decides everything else.
    pub seed: u64,
    /// Power cuts at each boundary.
    pub cuts: u64,
    /// Check only this boundary, and there only this cut.
    pub only: Option<(u64, Option<u64>)>,
    /// How the media break their contract.
    pub lie: Lie,
    /// Whether requests are cancelled now and then.
    pub cancel: bool,
    /// Prints requests and operations.
    pub trace: bool,
}

impl Plan {
    /// The usual run of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            cuts: 3,
            // Not always: without, more of the requests meet.
            cancel: seed % 2 == 1,
            ..Self::default()
        }
    }
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Power cuts that were checked.
    pub images: u64,
    /// Boundaries between operations.
    pub boundaries: u64,
    /// Opens that were followed by requests.
    pub sessions: u64,
    /// Requests.
    pub requests: u64,
    /// Names of what the geometry has.
    pub features: Vec<String>,
    /// Depends on everything that happened.
    pub digest: u64,
}

/// What was found wrong, and how to see it again.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The boundary.
    pub boundary: u64,
    /// The number of the cut and what it kept; None: found without a power cut.
    pub cut: Option<(u64, Cut)>,
    /// The geometry.
    pub shape: String,
    /// What was wrong.
    pub detail: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.shape)?;
        write!(f, "boundary {}", self.boundary)?;
        let mut replay = format!("{}:{}", self.seed, self.boundary);
        if let Some((number, cut)) = &self.cut {
            write!(f, ", cut {number}: {cut}")?;
            replay = format!("{replay}:{number}");
        }
        writeln!(f, "\n{}", self.detail)?;
        write!(f, "replay: make crash SEED={replay}")
    }
}

/// Runs one seed.
pub fn run(plan: &Plan) -> Result<Report, Failure> {
    let mut rng = fastrand::Rng::with_seed(plan.seed);
    let shape = Shape::random(&mut rng);
    let (rig, content) = Rig::create(&shape, rng.u64(..));
    let shared = Rc::new(RefCell::new(Shared {
        model: Model::new(&content),
        wrong: None,
        errors: Vec::new(),
        trace: plan.trace,
    }));
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
    /// As of the last boundary that was checked.
    changes: u64,
    report: Report,
}

/// Whether the session goes on.
#[derive(PartialEq, Eq)]
enum Power {
    On,
    Cut,
}

impl Runner {
    fn session(&mut self) -> Result<(), Failure> {
        self.report.sessions += 1;
        self.rig.file.world().set_trace(self.plan.trace);
        self.rig.file.world().set_lie(self.plan.lie);
        self.rig.file.world().set_queueing(true);
        let world = self.rig.file.world().clone();
        let mut executor = Executor::new(&world, self.rng.u64(..));
        let power = self.requests(&mut executor)?;
        world.kill();
        drop(executor);
        self.report.digest = self.report.digest.rotate_left(7) ^ world.digest();
        if power == Power::Cut {
            return self.crash();
        }
        let media = self.rig.media();
        let content = check_closed(&self.rig, &media, &self.shared.borrow().model);
        let content = content.map_err(|detail| self.failure(None, format!("after a close: {detail}")))?;
        self.restart(&media, &content);
        Ok(())
    }

    /// Opens the image, carries out requests and closes it, or is stopped by a power cut.
    fn requests<'a>(&mut self, executor: &mut Executor<'a>) -> Result<Power, Failure> {
        let mut left = self.rng.u64(5..40);
        let depth = [1, 2, 4, 8, 16][self.rng.usize(..5)];
        let mut fuse = if self.rng.bool() {
            self.rng.u64(1..200)
        } else {
            u64::MAX
        };
        let slot: Rc<RefCell<Option<fvd::Result<SimImage>>>> = Rc::default();
        let (rig, cache) = (self.rig.clone(), self.rig.shape.cache);
        let opened = slot.clone();
        executor.spawn(async move {
            let image = rig.open(true, cache).await;
            *opened.borrow_mut() = Some(image);
        });
        if self.drain(executor, &mut fuse)? == Power::Cut {
            return Ok(Power::Cut);
        }
        let image = slot.take().expect("the task has ended");
        let image = image.map_err(|error| self.failure(None, format!("open failed: {error}")))?;
        let image = Rc::new(image);
        while left > 0 {
            let mut tasks = Vec::new();
            while left > 0 && executor.active() < depth {
                let request = self.generator.next(&self.shared.borrow().model);
                let task = perform(request, image.clone(), cache, self.shared.clone());
                tasks.push(executor.spawn(task));
                left -= 1;
                self.report.requests += 1;
                // The model is to know of it before the next request is made.
                executor.settle();
            }
            if self.boundary(executor, &mut fuse)? == Power::Cut {
                return Ok(Power::Cut);
            }
            executor.step();
            executor.settle();
            if self.plan.cancel && self.rng.u8(..32) == 0 && !tasks.is_empty() {
                executor.cancel(tasks[self.rng.usize(..tasks.len())]);
            }
        }
        if self.drain(executor, &mut fuse)? == Power::Cut {
            return Ok(Power::Cut);
        }
        let closed: Rc<RefCell<Option<fvd::Result<()>>>> = Rc::default();
        let result = closed.clone();
        executor.spawn(async move {
            let outcome = image.close().await;
            *result.borrow_mut() = Some(outcome);
        });
        if self.drain(executor, &mut fuse)? == Power::Cut {
            return Ok(Power::Cut);
        }
        let result = closed.take().expect("the task has ended");
        result.map_err(|error| self.failure(None, format!("close failed: {error}")))?;
        Ok(Power::On)
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

    /// Between two operations: power cuts, each on disks of its own.
    fn boundary(&mut self, executor: &Executor<'_>, fuse: &mut u64) -> Result<Power, Failure> {
        let wrong = self.shared.borrow_mut().wrong.take();
        let error = self.shared.borrow_mut().errors.pop();
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
        let result = check_crashed(&self.rig, &media, &self.shared.borrow().model, seed);
        result.map_err(|detail| self.failure(Some((number, cut)), detail))
    }

    /// The power cut that the next session starts from.
    fn crash(&mut self) -> Result<(), Failure> {
        let number = self.rng.u64(..4);
        let cut = Cut::numbered(self.plan.seed, self.report.boundaries, number);
        let media = self.rig.file.world().cut(cut);
        let content = self.check_cut(number)?;
        self.restart(&media, &content);
        Ok(())
    }

    fn restart(&mut self, media: &[crate::medium::Medium], content: &[u8]) {
        self.rig = self.rig.on(&World::seeded(self.rng.u64(..)), media);
        self.shared.borrow_mut().model.collapse(content);
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
