//! A simulated clock, a base that is slow or fails, and images over both.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use fvd::copy::{Control, Prefetch, PrefetchOptions};
use fvd::format::LayoutOptions;
use fvd::host::{BoxFuture, Clock};
use fvd::image::{CreateOptions, Image, OpenOptions, create, read_head};
use fvd::source::{BaseSource, Content, Run};
use fvd::storage::{IoBufMut, MemoryStorage};
use fvd::{Error, Result};

const POISONED: &str = "no other test holds this";

/// Time that passes only when all tasks sleep.
#[derive(Clone, Default)]
pub(crate) struct FakeClock(Arc<Mutex<Time>>);

#[derive(Default)]
struct Time {
    now: Duration,
    next: u64,
    sleepers: BTreeMap<(Duration, u64), Waker>,
}

struct Sleep {
    clock: FakeClock,
    until: Duration,
    number: u64,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut time = self.clock.0.lock().expect(POISONED);
        if time.now >= self.until {
            return Poll::Ready(());
        }
        time.sleepers.insert((self.until, self.number), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.clock
            .0
            .lock()
            .expect(POISONED)
            .sleepers
            .remove(&(self.until, self.number));
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Duration {
        self.0.lock().expect(POISONED).now
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'_, ()> {
        let mut state = self.0.lock().expect(POISONED);
        let (until, number) = (state.now + time, state.next);
        state.next += 1;
        drop(state);
        let clock = self.clone();
        Box::pin(Sleep { clock, until, number })
    }
}

impl FakeClock {
    /// Advances to the end of the next sleep. False: no task sleeps.
    fn advance(&self) -> bool {
        let mut time = self.0.lock().expect(POISONED);
        let Some(((until, _), waker)) = time.sleepers.pop_first() else {
            return false;
        };
        time.now = time.now.max(until);
        drop(time);
        waker.wake();
        true
    }
}

struct Ready(AtomicBool);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Runs the future to its end.
pub(crate) fn run<T>(clock: &FakeClock, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let ready = Arc::new(Ready(AtomicBool::new(true)));
    let waker = Waker::from(ready.clone());
    loop {
        if !ready.0.swap(false, Ordering::SeqCst) {
            assert!(clock.advance(), "deadlock: everybody waits for nothing");
        } else if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
    }
}

/// Runs both futures to their ends.
pub(crate) async fn both<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut a, mut b) = (None, None);
    poll_fn(|context| {
        if a.is_none()
            && let Poll::Ready(value) = first.as_mut().poll(context)
        {
            a = Some(value);
        }
        if b.is_none()
            && let Poll::Ready(value) = second.as_mut().poll(context)
        {
            b = Some(value);
        }
        match (a.take(), b.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (first, second) => {
                (a, b) = (first, second);
                Poll::Pending
            }
        }
    })
    .await
}

/// The result of the future if it ends within `time`. None: it was dropped.
pub(crate) async fn within<T>(clock: &FakeClock, time: Duration, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut sleep) = (pin!(future), clock.sleep(time));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => sleep.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// A read of the base: when it ended, and its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) at: Duration,
    pub(crate) bytes: Range<u64>,
}

impl Read {
    pub(crate) fn len(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }
}

type Failing = Box<dyn Fn(&Range<u64>) -> bool + Send>;

/// A base whose reads have latency, are logged, and may fail. Clones are the same base.
#[derive(Clone)]
pub(crate) struct TestBase {
    content: Arc<Vec<u8>>,
    clock: FakeClock,
    latency: Arc<Mutex<Duration>>,
    zeros: Range<u64>,
    log: Arc<Mutex<Vec<Read>>>,
    failing: Arc<Mutex<Option<Failing>>>,
}

impl TestBase {
    pub(crate) fn new(clock: &FakeClock, len: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(len);
        Self::of(clock, (0..len).map(|_| rng.u8(1..)).collect())
    }

    pub(crate) fn of(clock: &FakeClock, content: Vec<u8>) -> Self {
        Self {
            content: Arc::new(content),
            clock: clock.clone(),
            latency: Arc::default(),
            zeros: 0..0,
            log: Arc::default(),
            failing: Arc::default(),
        }
    }

    pub(crate) fn slow(self, latency: Duration) -> Self {
        self.becomes(latency);
        self
    }

    /// Sets the latency of all later reads.
    pub(crate) fn becomes(&self, latency: Duration) {
        *self.latency.lock().expect(POISONED) = latency;
    }

    /// Makes a range known zeros.
    pub(crate) fn with_zeros(mut self, zeros: Range<u64>) -> Self {
        let mut content = (*self.content).clone();
        content[zeros.start as usize..zeros.end as usize].fill(0);
        self.content = Arc::new(content);
        self.zeros = zeros;
        self
    }

    pub(crate) fn fail_if(&self, failing: impl Fn(&Range<u64>) -> bool + Send + 'static) {
        *self.failing.lock().expect(POISONED) = Some(Box::new(failing));
    }

    pub(crate) fn heal(&self) {
        *self.failing.lock().expect(POISONED) = None;
    }

    pub(crate) fn content(&self) -> &[u8] {
        &self.content
    }

    pub(crate) fn reads(&self) -> Vec<Read> {
        self.log.lock().expect(POISONED).clone()
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.reads().iter().map(Read::len).sum()
    }

