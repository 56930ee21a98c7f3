//! Time limits of a connection, in virtual time: no test waits.

use std::sync::Arc;
use std::time::Duration;

use fvd_nbd::protocol::client::handshake::Opened;
use fvd_nbd::protocol::client::reply::Answer;
use fvd_nbd::protocol::export::BlockSizes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::{Instant, sleep};

use super::link::{Ask, Link, NoAnswer};
use crate::clock::IoClock;
use crate::config::Tuning;
use crate::fetch::StoreState;
use crate::transport::FailureKind;

fn link() -> (Link, DuplexStream) {
    let (ours, theirs) = duplex(1 << 20);
    let opened = Opened {
        size: 1 << 20,
        flags: 0,
        block_sizes: BlockSizes::default(),
        structured: false,
        allocation: None,
    };
    let clock = Arc::new(IoClock::new());
    let store = StoreState::new("test".to_owned(), Tuning::default(), Arc::default(), clock);
    (Link::start(Box::new(ours), opened, Arc::new(store)), theirs)
}

/// The reply to the request with this cookie, for 8 bytes.
fn reply(cookie: u8) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..4].copy_from_slice(&0x6744_6698_u32.to_be_bytes());
    bytes[15] = cookie;
    bytes[16..].fill(7);
    bytes
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_byte_for_ten_seconds_is_given_up() {
    let (link, _theirs) = link();
    let begun = Instant::now();
    let ended = link.answer(link.send(Ask::Read, 0, 8)).await;
    let Err(NoAnswer::Broken(failure)) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(failure.kind, FailureKind::Silent);
    assert!(
        (10_000..10_100).contains(&begun.elapsed().as_millis()),
        "{:?}",
        begun.elapsed()
    );
    assert!(!link.is_alive());
    // All others fail at once.
    let begun = Instant::now();
    let ended = link.answer(link.send(Ask::Read, 0, 8)).await;
    assert!(matches!(ended, Err(NoAnswer::Broken(_))) && begun.elapsed().is_zero());
}

#[tokio::test(start_paused = true)]
async fn each_byte_gives_a_connection_more_time() {
    let (link, mut theirs) = link();
    let pending = link.send(Ask::Read, 0, 8);
    let dripping = tokio::spawn(async move {
        for byte in reply(0) {
            sleep(Duration::from_secs(9)).await;
            theirs.write_all(&[byte]).await.expect("written");
        }
        theirs
    });
    let answer = link.answer(pending).await;
    assert!(matches!(answer, Ok(Answer::Data(data)) if data == [7; 8]));
    drop(dripping.await);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nothing_is_asked_of_may_be_silent() {
    let (link, mut theirs) = link();
    for cookie in 0..3 {
        sleep(Duration::from_secs(3600)).await;
        let pending = link.send(Ask::Read, 0, 8);
        theirs.write_all(&reply(cookie)).await.expect("written");
        assert!(matches!(link.answer(pending).await, Ok(Answer::Data(_))));
    }
    assert!(link.is_alive());
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_dropped_says_good_bye() {
    let (link, mut theirs) = link();
    drop(link);
    let mut sent = Vec::new();
    theirs.read_to_end(&mut sent).await.expect("the end");
    assert_eq!((sent.len(), &sent[6..8]), (28, &[0, 2][..]), "a disconnect request");
}
