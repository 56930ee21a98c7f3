//! Closes disks independently of each other: a disk that never closes does not delay the others.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use fvd::{Error, Result};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Disk;
use super::background::Background;

/// The interval at which a close checks whether detached requests have ended.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// Stops the background work of the disks and closes them, all concurrently. Their requests must have ended,
/// or be detached requests of given-up connections, which end soon.
///
/// If several fail, the error has the kind of the first, in the order of `disks`, and the messages of all.
pub(super) async fn close_all(disks: Vec<(Arc<Disk>, Option<Background>)>) -> Result<()> {
    let mut closing = JoinSet::new();
    for (number, (disk, background)) in disks.into_iter().enumerate() {
        closing.spawn(async move { close(disk, background).await.map_err(|error| (number, error)) });
    }
    let mut errors = Vec::new();
    while let Some(closed) = closing.join_next().await {
        let panicked = |panic| (usize::MAX, Error::io("close a disk", io::Error::other(panic)));
        errors.extend(closed.unwrap_or_else(|panic| Err(panicked(panic))).err());
    }
    errors.sort_by_key(|(number, _)| *number);
    merge(errors.into_iter().map(|(_, error)| error))
}

async fn close(disk: Arc<Disk>, background: Option<Background>) -> Result<()> {
    if let Some(background) = background {
        background.stop().await;
    }
    while Arc::strong_count(&disk) > 1 {
        sleep(CHECK_INTERVAL).await;
    }
    disk.close().await
}

/// Merges errors into one with the kind of the first and the messages of all.
fn merge(mut errors: impl Iterator<Item = Error>) -> Result<()> {
    let Some(first) = errors.next() else {
        return Ok(());
    };
    let others: Vec<_> = errors.map(|error| error.to_string()).collect();
    if others.is_empty() {
        return Err(first);
    }
    let message = format!("{first}; {}", others.join("; "));
    Err(Error::new(first.kind(), message))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use fvd::chain::{AsyncIo, ChainOptions};
    use fvd::storage::Backend;

    use super::*;
    use crate::daemon::open::open_patiently;
    use crate::daemon::{DiskOptions, DiskSource, FileOptions, Format};
    use crate::disk::Part;

    async fn disk(path: &Path) -> Arc<Disk> {
        std::fs::write(path, [0; 4096]).unwrap();
        let options = DiskOptions {
            name: String::new(),
            description: String::new(),
            part: Part::default(),
            source: DiskSource::File(FileOptions {
                path: path.to_owned(),
                format: Some(Format::Raw),
                chain: ChainOptions::default(),
            }),
        };
        let files = AsyncIo::with_backend(Backend::Threads).unwrap();
        Arc::new(open_patiently(&files, options, Duration::ZERO).await.unwrap())
    }

    #[tokio::test]
    async fn a_disk_that_stays_in_use_does_not_delay_others() {
        let folder = tempfile::tempdir().unwrap();
        let used = disk(&folder.path().join("used")).await;
        let other = disk(&folder.path().join("other")).await;
        let closed = Arc::downgrade(&other);
        let closing = close_all(vec![(Arc::clone(&used), None), (other, None)]);
        let other_is_closed = async {
            while closed.strong_count() > 0 {
                sleep(CHECK_INTERVAL).await;
            }
        };
        tokio::select! {
            _ = closing => panic!("one is in use"),
            () = other_is_closed => {}
        }
        drop(used);
    }

    #[test]
    fn one_error_is_kept_and_several_are_merged() {
        assert!(merge([].into_iter()).is_ok());
        let error = |path: &str| Error::unsupported("no").with_path(path);
        let one = merge([error("a")].into_iter()).unwrap_err();
        assert_eq!(one.to_string(), error("a").to_string());
        assert!(one.path().is_some());
        let both = merge([error("a"), error("b")].into_iter()).unwrap_err();
        assert_eq!(both.kind(), one.kind());
        assert_eq!(both.to_string(), format!("{}; {}", error("a"), error("b")));
    }
}
