//! One run: processes that read, fetch, publish and evict, and what must hold.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use fvd::remote::{Pin, Validator};

use super::disk::{Faults, Machine};
use super::schedule::Schedule;
use crate::cache::evict::evict;
use crate::cache::layout::Label;
use crate::cache::object::{Object, Quick};
use crate::fault::{FAULT, Fault};

const UNIT: u32 = 1024;
const THREADS: usize = 3;

/// What happens in a run.
pub(super) struct Case {
    seed: u64,
    faults: Faults,
    units: u64,
    /// Operations of a process.
    operations: u32,
    /// Bytes of the cache.
    quota: u64,
}

impl Case {
    pub(super) fn random(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ 0xcac4e);
        let sometimes = |random: &mut fastrand::Rng, value| if random.bool() { value } else { 0 };
        Self {
            seed,
            faults: Faults {
                errors: sometimes(&mut random, 10),
                kills: sometimes(&mut random, 5),
                cut: random.bool().then(|| random.u32(50..1000)),
            },
            units: random.u64(1..4),
            operations: 40,
            quota: random.u64(10_500..14_000),
        }
    }
}

/// What all processes share, beside the disk.
#[derive(Default)]
struct World {
    /// Unit -> the process that fetches it or publishes it.
    fetching: HashMap<(u64, u64), u32>,
    violations: Vec<String>,
}

struct Process<'a> {
    machine: &'a Arc<Machine>,
    world: &'a Mutex<World>,
    case: &'a Case,
    number: u32,
}

fn content(object: u64, unit: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(object << 32 | unit);
    (0..len).map(|_| random.u8(1..)).collect()
}

fn label(case: &Case, object: u64) -> Label {
    // The last unit is shorter.
    let len = case.units * u64::from(UNIT) - 300;
    let validator = Validator::Version(object.to_string());
    Label::new("s3://bucket/object", &Pin { len, validator }, UNIT).expect("it fits")
}

/// Runs a case. The error says what was wrong.
pub(super) fn run(case: &Case, fault: Option<Fault>) -> Result<(), String> {
    let machine = Machine::new(Schedule::new(case.seed, THREADS), case.faults);
    let world = Mutex::new(World::default());
    let (machine, world_of_all) = (&machine, &world);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                FAULT.set(fault);
                let process = |number| {
                    Process {
                        machine,
                        world: world_of_all,
                        case,
                        number,
                    }
                    .run();
                };
                let ended = catch_unwind(AssertUnwindSafe(|| machine.schedule.run(thread, process)));
                if ended.is_err() {
                    lock(world_of_all).violations.push("a panic".to_owned());
                }
            });
        }
    });
    let mut found = std::mem::take(&mut lock(&world).violations);
    found.extend(after(machine, case, fault).err());
    if found.is_empty() {
        Ok(())
    } else {
        Err(found.join("; "))
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Process<'_> {
    fn run(&self) {
        let medium = self.machine.view(self.number);
        for _ in 0..4 {
            let object = u64::from(self.chance(2));
            // An error of the disk: the caller does without the cache.
            let Ok(Some(open)) = Object::open(&medium, &label(self.case, object)) else {
                continue;
            };
            for _ in 0..self.case.operations / 4 {
                let unit = self.machine.schedule.random(|random| random.u64(..self.case.units));
                match self.chance(12) {
                    0 => _ = evict(&medium, self.case.quota, self.case.quota / 10 * 9),
                    1 => _ = evict(&medium, 0, 0),
                    2..6 => self.read(&open, object, unit),
                    _ => self.read_quickly(&open, object, unit),
                }
                // What a killed process leaves is either not there or right.
                if self.case.faults.cut.is_none() && open.damaged.load(Ordering::Relaxed) > 0 {
                    return self.violation("data is damaged although the power has not failed".to_owned());
                }
            }
        }
    }

    fn chance(&self, of: u32) -> u32 {
        self.machine.schedule.random(|random| random.u32(..of))
    }

    fn violation(&self, what: String) {
        lock(self.world).violations.push(what);
    }

    fn check(&self, object: u64, unit: u64, within: usize, data: &[u8], how: &str) {
        if data != &content(object, unit, UNIT as usize)[within..within + data.len()] {
            self.violation(format!("{how} of unit {unit} gave other bytes than the object has"));
        }
    }

    fn read_quickly(&self, open: &Arc<Object>, object: u64, unit: u64) {
        let range = open.range(unit);
        let mut buf = vec![0; (range.end - range.start) as usize];
        match open.read_quickly(unit, &mut buf, 0) {
            Ok(Quick::Read) => self.check(object, unit, 0, &buf, "a quick read"),
            Ok(Quick::No) | Err(_) => self.read(open, object, unit),
        }
    }

    fn read(&self, open: &Arc<Object>, object: u64, unit: u64) {
        match open.read_unit(unit) {
            Ok(Some(data)) => return self.check(object, unit, 0, &data, "a read"),
            Ok(None) => {}
            Err(_) => return,
        }
        let Ok(Some(lead)) = open.lead(unit) else { return };
        let key = (object, unit);
        let before = lock(self.world).fetching.insert(key, self.number);
        let is_fetched = before.is_some_and(|other| self.machine.schedule.is_alive(other));
        if is_fetched {
            self.violation(format!("unit {unit} is fetched twice at a time"));
        }
        if let Ok(None) = lead.read() {
            for _ in 0..self.chance(4) {
                self.machine.schedule.step(self.number);
            }
            let range = open.range(unit);
            _ = lead.publish(&content(object, unit, (range.end - range.start) as usize));
        }
        lock(self.world).fetching.remove(&key);
        drop(lead);
    }
}

