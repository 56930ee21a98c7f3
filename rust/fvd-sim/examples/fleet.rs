//! Simulates fleets: `fleet TRACE [KEY=VALUE ...]` prints the outcome as JSON, one object a line. Without
//! more it simulates the scenarios of `docs/fleet.md`. The keys are those of `set`.

use std::error::Error;
use std::time::Duration;

use fvd_sim::fleet::{How, Scenario, Trace, Turned, simulate};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let path = words.next().ok_or("fleet TRACE [KEY=VALUE ...]")?;
    let mut trace = Trace::parse(&std::fs::read_to_string(path)?)?;
    let mut scenario = Scenario::default();
    let mut is_one = false;
    for word in words {
        let (key, value) = word.split_once('=').ok_or("KEY=VALUE")?;
        if key == "lasting" {
            trace = trace.lasting(Duration::from_secs_f64(value.parse()?));
        } else {
            is_one = true;
            set(&mut scenario, key, value)?;
        }
    }
    let scenarios = if is_one { vec![scenario] } else { fleets() };
    eprintln!("{} bytes touched, {} reads", trace.touched(), trace.reads.len());
    for scenario in scenarios {
        println!("{}", simulate(&scenario, &trace).json(&scenario.name));
    }
    Ok(())
}

fn set(scenario: &mut Scenario, key: &str, value: &str) -> Result<()> {
    let rate = |value: &str| -> Result<Option<f64>> { Ok(Some(value.parse()?).filter(|rate: &f64| *rate > 0.0)) };
    let ms = |value: &str| -> Result<Duration> { Ok(Duration::from_secs_f64(value.parse::<f64>()? / 1000.0)) };
    match key {
        "name" => value.clone_into(&mut scenario.name),
        "how" => scenario.how = how(value)?,
        "hosts" => scenario.hosts = value.parse()?,
        "machines" => scenario.machines = value.parse()?,
        "cache" => scenario.has_cache = value == "yes",
        "jitter-ms" => scenario.jitter = ms(value)?,
        "base" => scenario.base = value.parse()?,
        "trip-ms" => scenario.trip = ms(value)?,
        "host-rate" => scenario.host_rate = rate(value)?,
        "store-rate" => scenario.store_rate = rate(value)?,
        "requests" => scenario.requests = rate(value)?,
        "turned" if value == "queued" => scenario.turned = Turned::Queued,
        "turned" if value == "refused" => scenario.turned = Turned::Refused(None),
        "retry-after-ms" => scenario.turned = Turned::Refused(Some(ms(value)?)),
        "first-byte-ms" => scenario.first_byte = ms(value)?,
        "spread" => scenario.spread = value.parse()?,
        "local-us" => scenario.local_read = Duration::from_micros(value.parse()?),
        "seed" => scenario.seed = value.parse()?,
        _ => return Err(format!("unknown: {key}={value}").into()),
    }
    Ok(())
}

fn how(value: &str) -> Result<How> {
    match value {
        "local" => Ok(How::Local),
        "copy" => Ok(How::FullCopy),
        "demand" => Ok(How::OnDemand),
        "profile" => Ok(How::Profile),
        _ => Err("how=local, copy, demand or profile".into()),
    }
}

/// 1000 machines in several ways.
fn fleets() -> Vec<Scenario> {
    let ways = [
        ("local", How::Local),
        ("full copy", How::FullCopy),
        ("fvd", How::OnDemand),
        ("fvd, profile", How::Profile),
    ];
    let mut all = Vec::new();
    for jitter in [0, 10, 60] {
        for (hosts, machines) in [(1000, 1), (50, 20)] {
            for (name, how) in ways {
                all.push(Scenario {
                    name: format!("{name}; {hosts} x {machines}; jitter {jitter} s"),
                    how,
                    hosts,
                    machines,
                    has_cache: machines > 1,
                    jitter: Duration::from_secs(jitter),
                    ..Scenario::default()
                });
            }
        }
    }
    all
}
