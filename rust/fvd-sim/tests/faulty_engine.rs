//! Tests of the simulator itself: it finds every deliberate fault of the engine (`fvd::mutation`).
//!
//! `FVD_MUTATION=NAME`: only this fault. `FVD_MUTATION_RUNS`: maximum number of runs for each fault.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fvd::format::BaseUpdate;
use fvd::image::{CacheMode, DetectZeroes};
use fvd::mutation::{self, Mutation};
use fvd::storage::IoBufMut;
use fvd_sim::cut::Cut;
use fvd_sim::executor::run_now;
use fvd_sim::fault::{Errno, Faults, Target};
use fvd_sim::rig::Rig;
use fvd_sim::shape::Shape;
use fvd_sim::sim::script::{Errors, Phase, Session};
use fvd_sim::sim::shrink::shrink;
use fvd_sim::sim::{Script, Watch, run};
use fvd_sim::workload::Request;
use fvd_sim::world::World;

const RUNS: usize = 3000;
/// Faults that this many runs find only sometimes. They run only when requested by name, each with its own
/// mix of requests.
const SELDOM: [Mutation; 3] = [Mutation::BelieveCache, Mutation::PartOfSector, Mutation::PartsDisturbed];

/// Whether an engine with this fault can fail with an image of this shape. Other shapes are skipped.
fn concerns(mutation: Mutation, shape: &Shape) -> bool {
    use Mutation as M;
    let (compact, base, journal) = (shape.compact, shape.base_size.is_some(), shape.journal_size >= 0);
    let copies = shape.copy_on_read || shape.prefetch;
    match mutation {
        // A block must touch more chunks than one journal sector has room for.
        M::JournalInOneGo => compact && base && journal && shape.block_size > 121 * shape.chunk_size,
        M::JournalOneChunk => compact && journal,
        M::BelieveCache => compact || base,
        M::HideFailedWrite | M::KeepTail | M::BitmapBeforeTable | M::RecoveryIgnoresTable => compact,
        M::ReadUncounted | M::WriteUncounted => compact && shape.virtual_size >= 4 * shape.chunk_size,
        M::ReuseReferenced | M::ReuseInFlight | M::ReuseUnzeroed | M::PublishDiscarded => compact,
        M::KeepJournal | M::CommitFreed => compact && journal,
        // A small journal fills up several times in a session.
        M::EraseThisLap => compact && shape.journal_size > 0,
        M::LastPageMissed => base && !shape.metadata_edges().is_empty(),
        // A file always has room.
        M::RoomUnshared => compact && shape.device,
        // A block must have more than one part.
        M::PartsDisturbed => shape.prefetch && !shape.writes_base() && shape.block_size >= 1 << 19,
        M::DiscardUnlocked => compact && base,
        M::CopyOverwrites | M::ForgetUnloggedBlock => copies,
        M::ForgetUnloggedChunk => copies && compact && journal,
        M::RecordedTooEarly => copies && journal,
        M::CompleteUnseen | M::CompleteFirst => shape.prefetch,
        M::PublishBeforeData | M::EdgesBeforeLock => base,
        // In other modes the image has the data anyway.
        M::AckBeforeBase | M::PartOfSector => shape.writes_base() && shape.updates != BaseUpdate::Writeback,
        M::ForgetResync | M::ForgetDirty | M::BaseUnsynced | M::UpdateUnrecorded | M::UpdateUnlocked => {
            shape.writes_base()
        }
        M::StaleCopy => copies && shape.updates == BaseUpdate::Writenocache,
        _ => true,
    }
}

/// Adapts the script, where the usual mix of requests hardly ever shows the fault.
fn suited(mutation: Mutation, mut script: Script) -> Script {
    for session in &mut script.sessions {
        match mutation {
            // Many commits that reserve chunks and go to the journal, because no chunk was freed. With even
            // seeds the power cut waits until metadata is being written.
            Mutation::JournalInOneGo => {
                session.seed &= !1;
                session.errors = None;
                let others = session.steps.iter_mut().filter(|step| !is_write(&step.request));
                others.for_each(|step| step.request = Request::Flush);
            }
            Mutation::PartOfSector => write_parts(session, script.shape.virtual_size),
            Mutation::PartsDisturbed => read_what_was_cancelled(session, script.shape.virtual_size),
            Mutation::ReadUncounted => {
                use_during_reuse(session, &script.shape, |offset, len, _| Request::Read { offset, len });
            }
            Mutation::WriteUncounted => {
                use_during_reuse(session, &script.shape, |offset, len, number| Request::Write {
                    offset,
                    len,
                    content: !number,
                });
            }
            _ => {}
        }
    }
    if mutation == Mutation::JournalInOneGo {
        script.shape.detect_zeroes = DetectZeroes::Off;
    }
    script
}

/// Writes sectors and then parts of them, while some operations of the base fail.
fn write_parts(session: &mut Session, size: u64) {
    session.errors = Some(Errors {
        one_in: 6,
        target: Target::Base,
        error: Errno::Io,
        phase: Phase::Whole,
    });
    pair(session, size, |first, number| Request::Write {
        offset: first + 100,
        len: 200,
        content: number,
    });
}

/// Cancels writes, and reads what they left.
fn read_what_was_cancelled(session: &mut Session, size: u64) {
    session.errors = None;
    session.space = None;
    // A read that overlaps a write in time may see the old or the new content.
    session.depth = 1;
    pair(session, size, |offset, _| Request::Read { offset, len: 1024 });
    let mut after = session.seed % 8;
    for steps in session.steps.chunks_exact_mut(2) {
        after = (after + 3) % 8;
        steps[0].cancel = Some(1 + after);
        steps[1].cancel = None;
    }
}