/// All have gone, and a process comes that meets no failures.
fn after(machine: &Arc<Machine>, case: &Case, fault: Option<Fault>) -> Result<(), String> {
    let calm = machine.calm();
    FAULT.set(fault);
    let result = check_after(&calm, case);
    FAULT.set(None);
    result
}

fn check_after(machine: &Arc<Machine>, case: &Case) -> Result<(), String> {
    let medium = machine.view(0);
    let text = |error: std::io::Error| error.to_string();
    let mut open = Vec::new();
    for number in 0..2 {
        let object = Object::open(&medium, &label(case, number))
            .map_err(text)?
            .ok_or("it cannot be opened")?;
        for unit in 0..case.units {
            let range = object.range(unit);
            let expected = content(number, unit, (range.end - range.start) as usize);
            if object
                .read_unit(unit)
                .map_err(text)?
                .is_some_and(|data| data != expected)
            {
                return Err(format!("unit {unit} has other bytes in the end"));
            }
            let lead = object
                .lead(unit)
                .map_err(text)?
                .ok_or("the lock of a dead process stays")?;
            let is_there = lead.read().map_err(text)?.is_some();
            if number == 1 && !is_there {
                // What was left there is evicted below.
                continue;
            }
            if !is_there {
                lead.publish(&expected).map_err(text)?;
            }
            drop(lead);
            if object.read_unit(unit).map_err(text)?.is_none() {
                return Err(format!("unit {unit} cannot be stored"));
            }
        }
        open.push(object);
    }
    evict(&medium, case.quota, case.quota / 10 * 9)
        .map_err(text)?
        .ok_or("the lock of the folder stays")?;
    let used = |open: &[Arc<Object>]| open.iter().map(|object| object.files().used()).sum::<Result<u64, _>>();
    if used(&open).map_err(text)? > case.quota {
        return Err("the cache has more than its quota".to_owned());
    }
    evict(&medium, 0, 0).map_err(text)?;
    for object in &open {
        if object.files().allocated(0).map_err(text)?.is_some() {
            return Err("space stays in use".to_owned());
        }
    }
    drop(open);
    evict(&medium, 0, 0).map_err(text)?;
    let left: HashSet<String> = medium.names().map_err(text)?.into_iter().collect();
    if left.is_empty() {
        Ok(())
    } else {
        Err("objects that have no units stay".to_owned())
    }
}
