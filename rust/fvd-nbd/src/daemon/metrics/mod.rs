//! The counters in the text format of Prometheus.

mod lines;
mod stores;

use fvd::aio::How;
use fvd::copy::{PauseReason, PrefetchState};
use fvd::remote;

use super::DiskStatus;
use crate::server::{Counters, Kind};
use lines::{Text, label};

/// All metrics as text.
pub(super) fn text(counters: &Counters, disks: &[DiskStatus], remote: Option<&remote::Counters>) -> String {
    let mut text = Text::default();
    connections(&mut text, counters);
    requests(&mut text, counters);
    latencies(&mut text, counters);
    images(&mut text, disks);
    prefetch(&mut text, disks);
    if let Some(remote) = remote {
        stores::stores(&mut text, remote);
    }
    text.finish()
}

fn connections(text: &mut Text, counters: &Counters) {
    let connections = counters.connections();
    text.single("fvd_connections", "gauge", "Clients now", connections.now);
    text.single("fvd_connections_total", "counter", "Clients served", connections.total);
    let refused = connections.refused;
    text.single("fvd_connections_refused_total", "counter", "Clients too many", refused);
    let failed = connections.failed;
    text.single(
        "fvd_connections_failed_total",
        "counter",
        "Connections that broke",
        failed,
    );
    text.single(
        "fvd_requests_in_flight",
        "gauge",
        "Requests under way",
        counters.in_flight(),
    );
    let invalid = counters.invalid();
    text.single(
        "fvd_requests_invalid_total",
        "counter",
        "Requests that could not be",
        invalid,
    );
    text.single(
        "fvd_requests_polled_total",
        "counter",
        "Times that a request came while it was looked for",
        counters.polled(),
    );
}

fn requests(text: &mut Text, counters: &Counters) {
    let all: Vec<_> = Kind::ALL.iter().map(|&kind| (kind, counters.requests(kind))).collect();
    let labels = |kind: Kind| format!("kind=\"{}\"", kind.name());
    text.head("fvd_requests_total", "counter", "Requests answered");
    for (kind, count) in &all {
        text.line("fvd_requests_total", &labels(*kind), count.requests);
    }
    text.head("fvd_request_bytes_total", "counter", "Bytes of requests that succeeded");
    for (kind, count) in &all {
        text.line("fvd_request_bytes_total", &labels(*kind), count.bytes);
    }
    text.head("fvd_request_errors_total", "counter", "Requests answered with an error");
    for (kind, count) in &all {
        text.line("fvd_request_errors_total", &labels(*kind), count.errors);
    }
}

/// Only of kinds and ways that have occurred: the others would be hundreds of zeros.
fn latencies(text: &mut Text, counters: &Counters) {
    let name = "fvd_request_duration_seconds";
    text.head(
        name,
        "histogram",
        "Time from the arrival of a request to its reply, by how it was done",
    );
    for kind in Kind::ALL {
        for how in How::ALL {
            let found = counters.latencies(kind, how);
            if found.count > 0 {
                let labels = format!("kind=\"{}\",how=\"{}\"", kind.name(), how.name());
                text.histogram(name, &labels, &found);
            }
        }
    }
}

fn images(text: &mut Text, disks: &[DiskStatus]) {
    let all: Vec<_> = disks
        .iter()
        .filter_map(|disk| Some((export(disk), disk.stats.as_ref()?.fields())))
        .collect();
    let Some((_, names)) = all.first() else {
        return;
    };
    for (number, (name, _)) in names.iter().enumerate() {
        let metric = format!("fvd_image_{name}_total");
        text.head(&metric, "counter", &format!("Image: {}", name.replace('_', " ")));
        for (labels, fields) in &all {
            text.line(&metric, labels, fields[number].1);
        }
    }
}

