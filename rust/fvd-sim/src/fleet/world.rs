//! All machines, the store, and what happens next.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use fvd_remote::Tuning;
use fvd_remote::policy::Backoff;

use super::flights::Flight;
use super::machine::Machine;
use super::memory::{Number, Waiter};
use super::outcome::Outcome;
use super::pipe::Pipe;
use super::scenario::{How, Scenario};
use super::store::Store;
use super::trace::Trace;

/// The longest range of a profile that is fetched at once, in bytes.
const PIECE: u64 = 1 << 20;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Start {
        machine: usize,
    },
    /// A guest begins a read.
    Read {
        machine: usize,
        read: usize,
    },
    /// A read of a guest has ended.
    Done {
        machine: usize,
        read: usize,
    },
    /// A request reaches the store.
    Arrive(Number),
    /// The next part of its answer is ready to leave the store.
    Ready(Number),
    /// It has left the store, and comes to the link of the host.
    Left(Number),
    /// It has come.
    Came(Number),
    /// The store's refusal has come.
    Refused(Number, Option<Duration>),
    /// The pause with this number is over.
    Again(Number, u32),
    /// The turn of a request that no reader waits for.
    Turn(Number),
    /// Another process of the host has fetched a unit.
    Cached {
        machine: usize,
        unit: u64,
    },
}

pub(super) struct Host {
    pub(super) link: Pipe,
    /// Units of its cache: there (None), or the machines that wait for them.
    pub(super) cache: HashMap<u64, Option<Vec<usize>>>,
    /// Machines that wait for the full copy.
    pub(super) copying: Option<Vec<usize>>,
}

pub(super) struct World<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) trace: &'a Trace,
    followers: Vec<Vec<usize>>,
    pub(super) now: Duration,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    sequence: u64,
    pub(super) store: Store,
    pub(super) hosts: Vec<Host>,
    pub(super) machines: Vec<Machine>,
    pub(super) flights: Vec<Flight>,
    pub(super) rng: fastrand::Rng,
    pub(super) backoff: Backoff,
    /// The largest window of a sequential reader, in bytes.
    pub(super) window: u64,
}

/// After this time machines that are not up are stuck.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Runs the fleet until all machines are up, for a day at most.
#[must_use]
pub fn simulate(scenario: &Scenario, trace: &Trace) -> Outcome {
    let mut world = World::new(scenario, trace);
    while let Some(Reverse((now, _, event))) = world.events.pop() {
        if now > LIMIT {
            break;
        }
        world.now = now;
        world.happen(event);
    }
    Outcome::of(&world)
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, trace: &'a Trace) -> Self {
        let tuning = Tuning::default();
        let mut rng = fastrand::Rng::with_seed(scenario.seed);
        let disk = trace.disk().next_multiple_of(1 << 20);
        let plan: VecDeque<_> = match scenario.how {
            How::Profile => fvd::copy::plan(trace.profile(), 4 << 10, disk, PIECE).into(),
            How::Local | How::FullCopy | How::OnDemand => VecDeque::new(),
        };
        let host = |_| Host {
            link: Pipe::new(scenario.host_rate),
            cache: HashMap::new(),
            copying: None,
        };
        let machine = |number| Machine::new(number / scenario.machines, disk, trace.reads.len(), plan.clone());
        let mut world = Self {
            scenario,
            trace,
            followers: trace.followers(),
            now: Duration::ZERO,
            events: BinaryHeap::new(),
            sequence: 0,
            store: Store::new(scenario),
            hosts: (0..scenario.hosts).map(host).collect(),
            machines: (0..scenario.hosts * scenario.machines).map(machine).collect(),
            flights: Vec::new(),
            backoff: Backoff::new(&tuning),
            window: tuning.window,
            rng: rng.fork(),
        };
        for machine in 0..world.machines.len() {
            world.at(scenario.jitter.mul_f64(rng.f64()), Event::Start { machine });
        }
        world
    }

    pub(super) fn at(&mut self, time: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((time, self.sequence, event)));
    }

    /// A random part of `longest` from now.
    pub(super) fn soon(&mut self, longest: Duration) -> Duration {
        self.now + longest.mul_f64(self.rng.f64())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Start { machine } => self.start(machine),
            Event::Read { machine, read } => self.read(machine, read),
            Event::Done { machine, read } => self.done(machine, read),
            Event::Arrive(flight) => self.arrive(flight),
            Event::Ready(flight) => self.ready(flight),
            Event::Left(flight) => self.left(flight),
            Event::Came(flight) => self.came(flight),
            Event::Refused(flight, demanded) => self.refused(flight, demanded),
            Event::Again(flight, pause) => self.again(flight, pause),
            Event::Turn(flight) => self.turn(flight),
            Event::Cached { machine, unit } => self.deliver(machine, unit, false),
        }
    }

    fn start(&mut self, machine: usize) {
        self.machines[machine].started = self.now;
        match self.scenario.how {
            How::Local => self.up(machine),
            How::FullCopy => self.copy(machine),
            How::OnDemand | How::Profile => self.open(machine),
        }
    }

    /// All of the base is on the host.
    pub(super) fn up(&mut self, machine: usize) {
        self.machines[machine].is_local = true;
        self.opened(machine);
    }

    /// The image is open: the guest starts, and prefetch with it.
    pub(super) fn opened(&mut self, machine: usize) {
        self.follow(machine, self.trace.reads.len());
        self.pump(machine);
    }

    fn done(&mut self, machine: usize, read: usize) {
        let now = self.now;
        let of = &mut self.machines[machine];
        of.left -= 1;
        if of.left == 0 {
            of.took = Some(now.saturating_sub(of.started));
        }
        self.follow(machine, read);
    }

    fn follow(&mut self, machine: usize, read: usize) {
        for index in 0..self.followers[read].len() {
            let read = self.followers[read][index];
            self.at(
                self.now + self.trace.reads[read].thinking,
                Event::Read { machine, read },
            );
        }
    }

    /// All that `waiter` has waited for has come.
    pub(super) fn answered(&mut self, machine: usize, waiter: Waiter) {
        match waiter {
            Waiter::Open => self.opened(machine),
            Waiter::Guest(read) => self.has_read(machine, read),
            Waiter::Step(step) => self.stepped(machine, step),
        }
    }
}
