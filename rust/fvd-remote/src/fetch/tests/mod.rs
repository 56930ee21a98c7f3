//! Time limits and pauses, in virtual time: no test waits.

mod bench;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use fvd::host::BoxFuture;
use fvd::remote::Pin;

use tokio::time::{Instant, sleep};

use super::{Sink, Source, StoreState, Trouble, fetch};
use crate::clock::IoClock;
use crate::config::Tuning;
use crate::patience::given_up;
use bench::{Act, Bench, One};

fn without_hedges() -> Tuning {
    Tuning {
        hedge_default: Duration::from_secs(1 << 20),
        ..Tuning::default()
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_kept_to() {
    let acts = [Act::Status(429, Some("7")), Act::Status(503, Some("60"))];
    let bench = Bench::new(&acts, without_hedges());
    bench.fetch().await.expect("fetched");
    let times = bench.times();
    assert!(
        (7000..7200).contains(&times[1]) && (67_000..67_800).contains(&times[2]),
        "{times:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn retry_after_counts_for_the_whole_store() {
    let bench = Bench::new(&[Act::Status(429, Some("7"))], without_hedges());
    let (first, second) = tokio::join!(bench.fetch(), async {
        sleep(Duration::from_secs(1)).await;
        bench.fetch().await
    });
    first.and(second).expect("fetched");
    assert!(
        bench.times()[1..].iter().all(|&time| time >= 7000),
        "{:?}",
        bench.times()
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up_after_the_progress_timeout() {
    let bench = Bench::new(&[Act::Silence], without_hedges());
    bench.fetch().await.expect("fetched");
    assert!((10_000..10_200).contains(&bench.times()[1]), "{:?}", bench.times());
}

#[tokio::test(start_paused = true)]
async fn a_slow_server_is_not_given_up() {
    // 256 requests of 1 KiB in 300 ms: 33 KiB in a window of 10 s. It takes more than a minute.
    let bench = Bench::new(&[Act::Slow(300)], without_hedges());
    bench.fetch().await.expect("fetched");
    assert_eq!(bench.times().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_drips_is_given_up() {
    let bench = Bench::new(&[Act::Slow(1000)], without_hedges());
    bench.fetch().await.expect("fetched");
    assert!((10_000..10_200).contains(&bench.times()[1]), "{:?}", bench.times());
}

#[tokio::test(start_paused = true)]
async fn a_stall_costs_as_much_as_three_usual_requests() {
    let mut acts = vec![Act::Late(20); 100];
    acts.extend([Act::Silence, Act::Late(20)]);
    let bench = Bench::new(&acts, Tuning::default());
    for _ in 0..100 {
        bench.fetch().await.expect("fetched");
    }
    let begun = Instant::now();
    bench.fetch().await.expect("fetched");
    assert!(begun.elapsed() < Duration::from_millis(65), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn one_stall_in_a_hundred_keeps_the_99th_percentile_low() {
    let acts: Vec<_> = (0..2000)
        .map(|i| {
            if i % 100 == 37 {
                Act::Late(10_000)
            } else {
                Act::Late(20)
            }
        })
        .collect();
    let bench = Bench::new(&acts, Tuning::default());
    let mut times = Vec::new();
    for _ in 0..1500 {
        let begun = Instant::now();
        bench.fetch().await.expect("fetched");
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    assert!(times[times.len() * 99 / 100] < Duration::from_millis(100));
    assert!(
        *times.last().expect("some") < Duration::from_millis(2500),
        "{:?}",
        times.last()
    );
    let extra = bench.times().len() - times.len();
    assert!(extra <= 1500 / 20 + 1, "{extra}");
}

#[tokio::test(start_paused = true)]
async fn pauses_in_an_outage_grow_to_the_cap_and_no_further() {
    let bench = Bench::new(&[Act::Status(503, None); 40], without_hedges());
    bench.fetch().await.expect("fetched");
    let times = bench.times();
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        pauses[0] <= 101 && pauses.iter().all(|pause| *pause <= 20_001),
        "{pauses:?}"
    );
    assert!(pauses[20..].iter().sum::<u64>() / 20 > 5000, "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_tried_slowly() {
    let bench = Bench::new(&[Act::Status(403, None); 5], without_hedges());
    bench.fetch().await.expect("fetched");
    let times = bench.times();
    assert_eq!(times[1], times[0], "once with new ones, at once");
    let pauses: Vec<_> = times[1..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        pauses.iter().all(|pause| (15_000..=30_001).contains(pause)),
        "{pauses:?}"
    );
}

/// A read with a limit: when it was given up, in seconds, or that it was done.
async fn read_within(seconds: u64, bench: &Bench) -> Option<u64> {
    let begun = Instant::now();
    tokio::select! {
        fetched = bench.fetch() => { fetched.expect("fetched"); None }
        error = given_up(Duration::from_secs(seconds), &bench.fetcher.store) => {
            assert_eq!(error.errno(), Some(libc::ETIMEDOUT));
            Some(begun.elapsed().as_secs())
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_reported_when_its_time_is_over() {
    let bench = Bench::new(&[Act::Status(503, Some("1")); 100], without_hedges());
    assert_eq!(read_within(30, &bench).await, Some(30));
    // The store has been away for long: one attempt, and its answer.
    let again = read_within(30, &bench).await.expect("an outage");
    assert!(again < 3, "{again}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_reported_in_time() {
    let bench = Bench::new(&[Act::Silence; 100], without_hedges());
    assert_eq!(read_within(4, &bench).await, Some(4));
}

#[tokio::test(start_paused = true)]
async fn readers_of_one_flight_have_limits_of_their_own() {
    let bench = Bench::new(&[Act::Status(503, Some("1")); 60], without_hedges());
    let store = &bench.fetcher.store;
    let (fetched, error) = tokio::join!(bench.fetch(), given_up(Duration::from_secs(5), store));
    fetched.expect("it waits until the store is back");
    assert!(error.to_string().contains("No data for 5.0 s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn fetches_that_wait_go_on_when_the_store_answers_another_one() {
    // Pauses of up to 20 s, once there were many failures.
    let bench = Bench::new(&[Act::Status(503, None); 30], without_hedges());
    let (first, second) = tokio::join!(bench.fetch(), bench.fetch());
    first.and(second).expect("fetched");
    let times = bench.times();
    let [.., before, last] = times[..] else {
        panic!("{times:?}")
    };
    assert!(last - before <= 100, "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_far_away_gets_no_second_requests() {
    let acts: Vec<_> = (0..300).map(|i| Act::Late(200 + i * 7 % 100)).collect();
    let bench = Bench::new(&acts, Tuning::default());
    for _ in 0..300 {
        bench.fetch().await.expect("fetched");
    }
    assert_eq!(bench.times().len(), 300);
}

#[tokio::test(start_paused = true)]
async fn what_is_fetched_ahead_is_not_tried_again() {
    let bench = Bench::new(&[Act::Status(503, None); 5], without_hedges());
    let ahead = One {
        is_ahead: true,
        ..One::default()
    };
    assert!(fetch(&bench.fetcher, &ahead).await.is_none());
    assert_eq!(bench.times().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_refusal_only_readers_go_on_at_once() {
    let bench = Bench::new(&[Act::Status(503, None)], without_hedges());
    let ahead = || One {
        is_ahead: true,
        ..One::default()
    };
    assert!(fetch(&bench.fetcher, &ahead()).await.is_none());
    fetch(&bench.fetcher, &One::default())
        .await
        .expect("it is wanted")
        .expect("fetched");
    fetch(&bench.fetcher, &ahead())
        .await
        .expect("fetched at once")
        .expect("fetched");
    let times = bench.times();
    assert_eq!(times[..2], [0, 0]);
    assert!((1000..=2000).contains(&times[2]), "{times:?}");
}

/// A server whose disk fails.
struct Faulty(Arc<StoreState>);

impl Source for Faulty {
    fn url(&self) -> &'static str {
        "nbd://test/"
    }

    fn store(&self) -> &Arc<StoreState> {
        &self.0
    }

    fn pin(&self) -> Pin {
        unreachable!("not asked by a fetch")
    }

    fn is_pinned_by(&self, _pin: &Pin) -> bool {
        true
    }

    fn attempt<'a>(
        &'a self,
        _range: &'a Range<u64>,
        _sink: &'a dyn Sink,
        _is_retry: bool,
    ) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(async { Err(Trouble::Faulty("the server answers with error 5".to_owned())) })
    }

    fn renew(&self, _generation: u64) -> BoxFuture<'_, Result<(), String>> {
        unreachable!("nothing was refused")
    }
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_servers_disk_are_reported_after_a_few_seconds() {
    let clock = Arc::new(IoClock::new());
    let state = StoreState::new("test".into(), Tuning::default(), Arc::default(), clock);
    let source = Faulty(Arc::new(state));
    let begun = Instant::now();
    let error = fetch(&source, &One::default())
        .await
        .expect("it is wanted")
        .expect_err("a fault");
    assert_eq!(error.errno(), Some(libc::EIO));
    assert!(error.to_string().contains("error 5"), "{error}");
    assert!((5..6).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert!(source.0.health.outage(Duration::ZERO).is_none(), "the server answers");
}