fn prefetch(text: &mut Text, disks: &[DiskStatus]) {
    let all: Vec<_> = disks
        .iter()
        .filter_map(|disk| Some((export(disk), disk.prefetch.as_ref()?)))
        .collect();
    if all.is_empty() {
        return;
    }
    text.head("fvd_base_bytes", "gauge", "Bytes of the disk that the base covers");
    for (labels, status) in &all {
        text.line("fvd_base_bytes", labels, status.total);
    }
    text.head("fvd_prefetch_local_bytes", "gauge", "Those of them that are local");
    for (labels, status) in &all {
        text.line("fvd_prefetch_local_bytes", labels, status.local);
    }
    text.head(
        "fvd_prefetch_retries_total",
        "counter",
        "Failures of the base that were survived",
    );
    for (labels, status) in &all {
        text.line("fvd_prefetch_retries_total", labels, status.retries);
    }
    text.head("fvd_prefetch_pauses_total", "counter", "Pauses because of contention");
    for (labels, status) in &all {
        text.line("fvd_prefetch_pauses_total", labels, status.pauses);
    }
    text.head(
        "fvd_prefetch_paused",
        "gauge",
        "1: it pauses on its own now, for this reason",
    );
    for (labels, status) in &all {
        for reason in PauseReason::ALL {
            let labels = format!("{labels},reason=\"{}\"", reason.name());
            // It may also wait for a store in the midst of a read.
            let waits = reason == PauseReason::BaseAway && status.state == PrefetchState::BaseAway;
            let pauses = waits || status.pause.is_some_and(|pause| pause.reason == reason);
            text.line("fvd_prefetch_paused", &labels, u64::from(pauses));
        }
    }
    text.head("fvd_prefetch_finished", "gauge", "1: the base is not needed any more");
    for (labels, status) in &all {
        let finished = status.state == PrefetchState::Finished;
        text.line("fvd_prefetch_finished", labels, u64::from(finished));
    }
}

/// The label of a disk.
fn export(disk: &DiskStatus) -> String {
    label("export", &disk.name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fvd::copy::{Pause, PrefetchStatus};

    use super::*;
    use crate::server::BOUNDS;

    #[test]
    fn the_paused_metric_is_1_for_its_reason() {
        let mut prefetch = PrefetchStatus::default();
        (prefetch.local, prefetch.total, prefetch.pauses) = (37, 100, 2);
        prefetch.pause = Some(Pause {
            reason: PauseReason::SlowReads,
            time: Duration::from_secs(3),
            rate: 1,
            best_rate: 2,
        });
        let disk = DiskStatus {
            name: "a".to_owned(),
            stats: None,
            prefetch: Some(prefetch),
        };
        let text = text(&Counters::default(), &[disk], None);
        for line in [
            "fvd_prefetch_local_bytes{export=\"a\"} 37",
            "fvd_prefetch_pauses_total{export=\"a\"} 2",
            "fvd_prefetch_paused{export=\"a\",reason=\"slow-reads\"} 1",
            "fvd_prefetch_paused{export=\"a\",reason=\"slow-writes\"} 0",
            "fvd_prefetch_paused{export=\"a\",reason=\"base-fails\"} 0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
    }

    #[test]
    fn a_histogram_has_its_buckets_and_kinds_that_did_not_occur_are_left_out() {
        let counters = Counters::default();
        counters.took(Kind::Write, How::Ring, Duration::from_micros(20), 2);
        counters.took(Kind::Write, How::Ring, Duration::from_secs(20), 1);
        let text = text(&counters, &[], None);
        let name = "fvd_request_duration_seconds";
        let found: Vec<_> = text.lines().filter(|line| line.starts_with(name)).collect();
        assert_eq!(found.len(), BOUNDS.len() + 3, "{found:?}");
        for (part, value) in [
            ("_bucket{kind=\"write\",how=\"ring\",le=\"0.00001\"}", "0"),
            ("_bucket{kind=\"write\",how=\"ring\",le=\"0.00003\"}", "2"),
            ("_bucket{kind=\"write\",how=\"ring\",le=\"10\"}", "2"),
            ("_bucket{kind=\"write\",how=\"ring\",le=\"+Inf\"}", "3"),
            ("_sum{kind=\"write\",how=\"ring\"}", "20.00004"),
            ("_count{kind=\"write\",how=\"ring\"}", "3"),
        ] {
            assert!(
                found.contains(&format!("{name}{part} {value}").as_str()),
                "{part}: {found:?}"
            );
        }
    }

    #[test]
    fn export_names_are_escaped_in_labels() {
        let disk = DiskStatus {
            name: "a\"b\\c\nd".to_owned(),
            stats: Some(fvd::image::Stats::default()),
            prefetch: None,
        };
        let text = text(&Counters::default(), &[disk], None);
        assert!(
            text.contains(r#"fvd_image_reads_total{export="a\"b\\c\nd"} 0"#),
            "{text}"
        );
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("fvd_") && value.parse::<u64>().is_ok(), "{line}");
        }
    }
}