/// Turns the requests into pairs: a write of two sectors, and `second` at the offset of the first.
fn pair(session: &mut Session, size: u64, second: impl Fn(u64, u64) -> Request) {
    let mut number = session.seed;
    for steps in session.steps.chunks_exact_mut(2) {
        let offset = match steps[0].request {
            Request::Read { offset, .. } => offset,
            ref request => request.written().map_or(0, |(offset, _)| offset),
        };
        let offset = offset.min(size - 1024) / 512 * 512;
        number = number.wrapping_add(1);
        steps[0].request = Request::Write {
            offset,
            len: 1024,
            content: number,
        };
        steps[1].request = second(offset, !number);
    }
}

/// Uses a few chunks while they are discarded and other chunks are written.
fn use_during_reuse(session: &mut Session, shape: &Shape, using: impl Fn(u64, u64, u64) -> Request) {
    session.errors = None;
    session.depth = session.depth.max(16);
    let chunks = (shape.virtual_size / shape.chunk_size).max(1);
    let len = shape.chunk_size.min(64 << 10);
    for (number, step) in (0_u64..).zip(&mut session.steps) {
        step.cancel = None;
        let offset = number / 4 % chunks * shape.chunk_size;
        let len = len.min(shape.virtual_size - offset);
        let other = (number / 4 + chunks / 2) % chunks * shape.chunk_size;
        let other_len = len.min(shape.virtual_size - other);
        step.request = match number % 4 {
            0 => using(offset, len, number),
            1 => Request::Discard {
                offset,
                len: shape.chunk_size.min(shape.virtual_size - offset),
            },
            2 => Request::Flush,
            _ => Request::Write {
                offset: other,
                len: other_len,
                content: number,
            },
        };
    }
}

fn is_write(request: &Request) -> bool {
    matches!(request, Request::Write { .. } | Request::WriteFua { .. })
}

/// The first seed that finds the fault, and the failure found.
fn find(mutation: Mutation, runs: usize) -> Option<(u64, String)> {
    mutation::set(Some(mutation));
    let scripts = (1..).map(|seed| suited(mutation, Script::new(seed)));
    let concerned = scripts.filter(|script| concerns(mutation, &script.shape));
    let found = concerned.take(runs).find_map(|script| {
        let failure = run(&script, Watch::No).err()?;
        Some((script.seed, failure.to_string()))
    });
    mutation::set(None);
    found
}

#[test]
fn sim_finds_every_deliberate_fault_of_the_engine() {
    let only = std::env::var("FVD_MUTATION").ok();
    let runs = std::env::var("FVD_MUTATION_RUNS").map_or(RUNS, |text| text.parse().expect("a number"));
    let wanted = |mutation: &&Mutation| match &only {
        Some(only) => *only == format!("{mutation:?}"),
        None => !SELDOM.contains(mutation),
    };
    let mutations: Vec<Mutation> = Mutation::ALL.iter().filter(wanted).copied().collect();
    assert!(!mutations.is_empty(), "no mutation has this name");
    let next = AtomicUsize::new(0);
    let missed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(&mutation) = mutations.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match find(mutation, runs) {
                        Some((seed, failure)) => println!("{mutation:?}: seed {seed}: {failure:.160}"),
                        None => missed.lock().expect("no panic").push(mutation),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().expect("no panic");
    assert!(missed.is_empty(), "not found in {runs} runs: {missed:?}");
}

#[test]
fn sim_shrinks_a_failure_to_a_few_requests() {
    mutation::set(Some(Mutation::PublishBeforeData));
    let failing = |seed| {
        let script = Script::new(seed);
        let failure = run(&script, Watch::No).err()?;
        Some((script, failure))
    };
    let (script, failure) = (1..100).find_map(failing).expect("it is found soon");
    let (small, _) = shrink(script.clone(), failure);
    assert!(run(&small, Watch::No).is_err(), "it fails, too");
    mutation::set(None);
    run(&small, Watch::No).expect("without the fault nothing is wrong");
    println!("{} requests shrink to\n{small}", script.requests());
    assert!(small.requests() <= 4, "{small}");
}

#[test]
fn sim_reports_no_failure_of_an_engine_without_a_fault() {
    for seed in 1..=40 {
        run(&Script::new(seed), Watch::No).expect("no fault");
    }
}

/// Whether a flushed write is lost if operation `fail_at` of the close fails, then a new process opens the
/// image on the same machine, and then the power is cut.
fn is_lost(fail_at: u64) -> bool {
    let shape = Shape {
        virtual_size: 512 << 10,
        base_size: Some(512 << 10),
        block_size: 4096,
        ..Shape::small()
    };
    let open = |rig: &Rig| run_now(rig.open(true, CacheMode::Writeback)).expect("opens");
    let (rig, _) = Rig::create(&shape, 1);
    let world = rig.file.world().clone();
    let image = open(&rig);
    run_now(image.write(vec![0xAA; 4096].into(), 0)).expect("written");
    run_now(image.flush()).expect("durable from here on");
    world.set_faults(Faults {
        fail_at: Some(fail_at),
        ..Faults::default()
    });
    let _ = run_now(image.close());
    drop(image);
    world.set_faults(Faults::default());
    drop(open(&rig));
    let after = rig.on(&World::immediate(), &world.cut(Cut::Nothing));
    let bytes = run_now(open(&after).read(IoBufMut::zeroed(512), 0)).expect("read");
    bytes.as_slice()[0] != 0xAA
}

#[test]
fn an_engine_that_believes_the_cache_loses_what_was_flushed() {
    mutation::set(Some(Mutation::BelieveCache));
    let lost = (1..16).any(is_lost);
    mutation::set(None);
    assert!(lost);
    assert!(!(1..16).any(is_lost), "without the fault nothing is lost");
}
