//! Reports when a prefetch pauses on its own, and why.

use std::fmt::Display;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fvd::copy::{Control, Pause};

/// The minimum time between two lines about one disk. Pauses in between are only counted.
const INTERVAL: Duration = Duration::from_secs(60);

/// Reports the pauses of the disk at `path` to `report`, for ever. `sleep` waits for the given time.
pub(super) async fn tell_pauses<F: Future<Output = ()>>(
    path: PathBuf,
    control: Control,
    report: impl Fn(&dyn Display),
    sleep: impl Fn(Duration) -> F,
) {
    let mut seen = 0;
    loop {
        let (count, pause) = control.pauses(seen).await;
        report(&line(&path, count - seen, &pause));
        seen = count;
        sleep(INTERVAL).await;
    }
}

fn line(path: &Path, count: u64, pause: &Pause) -> String {
    let path = path.display();
    match count {
        1 => format!("Prefetch of {path} pauses: {pause}"),
        _ => format!("Prefetch of {path} has paused {count} times; the last time: {pause}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use fvd::copy::{PauseReason, Prefetch, PrefetchOptions};
    use fvd::image::{CreateOptions, Image, OpenOptions, create, read_head};
    use fvd::source::{BaseSource, BoxFuture, Content, Run};
    use fvd::storage::{IoBufMut, MemoryStorage};
    use fvd::{Error, Result};
    use tokio::runtime::Handle;

    use super::*;
    use crate::daemon::TokioClock;

    const SIZE: u64 = 1 << 20;

    /// A base whose reads fail.
    struct Broken;

    impl BaseSource for Broken {
        fn path(&self) -> &Path {
            Path::new("base")
        }

        fn format(&self) -> &'static str {
            "raw"
        }

        fn len(&self) -> u64 {
            SIZE
        }

        fn read(&self, _: IoBufMut, _: u64) -> BoxFuture<'_, Result<IoBufMut>> {
            let error = Error::io("read", std::io::Error::from_raw_os_error(5));
            Box::pin(std::future::ready(Err(error.with_path("base"))))
        }

        fn status(&self, _: u64, len: u64) -> BoxFuture<'_, Result<Run>> {
            let content = Content::Data;
            let run = Run {
                content,
                ..Run::zeros(len)
            };
            Box::pin(std::future::ready(Ok(run)))
        }
    }

    async fn image() -> Result<Image<MemoryStorage>> {
        let file = MemoryStorage::new();
        let mut options = CreateOptions {
            base_img: "base".into(),
            ..CreateOptions::default()
        };
        (options.layout.virtual_size, options.layout.base_size) = (SIZE, Some(SIZE));
        create(&file, None, &options, None).await?;
        let head = read_head(&file).await?;
        let options = OpenOptions {
            writable: true,
            ..OpenOptions::default()
        };
        Image::open(file, head, None, Some(Box::new(Broken)), options).await
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_are_reported_with_a_reason_once_a_minute() {
        let image = image().await.expect("memory does not fail");
        let (control, clock) = (Control::new(), TokioClock::new(Handle::current()));
        let options = PrefetchOptions {
            first_backoff: Duration::from_secs(4),
            ..PrefetchOptions::default()
        };
        let prefetch = Prefetch::new(&image, options, Vec::new(), control.clone(), &clock, 1);
        let told = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&told);
        let report = move |line: &dyn Display| lines.lock().expect("no panic").push(line.to_string());
        let telling = tell_pauses("disk".into(), control.clone(), report, tokio::time::sleep);
        let failing = async {
            // Virtual time advances only for sleeps, so the clock of prefetch does not see it. One wait is
            // enough.
            let _ = tokio::time::timeout(Duration::from_secs(90), prefetch.run()).await;
        };
        tokio::select! {
            () = telling => {}
            () = failing => {}
        }
        let told = told.lock().expect("no panic").clone();
        assert!(
            told.first()
                .is_some_and(|line| line.starts_with("Prefetch of disk pauses: the base fails; tried again in ")),
            "{told:?}"
        );
        assert!(told.len() <= 2, "{told:?}");
    }

    #[test]
    fn many_pauses_are_one_line() {
        let pause = Pause {
            reason: PauseReason::SlowWrites,
            time: Duration::from_secs(1),
            rate: 1 << 20,
            best_rate: 1 << 30,
        };
        let told = line(Path::new("disk"), 7, &pause);
        assert!(
            told.starts_with("Prefetch of disk has paused 7 times; the last time: writes"),
            "{told}"
        );
    }
}
