//! What the engine emits, as a program receives it.

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fvd::Result;
use fvd::image::{CreateOptions, Image, OpenOptions, create, read_head};
use fvd::storage::MemoryStorage;
use fvd_log::{Record, Scope, Value, queue};
use pollster::block_on;
use tracing::Level;
use tracing::level_filters::LevelFilter;

/// The queue belongs to the process, so these tests take turns, also where one process runs all.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    queue::set_level(LevelFilter::OFF);
    drop(queue::take());
    turn
}

async fn compact() -> Result<MemoryStorage> {
    let file = MemoryStorage::new();
    let mut options = CreateOptions::default();
    options.layout.virtual_size = 16 << 20;
    options.layout.compact = true;
    create(&file, None, &options, None).await?;
    Ok(file)
}

async fn open(file: MemoryStorage, writable: bool) -> Result<Image<MemoryStorage>> {
    let head = read_head(&file).await?;
    let options = OpenOptions {
        writable,
        ..OpenOptions::default()
    };
    Image::open(file, head, None, None, options).await
}

async fn write_and_flush(image: &Image<MemoryStorage>) -> Result<()> {
    image.write(vec![1; 65536].into(), 0).await?;
    image.flush().await
}

fn messages(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.message.as_str()).collect()
}

fn names(scopes: &[Scope]) -> Vec<&str> {
    scopes.iter().map(|scope| scope.name).collect()
}

#[test]
fn a_flush_begins_and_ends_and_is_around_its_commit() {
    let _turn = turn();
    let image = block_on(async { open(compact().await?, true).await }).expect("opens");
    queue::set_level(LevelFilter::DEBUG);
    block_on(write_and_flush(&image)).expect("memory does not fail");
    let (records, dropped) = queue::take();
    assert_eq!(
        messages(&records),
        ["flush begins", "commit to the journal", "flush ends"]
    );
    let [begins, commit, ends] = &records[..] else {
        unreachable!("three")
    };
    assert_eq!(
        (begins.level, begins.target, dropped),
        (Level::DEBUG, "fvd::image::flush", 0)
    );
    assert_eq!(names(&begins.scopes), [""; 0], "a span is not around itself");
    assert_eq!(names(&commit.scopes), ["flush"]);
    assert_eq!(commit.fields, [("sectors", Value::Unsigned(1))]);
    let fields: Vec<_> = ends.fields.iter().map(|(name, _)| *name).collect();
    assert_eq!(fields, ["file", "elapsed_us"]);
    block_on(image.close()).expect("memory does not fail");
    let (records, _) = queue::take();
    assert_eq!(messages(&records), ["checkpoint begins", "checkpoint ends"]);
    assert!(
        records[0].fields.contains(&("table_pieces", Value::Unsigned(1))),
        "{records:?}"
    );
}

#[test]
fn recovery_is_reported_in_place_and_in_memory() {
    let _turn = turn();
    let file = block_on(async {
        let image = open(compact().await?, true).await?;
        write_and_flush(&image).await?;
        // As after a crash.
        Ok::<_, fvd::Error>(image.file().clone())
    });
    let file = file.expect("memory does not fail");
    queue::set_level(LevelFilter::INFO);
    block_on(open(file.clone(), false)).expect("opens");
    assert_eq!(
        messages(&queue::take().0),
        ["recovery_in_memory begins", "recovery_in_memory ends"]
    );
    queue::set_level(LevelFilter::DEBUG);
    block_on(open(file, true)).expect("opens");
    let (records, _) = queue::take();
    assert_eq!(records.first().map(|it| it.message.as_str()), Some("recovery begins"));
    assert_eq!(records.last().map(|it| it.message.as_str()), Some("recovery ends"));
    let replayed = |it: &&Record| it.fields.contains(&("entries", Value::Unsigned(1)));
    let replayed = records.iter().find(replayed).expect("the entry is replayed");
    assert_eq!(names(&replayed.scopes), ["recovery"]);
}

#[test]
fn nothing_is_recorded_below_the_level_and_the_queue_wakes_when_there_is_something() {
    let _turn = turn();
    let image = block_on(async { open(compact().await?, true).await }).expect("opens");
    queue::set_level(LevelFilter::INFO);
    block_on(write_and_flush(&image)).expect("memory does not fail");
    assert!(queue::take().0.is_empty());
    let descriptor = queue::descriptor().expect("a descriptor");
    let mut descriptor = std::fs::File::from(descriptor.as_fd().try_clone_to_owned().expect("a duplicate"));
    let mut count = [0; 8];
    descriptor
        .read_exact(&mut count)
        .expect("it is told at once, for what came before");
    queue::set_level(LevelFilter::DEBUG);
    block_on(image.flush()).expect("memory does not fail");
    descriptor.read_exact(&mut count).expect("it can be read");
    assert_eq!(messages(&queue::take().0), ["flush begins", "flush ends"]);
}

#[test]
fn a_full_queue_drops_and_counts() {
    let _turn = turn();
    queue::set_level(LevelFilter::TRACE);
    for number in 0..queue::MOST + 7 {
        tracing::trace!(number, "of the test");
    }
    let (records, dropped) = queue::take();
    assert_eq!((records.len(), dropped), (queue::MOST, 7));
    assert_eq!(records[1].fields, [("number", Value::Unsigned(1))]);
}

#[test]
fn spans_of_several_tasks_on_one_thread_do_not_mix() {
    use tracing::{Instrument as _, info, info_span};

    let _turn = turn();
    queue::set_level(LevelFilter::INFO);
    let work = |name: &'static str| {
        let span = info_span!("task", name, how = tracing::field::Empty);
        let own = span.clone();
        async move {
            for _ in 0..2 {
                info!("step");
                pending_once().await;
            }
            own.record("how", "slowly");
        }
        .instrument(span)
    };
    let (one, other) = (work("one"), work("other"));
    block_on(async {
        let (mut one, mut other) = (Box::pin(one), Box::pin(other));
        let mut ended = (false, false);
        std::future::poll_fn(|context| {
            ended.0 = ended.0 || one.as_mut().poll(context).is_ready();
            ended.1 = ended.1 || other.as_mut().poll(context).is_ready();
            if ended == (true, true) {
                return std::task::Poll::Ready(());
            }
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
    });
    let (records, _) = queue::take();
    let steps: Vec<_> = records.iter().filter(|it| it.message == "step").collect();
    let tasks: Vec<_> = steps.iter().map(|it| it.scopes[0].fields[0].1.to_string()).collect();
    assert_eq!(tasks, ["one", "other", "one", "other"]);
    assert!(steps.iter().all(|it| it.scopes.len() == 1));
    let ends: Vec<_> = records.iter().filter(|it| it.message == "task ends").collect();
    assert_eq!(ends.len(), 2);
    assert!(
        ends.iter()
            .all(|it| it.fields.contains(&("how", Value::Text("slowly".to_owned()))))
    );
}

/// Pending at the first poll.
fn pending_once() -> impl Future<Output = ()> {
    let mut is_second = false;
    std::future::poll_fn(move |_| {
        if std::mem::replace(&mut is_second, true) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
}
