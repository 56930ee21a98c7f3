//! The engine on top: an overlay on a simulated disk, whose base is in the simulated store. Requests of a
//! guest, copy-on-read and prefetch run while the store fails; the power can fail at any time.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use fvd::copy::{Background, Control, PrefetchOptions, copy_on_read};
use fvd::image::{CacheMode, Image, OpenOptions, read_head_to_write};
use fvd::remote::{RemoteFile, RemoteStorage};
use fvd::source::{BaseSource, RawSource};
use fvd_sim::check::{check_closed, check_crashed};
use fvd_sim::cut::Cut;
use fvd_sim::rig::{Rig, SimImage};
use fvd_sim::shape::Shape;
use fvd_sim::shared::{Shared, SharedRef};
use fvd_sim::workload::{Generator, Request, perform};
use fvd_sim::world::World;
use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

use super::case::{Case, Theme};
use super::disk::Disk;
use super::panics;
use super::process::Process;
use super::run::{LIMIT, after, verdict};
use super::store::Store;
use crate::clock::IoClock;
use crate::config::Outage;
use crate::simulated;

/// A flush needs no base: it takes as long as the simulated disk.
const FLUSH: Duration = Duration::from_secs(2);

/// A case with an image in front of its only object.
struct Machine {
    store: Arc<Store>,
    rig: Rig,
    shared: SharedRef,
    random: RefCell<fastrand::Rng>,
}

/// The themes that have something to say about an overlay.
pub(super) fn is_suited(case: &Case) -> bool {
    matches!(
        case.theme,
        Theme::Flaky | Theme::Outage | Theme::Replaced | Theme::Lying | Theme::Expiring
    )
}

/// Runs a case with an image. The error says what was wrong.
pub(super) fn run_overlay(case: &Case) -> Result<u64, String> {
    panics::forget();
    let case = Case {
        processes: 1,
        objects: vec![1],
        ..case.clone()
    };
    simulated::run(LIMIT, LocalSet::new().run_until(simulate(case))).ok_or("it does not end")?
}

fn shape(random: &mut fastrand::Rng) -> Shape {
    loop {
        let shape = Shape::random(random);
        if shape.base_size.is_some() && !shape.writes_base() {
            return shape;
        }
    }
}

async fn simulate(mut case: Case) -> Result<u64, String> {
    let mut random = fastrand::Rng::with_seed(!case.seed);
    let shape = shape(&mut random);
    let (rig, content) = Rig::create_sparse(&shape, case.seed);
    let base = rig.media().swap_remove(1);
    let mut bytes = vec![0; base.size() as usize];
    base.read(&mut bytes, 0);
    case.objects = vec![base.size()];
    let store = Store::with_object(&case, Bytes::from(bytes));
    let disk = case.cache.map(|errors| Disk::new(case.seed, errors));
    let process = Process::new(&store, 0, disk.as_ref());
    let Some(units) = process.open(0, None).await else {
        return Ok(0);
    };
    store.set_pinned();
    let file = process.file(0, &units);
    let machine = Rc::new(Machine {
        store: Arc::clone(&store),
        rig,
        shared: Rc::new(RefCell::new(Shared::new(content))),
        random: RefCell::new(random),
    });
    let session = timeout(LIMIT / 2, session(&machine, file)).await;
    verdict(&store)?;
    session.map_err(|_| "a request of the guest does not end".to_owned())??;
    let processes = [process];
    after(&processes, vec![vec![(0, units)]], disk.as_ref()).await?;
    verdict(&store)?;
    Ok(store.digest())
}

/// A session of a virtual machine, to its end: a close, or a power cut.
async fn session(machine: &Rc<Machine>, file: Arc<dyn RemoteFile>) -> Result<(), String> {
    let world = machine.rig.file.world().clone();
    world.set_queueing(true);
    let disks = spawn_local(drive(world.clone(), machine.draw(1 << 40)));
    let result = guest(machine, file).await;
    disks.abort();
    // Ends what still holds the image.
    _ = disks.await;
    result
}

/// Completes the operations of the disks, some at a time.
async fn drive(world: World, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    loop {
        sleep(Duration::from_millis(if world.is_busy() { 1 } else { 3 })).await;
        for _ in 0..random.u8(1..8) {
            if !world.complete_one() {
                break;
            }
        }
    }
}

