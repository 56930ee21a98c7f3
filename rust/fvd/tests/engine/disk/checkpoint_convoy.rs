//! Many writers while checkpoints run: each one makes progress, and none waits for a checkpoint of every
//! other writer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use fvd::Result;
use fvd::format::LayoutOptions;
use fvd::image::{CreateOptions, Image, OpenOptions, create, read_head};
use fvd::storage::{Allocation, IoBufMut, MemoryStorage, Space, Storage};
use pollster::block_on;

const CHUNK: u64 = 4096;
const WRITERS: u64 = 16;
const ROUNDS: u64 = 10;

/// Memory whose syncs take time. All other operations end at once.
#[derive(Clone)]
struct SlowSync(MemoryStorage);

/// Lets the other tasks run `turns` times.
async fn yield_for(mut turns: u32) {
    poll_fn(|context| {
        if turns == 0 {
            return Poll::Ready(());
        }
        turns -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Storage for SlowSync {
    fn path(&self) -> &Path {
        self.0.path()
    }

    async fn read(&self, buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        self.0.read(buf, offset).await
    }

    async fn write(&self, buf: Bytes, offset: u64) -> Result<()> {
        self.0.write(buf, offset).await
    }

    async fn write_vectored(&self, bufs: Vec<Bytes>, offset: u64) -> Result<()> {
        self.0.write_vectored(bufs, offset).await
    }

    async fn write_zeroes(&self, offset: u64, len: u64, space: Space) -> Result<()> {
        self.0.write_zeroes(offset, len, space).await
    }

    async fn sync(&self) -> Result<()> {
        yield_for(5).await;
        self.0.sync().await
    }

    async fn len(&self) -> Result<u64> {
        self.0.len().await
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        self.0.set_len(len).await
    }

    fn can_resize(&self) -> bool {
        self.0.can_resize()
    }

    async fn allocation(&self, offset: u64, len: u64) -> Result<(Allocation, u64)> {
        self.0.allocation(offset, len).await
    }
}

/// A compact image without a journal: each flush with changes makes a checkpoint.
fn image() -> Image<SlowSync> {
    let file = SlowSync(MemoryStorage::new());
    let options = CreateOptions {
        layout: LayoutOptions {
            virtual_size: WRITERS * ROUNDS * CHUNK,
            compact: true,
            chunk_size: Some(CHUNK),
            storage_grow_unit: Some(CHUNK),
            journal_size: Some(-1),
            ..LayoutOptions::default()
        },
        ..CreateOptions::default()
    };
    let options_for_writing = OpenOptions {
        writable: true,
        ..OpenOptions::default()
    };
    block_on(async {
        create(&file, None, &options, None).await.unwrap();
        let head = read_head(&file).await.unwrap();
        Image::open(file, head, None, None, options_for_writing).await.unwrap()
    })
}

/// Polls all tasks in turn, until all have ended.
fn run_all<'a>(tasks: impl IntoIterator<Item = Pin<Box<dyn Future<Output = ()> + 'a>>>) {
    let mut context = Context::from_waker(Waker::noop());
    let mut tasks: Vec<_> = tasks.into_iter().collect();
    for _ in 0..100_000 {
        tasks.retain_mut(|task| task.as_mut().poll(&mut context).is_pending());
        if tasks.is_empty() {
            return;
        }
    }
    panic!("{} of them make no progress", tasks.len());
}

/// Awaits `work`. Returns how many checkpoints began meanwhile.
async fn checkpoints_during<T>(image: &Image<SlowSync>, work: impl Future<Output = Result<T>>) -> u64 {
    let before = image.stats().checkpoints;
    work.await.unwrap();
    image.stats().checkpoints - before
}

fn chunk_of(writer: u64, round: u64) -> u64 {
    (round * WRITERS + writer) * CHUNK
}

fn data(writer: u64, round: u64) -> Vec<u8> {
    vec![(round * WRITERS + writer) as u8; CHUNK as usize]
}

#[test]
fn a_write_waits_for_no_checkpoint_and_a_flush_for_few() {
    let image = &image();
    let writer = |writer: u64| async move {
        // The writers arrive at different moments of the checkpoints of others.
        yield_for(writer as u32).await;
        for round in 0..ROUNDS {
            let write = image.write(Bytes::from(data(writer, round)), chunk_of(writer, round));
            assert_eq!(checkpoints_during(image, write).await, 0, "a write does not wait");
            // A running checkpoint began before the flush. The next one covers all flushes that waited for
            // it. When this flush learns that, another checkpoint may have begun.
            let begun = checkpoints_during(image, image.flush()).await;
            assert!(begun <= 2, "{begun} checkpoints, writer {writer}, round {round}");
        }
    };
    run_all((0..WRITERS).map(|number| Box::pin(writer(number)) as Pin<Box<dyn Future<Output = ()>>>));
    let stats = image.stats();
    assert_eq!(stats.flushes, WRITERS * ROUNDS);
    assert!(
        stats.checkpoints <= 2 * ROUNDS + 2,
        "{} checkpoints: flushes share them",
        stats.checkpoints
    );
}

#[test]
fn discards_during_checkpoints_do_not_queue_up() {
    let image = &image();
    for round in 0..ROUNDS {
        for writer in 0..WRITERS {
            block_on(image.write(Bytes::from(data(writer, round)), chunk_of(writer, round))).unwrap();
        }
    }
    block_on(image.flush()).unwrap();
    let before = image.stats().checkpoints;
    let discard = |writer: u64| async move {
        for round in 0..ROUNDS {
            image.discard(chunk_of(writer, round), CHUNK).await.unwrap();
        }
    };
    run_all((0..WRITERS).map(|number| Box::pin(discard(number)) as Pin<Box<dyn Future<Output = ()>>>));
    let checkpoints = image.stats().checkpoints - before;
    // One checkpoint frees the chunks of all discards so far, each time more than an eighth of all chunks.
    assert!((1..=8).contains(&checkpoints), "{checkpoints} checkpoints");
    block_on(image.flush()).unwrap();
    assert_eq!(image.stats().freed_chunks, WRITERS * ROUNDS);
}
