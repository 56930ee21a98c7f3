//! The end of disks, each by itself: one that never comes to its end keeps no other from it.

use std::sync::Arc;
use std::time::Duration;

use fvd::{Error, Result};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Disk;
use super::background::Background;

/// Between two looks whether requests without a connection have ended.
const LOOK: Duration = Duration::from_millis(5);

/// Stops what the disks do on their own, and closes them, all at once. Their requests have ended,
/// or do so soon: those of connections that were given up.
///
/// Fails with what the first of them has failed with, which tells of the others.
pub(super) async fn close_all(disks: Vec<(Arc<Disk>, Option<Background>)>) -> Result<()> {
    let mut closing = JoinSet::new();
    let count = disks.len();
    for (number, (disk, background)) in disks.into_iter().enumerate() {
        closing.spawn(async move { (number, close(disk, background).await) });
    }
    let mut errors: Vec<_> = (0..count).map(|_| None).collect();
    while let Some(closed) = closing.join_next().await {
        match closed {
            Ok((number, closed)) => errors[number] = closed.err(),
            Err(panic) => return Err(Error::io("close a disk", std::io::Error::other(panic))),
        }
    }
    merge(errors.into_iter().flatten())
}

async fn close(disk: Arc<Disk>, background: Option<Background>) -> Result<()> {
    if let Some(background) = background {
        background.stop().await;
    }
    while Arc::strong_count(&disk) > 1 {
        sleep(LOOK).await;
    }
    disk.content().close().await
}

/// All errors as one, of the kind of the first.
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
    use super::*;

    #[test]
    fn one_error_stays_what_it_is_and_several_are_all_told() {
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
