//! A huge base that is mostly a hole.

use std::future::ready;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fvd::Result;
use fvd::copy::{Control, Prefetch, PrefetchOptions, PrefetchState};
use fvd::format::LayoutOptions;
use fvd::host::BoxFuture;
use fvd::image::{CreateOptions, Image, OpenOptions, create, read_head};
use fvd::source::{BaseSource, Run};
use fvd::storage::{IoBufMut, MemoryStorage};
use pollster::block_on;

use super::support::{FakeClock, run};

const SIZE: u64 = 1 << 40;

/// A base that is one hole. Counts the status calls.
struct Hole(Arc<AtomicU64>);

impl BaseSource for Hole {
    fn path(&self) -> &Path {
        Path::new("hole")
    }

    fn format(&self) -> &'static str {
        "raw"
    }

    fn len(&self) -> u64 {
        SIZE
    }

    fn read(&self, _: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        panic!("nothing has to be read at {offset}");
    }

    fn status(&self, _: u64, len: u64) -> BoxFuture<'_, Result<Run>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(ready(Ok(Run::zeros(len))))
    }
}

#[test]
fn a_huge_hole_takes_few_steps_and_few_checkpoints() {
    let file = MemoryStorage::new();
    let options = CreateOptions {
        layout: LayoutOptions {
            virtual_size: SIZE,
            base_size: Some(SIZE),
            compact: true,
            ..LayoutOptions::default()
        },
        base_img: "hole".into(),
        ..CreateOptions::default()
    };
    let asked = Arc::new(AtomicU64::new(0));
    let image = block_on(async {
        create(&file, None, &options, None).await?;
        let writable = OpenOptions {
            writable: true,
            ..OpenOptions::default()
        };
        let base = Box::new(Hole(asked.clone()));
        Image::open(file.clone(), read_head(&file).await?, None, Some(base), writable).await
    });
    let image = image.expect("a sound image");
    let (clock, control) = (FakeClock::default(), Control::new());
    let prefetch = Prefetch::new(
        &image,
        PrefetchOptions::default(),
        Vec::new(),
        control.clone(),
        &clock,
        1,
    );
    run(&clock, prefetch.run()).expect("finishes");
    let status = control.status();
    assert_eq!((status.state, status.zeros), (PrefetchState::Finished, SIZE));
    let (asked, checkpoints) = (asked.load(Ordering::Relaxed), image.stats().checkpoints);
    assert!(asked <= 2 * (SIZE >> 30), "{asked} questions");
    assert!(checkpoints <= 4, "{checkpoints} checkpoints");
}