async fn guest(machine: &Rc<Machine>, file: Arc<dyn RemoteFile>) -> Result<(), String> {
    let text = |error: fvd::Error| error.to_string();
    let cache = machine.rig.shape.cache;
    let image = Rc::new(open(&machine.rig, file, cache).await.map_err(text)?);
    let control = Control::new();
    let copier = spawn_local(background(
        Rc::clone(&image),
        control.clone(),
        machine.draw(1 << 40),
        machine.draw(4),
    ));
    let cuts = spawn_local(cut(Rc::clone(machine)));
    requests(machine, &image, cache).await;
    machine.check_errors()?;
    cuts.await.map_err(|error| error.to_string())??;
    if machine.draw(2) == 0 {
        control.stop();
    }
    copier.abort();
    _ = copier.await;
    image.close().await.map_err(text)?;
    drop(image);
    machine.rig.file.world().end_process();
    check_closed(&machine.rig, &machine.rig.media(), &machine.shared.borrow().model).map(drop)
}

async fn open(rig: &Rig, file: Arc<dyn RemoteFile>, cache: CacheMode) -> fvd::Result<SimImage> {
    let head = read_head_to_write(&rig.file).await?;
    let mut base: Option<Box<dyn BaseSource>> = None;
    if head.needs_base() {
        base = Some(Box::new(RawSource::new(RemoteStorage::new(file)).await?));
    }
    let data = rig.shape.data_file.then(|| rig.data.clone());
    let options = OpenOptions {
        writable: true,
        cache,
        copy_on_read: Some(rig.shape.copy_on_read),
        detect_zeroes: rig.shape.detect_zeroes,
        ..OpenOptions::default()
    };
    Image::open(rig.file.clone(), head, data, base, options).await
}

/// Copy-on-read, and in half of the runs prefetch.
async fn background(image: Rc<SimImage>, control: Control, seed: u64, kind: u64) {
    if kind < 2 {
        while copy_on_read(&image).await.is_err() {
            // The failure has disabled copy-on-read.
        }
        return;
    }
    let options = PrefetchOptions {
        start_delay: Some(Duration::from_millis(seed % 3000)),
        slots: kind as usize,
        ..PrefetchOptions::from(image.header())
    };
    let clock = IoClock::new();
    Background::new(&image, options, Vec::new(), control, &clock, seed)
        .run()
        .await;
}

/// The requests of the guest, some at a time.
async fn requests(machine: &Rc<Machine>, image: &Rc<SimImage>, cache: CacheMode) {
    let mut generator = Generator::new(&machine.rig.shape, machine.draw(1 << 40));
    let depth = [1, 4, 16][machine.draw(3) as usize];
    let mut tasks = JoinSet::new();
    for _ in 0..20 + machine.draw(40) {
        while tasks.len() >= depth {
            tasks.join_next().await;
        }
        sleep(Duration::from_millis(machine.draw(300))).await;
        let request = generator.next(&machine.shared.borrow().model);
        let mut task = Box::pin(one(Rc::clone(machine), request, Rc::clone(image), cache));
        // The model must know of this request before the next one is drawn.
        if poll_fn(|context| Poll::Ready(task.as_mut().poll(context)))
            .await
            .is_pending()
        {
            tasks.spawn_local(task);
        }
    }
    while tasks.join_next().await.is_some() {}
}

async fn one(machine: Rc<Machine>, request: Request, image: Rc<SimImage>, cache: CacheMode) {
    let begun = machine.store.now();
    let is_flush = matches!(request, Request::Flush);
    perform(request, image, cache, Rc::clone(&machine.shared)).await;
    let took = machine.store.now().saturating_sub(begun);
    machine.store.note("guest", &[]);
    if is_flush && took > FLUSH {
        machine.store.violation(&format!("a flush took {took:.3?}"));
    }
}

/// Power cuts at random times: what was flushed is there, also in an outage.
async fn cut(machine: Rc<Machine>) -> Result<(), String> {
    for number in 0..3 {
        sleep(Duration::from_millis(machine.draw(4000))).await;
        let cut = Cut::numbered(machine.store.case.seed, number, number);
        let media = machine.rig.file.world().cut(cut);
        let seed = machine.draw(1 << 40);
        let checked = check_crashed(&machine.rig, &media, &machine.shared.borrow().model, seed);
        checked.map_err(|found| format!("after a power cut ({cut}): {found}"))?;
    }
    Ok(())
}

impl Machine {
    fn draw(&self, end: u64) -> u64 {
        self.random.borrow_mut().u64(..end)
    }

    fn check_errors(&self) -> Result<(), String> {
        let shared = self.shared.borrow();
        if let Some(wrong) = &shared.wrong {
            return Err(wrong.clone());
        }
        let is_limited = self.store.case.tuning.on_outage != Outage::Wait;
        let may_fail =
            |error: &fvd::Error| self.store.may_fail() || (is_limited && error.errno() == Some(libc::ETIMEDOUT));
        match shared.errors.iter().find(|error| !may_fail(error)) {
            Some(error) => Err(format!("a request of the guest failed: {error}")),
            None => Ok(()),
        }
    }
}
