//! Clients that are silent or slow, and requests that do not end.

use std::sync::Arc;
use std::time::Duration;

use fvd_nbd::protocol::constants::{cmd, opt};
use fvd_nbd::server::{Limits, MemoryExport};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::options::message;
use crate::simulated::{Host, assert_took, simulate};
use crate::slow::Meeting;

const MIB: u64 = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);

fn host(limits: Limits, size: u64) -> Host<MemoryExport> {
    Host::new(limits, Arc::new(MemoryExport::new("disk", size as usize)))
}

/// Slow, but within a limit.
fn nearly(limit: Duration) -> Duration {
    limit * 9 / 10
}

#[test]
fn silent_clients_are_disconnected() {
    simulate(async {
        let limits = Limits::default();
        let mut host = host(limits, MIB);
        let (mut silent, start) = (host.connect(), Instant::now());
        assert_eq!(silent.rest().await.len(), 18, "the greeting");
        assert_took(start, limits.handshake, Duration::ZERO);
        let (mut writing, start) = (host.client().await, Instant::now());
        writing.request(cmd::WRITE, 1, 0, 512).await;
        assert!(writing.rest().await.is_empty());
        assert_took(start, limits.payload, Duration::ZERO);
        let mut idle = host.client().await;
        sleep(1000 * limits.payload).await;
        idle.request(cmd::FLUSH, 1, 0, 0).await;
        let reply = idle.simple_reply().await;
        assert_eq!(reply, (0, 1), "between requests there is no hurry");
        assert_eq!(
            host.stop().await,
            [
                "the client took too long to end the handshake",
                "the client took too long to send what it announced"
            ]
        );
    });
}

#[test]
fn a_connection_flood_does_not_affect_connected_clients() {
    simulate(async {
        let limits = Limits {
            connections: 200,
            ..Limits::default()
        };
        let mut host = host(limits, MIB);
        let mut client = host.client().await;
        let flood: Vec<_> = (0..400).map(|_| host.connect()).collect();
        client.assert_served().await;
        sleep(limits.handshake + SECOND).await;
        assert_eq!(host.server.counters().connections().now, 1);
        host.client().await.assert_served().await;
        client.assert_served().await;
        let connections = host.server.counters().connections();
        assert_eq!((connections.total, connections.refused), (201, 201));
        drop(flood);
    });
}

#[test]
fn a_handshake_sent_byte_by_byte_gets_no_extra_time() {
    simulate(async {
        let limits = Limits::default();
        let mut host = host(limits, MIB);
        let (mut slow, start) = (host.connect(), Instant::now());
        slow.send(&3_u32.to_be_bytes()).await;
        slow.crawl(&message(opt::LIST, b""), 1).await;
        assert_took(start, limits.handshake, SECOND);
        assert_eq!(host.stop().await, ["the client took too long to end the handshake"]);
    });
}

#[test]
fn a_client_that_reads_no_replies_loses_its_memory() {
    simulate(async {
        let limits = Limits {
            memory: 0,
            ..Limits::default()
        };
        let mut host = host(limits, 64 * MIB);
        let mut greedy = host.client().await;
        for cookie in 0..4 {
            greedy.request(cmd::READ, cookie, 0, 64 * MIB).await;
        }
        let start = Instant::now();
        sleep(nearly(limits.payload)).await;
        host.client().await.assert_served().await;
        assert_took(start, limits.payload, Duration::ZERO);
        assert_eq!(host.stop().await, ["the client took too long to take its replies"]);
    });
}

#[test]
fn a_client_that_reads_replies_slowly_is_served() {
    simulate(async {
        let limits = Limits::default();
        let mut host = host(limits, 4 * MIB);
        let mut slow = host.client().await;
        for cookie in 0..8 {
            slow.request(cmd::READ, cookie, 0, MIB).await;
        }
        for cookie in 0..8 {
            assert_eq!(slow.simple_reply().await, (0, cookie));
            slow.read(MIB as usize).await;
            sleep(nearly(limits.payload)).await;
        }
        assert_eq!(host.stop().await, [""; 0]);
    });
}

#[test]
fn a_client_that_reads_a_long_reply_slowly_is_served() {
    simulate(async {
        let limits = Limits::default();
        let mut host = host(limits, 8 * MIB);
        let mut slow = host.client().await;
        slow.request(cmd::READ, 1, 0, 8 * MIB).await;
        assert_eq!(slow.simple_reply().await, (0, 1));
        for _ in 0..8 {
            sleep(nearly(limits.payload)).await;
            slow.read(MIB as usize).await;
        }
        assert_eq!(host.stop().await, [""; 0]);
    });
}

#[test]
fn a_slow_payload_is_accepted_and_a_crawling_one_is_not() {
    simulate(async {
        let limits = Limits::default();
        let mut host = host(limits, 8 * MIB);
        let mut slow = host.client().await;
        slow.request(cmd::WRITE, 1, 0, 8 * MIB).await;
        for _ in 0..8 {
            slow.send(&vec![1; MIB as usize]).await;
            sleep(nearly(limits.payload)).await;
        }
        assert_eq!(slow.simple_reply().await, (0, 1));
        for offset in [0, 8 * MIB] {
            // The first write is valid. The second is beyond the end, so its payload is skipped.
            let (mut crawling, start) = (host.client().await, Instant::now());
            crawling.request(cmd::WRITE, 2, offset, 2 * MIB).await;
            crawling.crawl(&[1; 100], 100).await;
            assert_took(start, limits.payload, 2 * SECOND);
        }
        assert_eq!(
            host.stop().await,
            ["the client took too long to send what it announced"; 2]
        );
    });
}

#[test]
fn a_read_that_never_ends_is_dropped_after_the_drain_timeout() {
    simulate(async {
        let limits = Limits::default();
        let meeting = Arc::new(Meeting::new(2));
        let mut host = Host::new(limits, Arc::clone(&meeting));
        let before = Arc::strong_count(&meeting);
        let mut client = host.client().await;
        client.request(cmd::READ, 1, 0, 512).await;
        while !meeting.has_begun() {
            yield_now().await;
        }
        drop(client);
        sleep(nearly(limits.drain_timeout)).await;
        assert!(Arc::strong_count(&meeting) > before);
        assert_eq!(host.server.counters().in_flight(), 1);
        sleep(limits.drain_timeout / 5).await;
        assert_eq!(Arc::strong_count(&meeting), before, "the disk is still open");
        assert_eq!(host.server.counters().in_flight(), 0);
    });
}

#[test]
fn a_shutdown_answers_requests_in_flight_and_takes_no_new_ones() {
    simulate(async {
        let meeting = Arc::new(Meeting::new(2));
        let mut host = Host::new(Limits::default(), Arc::clone(&meeting));
        let mut client = host.client().await;
        let mut in_handshake = host.connect();
        client.request(cmd::READ, 1, 0, 512).await;
        while !meeting.has_begun() {
            yield_now().await;
        }
        host.server.shut_down();
        sleep(SECOND).await;
        client.request(cmd::FLUSH, 2, 0, 0).await;
        meeting.join();
        assert_eq!(client.simple_reply().await, (0, 1));
        client.read(512).await;
        assert!(client.rest().await.is_empty());
        assert_eq!(in_handshake.rest().await.len(), 18, "the greeting");
        assert_eq!(host.stop().await, [""; 0]);
    });
}