    pub(crate) fn forget_reads(&self) {
        self.log.lock().expect(POISONED).clear();
    }
}

impl BaseSource for TestBase {
    fn path(&self) -> &Path {
        Path::new("base")
    }

    fn format(&self) -> &'static str {
        "raw"
    }

    fn len(&self) -> u64 {
        self.content.len() as u64
    }

    fn read(&self, mut buf: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        Box::pin(async move {
            let latency = *self.latency.lock().expect(POISONED);
            if !latency.is_zero() {
                self.clock.sleep(latency).await;
            }
            let bytes = offset..offset + buf.len() as u64;
            let at = self.clock.now();
            self.log.lock().expect(POISONED).push(Read {
                at,
                bytes: bytes.clone(),
            });
            if self
                .failing
                .lock()
                .expect(POISONED)
                .as_ref()
                .is_some_and(|fails| fails(&bytes))
            {
                let error = std::io::Error::from_raw_os_error(5);
                return Err(Error::io("read", error).with_path("base"));
            }
            let inside = bytes.start as usize..(bytes.end as usize).min(self.content.len());
            let len = inside.len();
            buf.as_mut_slice()[..len].copy_from_slice(&self.content[inside]);
            buf.as_mut_slice()[len..].fill(0);
            Ok(buf)
        })
    }

    fn status(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<Run>> {
        let mut run = Run::zeros(len);
        if self.zeros.contains(&offset) {
            run.len = len.min(self.zeros.end - offset);
        } else {
            run.content = Content::Data;
            if offset < self.zeros.start {
                run.len = len.min(self.zeros.start - offset);
            }
        }
        Box::pin(std::future::ready(Ok(run)))
    }
}

/// The file of an image over a base.
pub(crate) struct Disk {
    pub(crate) clock: FakeClock,
    pub(crate) base: TestBase,
    pub(crate) file: MemoryStorage,
    /// None: the data is in the file.
    data: Option<MemoryStorage>,
}

/// Layout of a test image: blocks of 64 KiB, not compact.
pub(crate) fn layout(size: u64) -> LayoutOptions {
    LayoutOptions {
        virtual_size: size,
        base_size: Some(size),
        block_size: Some(64 << 10),
        journal_size: Some(64 << 10),
        ..LayoutOptions::default()
    }
}

impl Disk {
    /// An image with this `layout` over `base`.
    pub(crate) fn new(clock: &FakeClock, base: TestBase, layout: LayoutOptions) -> Self {
        Self::create(clock, base, layout, None)
    }

    /// The same, with its data in `data`.
    pub(crate) fn with_data(clock: &FakeClock, base: TestBase, layout: LayoutOptions, data: MemoryStorage) -> Self {
        Self::create(clock, base, layout, Some(data))
    }

    fn create(clock: &FakeClock, base: TestBase, layout: LayoutOptions, data: Option<MemoryStorage>) -> Self {
        let options = CreateOptions {
            layout,
            base_img: "base".into(),
            data_file: if data.is_some() { "data" } else { "" }.into(),
            ..CreateOptions::default()
        };
        let file = MemoryStorage::new();
        run(clock, create(&file, data.as_ref(), &options, None)).expect("the options are sound");
        Self {
            clock: clock.clone(),
            base,
            file,
            data,
        }
    }

    /// Opens the image with its content on disk.
    pub(crate) fn open(&self) -> Image<MemoryStorage> {
        let base: Box<dyn BaseSource> = Box::new(self.base.clone());
        self.open_with(Some(base), OpenOptions::default())
    }

    pub(crate) fn open_read_only(&self) -> Image<MemoryStorage> {
        self.open_as(Some(Box::new(self.base.clone())), OpenOptions::default())
    }

    /// Opens the image for writing, whatever `options` say.
    pub(crate) fn open_with(&self, base: Option<Box<dyn BaseSource>>, options: OpenOptions) -> Image<MemoryStorage> {
        let writable = true;
        self.open_as(base, OpenOptions { writable, ..options })
    }

    fn open_as(&self, base: Option<Box<dyn BaseSource>>, options: OpenOptions) -> Image<MemoryStorage> {
        let head = run(&self.clock, read_head(&self.file)).expect("the header is sound");
        let image = Image::open(self.file.clone(), head, self.data.clone(), base, options);
        run(&self.clock, image).expect("opens")
    }

    /// Whether the header says that the base is not needed.
    pub(crate) fn is_independent(&self) -> bool {
        let head = run(&self.clock, read_head(&self.file)).expect("the header is sound");
        !head.needs_base()
    }

    pub(crate) fn prefetch<'a>(
        &'a self,
        image: &'a Image<MemoryStorage>,
        options: PrefetchOptions,
        control: &Control,
    ) -> Prefetch<'a, MemoryStorage> {
        Prefetch::new(image, options, Vec::new(), control.clone(), &self.clock, 1)
    }

    pub(crate) fn read_all(&self, image: &Image<MemoryStorage>) -> Vec<u8> {
        let buf = IoBufMut::zeroed(image.size() as usize);
        run(&self.clock, image.read(buf, 0)).expect("reads").as_slice().to_vec()
    }

    pub(crate) fn write(&self, image: &Image<MemoryStorage>, offset: u64, bytes: Vec<u8>) {
        run(&self.clock, image.write(Bytes::from(bytes), offset)).expect("writes");
    }
}
