//! The stores of remote bases. Their names are without credentials. Why a store fails is not here: a label that
//! changes makes a new series of each text.

use fvd::remote::Counters;

use super::lines::{Text, label};

pub(super) fn stores(text: &mut Text, remote: &Counters) {
    for (name, kind, help, value) in [
        (
            "requests_total",
            "counter",
            "Requests to stores for data",
            remote.requests,
        ),
        ("bytes_total", "counter", "Bytes of data from stores", remote.bytes),
        (
            "retries_total",
            "counter",
            "Requests sent again after a failure",
            remote.retries,
        ),
        (
            "hedges_total",
            "counter",
            "Second requests for what was late",
            remote.hedges,
        ),
        ("refreshes_total", "counter", "Replaced credentials", remote.refreshes),
        ("waiting", "gauge", "Fetches in a pause after a failure", remote.waiting),
        (
            "cache_found_total",
            "counter",
            "Units found in the host cache",
            remote.cache_found,
        ),
        (
            "cache_stored_total",
            "counter",
            "Units stored in the host cache",
            remote.cache_stored,
        ),
        (
            "cache_damaged_total",
            "counter",
            "Damaged units in the host cache",
            remote.cache_damaged,
        ),
        (
            "cache_failures_total",
            "counter",
            "Failures of the host cache",
            remote.cache_failures,
        ),
        (
            "memory_bytes",
            "gauge",
            "Bytes of data from stores in memory",
            remote.memory,
        ),
    ] {
        text.single(&format!("fvd_remote_{name}"), kind, help, value);
    }
    let name = "fvd_remote_outage_seconds";
    text.head(name, "gauge", "How long the store has not answered; 0: it answers");
    for store in &remote.stores {
        let outage = remote.outages.iter().find(|outage| outage.store == *store);
        let seconds = outage.map_or(0.0, |outage| outage.lasting.as_secs_f64());
        text.line(name, &label("store", store), seconds);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fvd::remote::OutageState;

    use super::*;

    #[test]
    fn each_store_has_a_gauge_of_its_outage() {
        let outage = OutageState {
            store: "s3://images".to_owned(),
            lasting: Duration::from_millis(42_500),
            reason: "the server answered with status 503".to_owned(),
        };
        let remote = Counters {
            requests: 7,
            cache_found: 3,
            stores: vec!["https://x.org".to_owned(), "s3://images".to_owned()],
            outages: vec![outage],
            ..Counters::default()
        };
        let mut text = Text::default();
        stores(&mut text, &remote);
        let text = text.finish();
        for line in [
            "fvd_remote_requests_total 7",
            "fvd_remote_cache_found_total 3",
            "fvd_remote_outage_seconds{store=\"https://x.org\"} 0",
            "fvd_remote_outage_seconds{store=\"s3://images\"} 42.5",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
    }
}
