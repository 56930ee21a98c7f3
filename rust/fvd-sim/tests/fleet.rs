//! The model of a fleet: what must hold for any figures to mean something.

use std::time::Duration;

use fvd_sim::fleet::{How, Outcome, Scenario, Trace, Turned, simulate};

const HOSTS: usize = 20;

fn trace() -> Trace {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benches/boot/traces/debian.txt");
    let text = std::fs::read_to_string(path).expect("the recorded boot");
    Trace::parse(&text).expect("valid").lasting(Duration::from_secs(10))
}

fn fleet(how: How) -> Scenario {
    Scenario {
        how,
        hosts: HOSTS,
        requests: Some(500.0),
        ..Scenario::default()
    }
}

fn run(scenario: &Scenario) -> Outcome {
    let outcome = simulate(scenario, &trace());
    assert_eq!(outcome.stuck, 0, "{scenario:?}");
    outcome
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let scenario = fleet(How::Profile);
    let first = run(&scenario);
    assert_eq!(first, run(&scenario));
    let other = Scenario { seed: 2, ..scenario };
    assert_ne!(first.times, run(&other).times);
}

#[test]
fn no_machine_is_starved_by_a_store_that_refuses_or_queues() {
    for how in [How::OnDemand, How::Profile] {
        for turned in [
            Turned::Refused(None),
            Turned::Refused(Some(Duration::from_secs(1))),
            Turned::Queued,
        ] {
            let outcome = run(&Scenario { turned, ..fleet(how) });
            let (median, last) = (outcome.percentile(50), outcome.percentile(100));
            assert!(last <= 3 * median, "{how:?}, {turned:?}: {median:?}, {last:?}");
        }
    }
}

#[test]
fn with_a_profile_a_machine_fetches_less_and_is_up_sooner() {
    let alone = |how| {
        run(&Scenario {
            hosts: 1,
            requests: None,
            ..fleet(how)
        })
    };
    let (cold, profile, local) = (alone(How::OnDemand), alone(How::Profile), alone(How::Local));
    let touched = trace().touched();
    assert!(profile.bytes * 10 <= touched * 11, "{} of {touched}", profile.bytes);
    assert!(profile.bytes < cold.bytes);
    assert_eq!((local.bytes, local.requests), (0, 0));
    assert!(profile.percentile(50) < cold.percentile(50));
    assert!(local.percentile(50) < profile.percentile(50));
}

#[test]
fn machines_of_a_host_fetch_each_unit_once() {
    for how in [How::OnDemand, How::Profile] {
        let shared = |machines| {
            run(&Scenario {
                hosts: 2,
                machines,
                has_cache: true,
                jitter: Duration::from_secs(1),
                requests: None,
                ..fleet(how)
            })
        };
        let (one, many) = (shared(1), shared(10));
        // A machine that starts later reads ahead from other places.
        assert!(
            many.bytes <= one.bytes * 11 / 10,
            "{how:?}: {} and {}",
            many.bytes,
            one.bytes
        );
    }
}

#[test]
fn full_copies_move_all_of_the_base_once_for_each_host() {
    let scenario = Scenario {
        machines: 3,
        // Some start when the copy is there.
        jitter: Duration::from_secs(60),
        ..fleet(How::FullCopy)
    };
    let outcome = run(&scenario);
    assert_eq!(outcome.bytes, HOSTS as u64 * scenario.base);
    assert_eq!(outcome.requests, HOSTS as u64);
}
