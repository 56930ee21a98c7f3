//! Lines of the text format of Prometheus.

use std::fmt::{Display, Write as _};

use crate::server::{BOUNDS, Latencies};

/// A label with this value, escaped as the format requires.
pub(super) fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

/// The text so far. Writing to a String does not fail, so results are ignored.
#[derive(Default)]
pub(super) struct Text(String);

impl Text {
    pub(super) fn finish(self) -> String {
        self.0
    }

    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}.\n# TYPE {name} {kind}");
    }

    pub(super) fn line(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name}{{{labels}}} {value}");
    }

    pub(super) fn histogram(&mut self, name: &str, labels: &str, found: &Latencies) {
        let bucket = format!("{name}_bucket");
        for (bound, count) in BOUNDS.iter().zip(found.at_most) {
            self.line(&bucket, &format!("{labels},le=\"{}\"", bound.as_secs_f64()), count);
        }
        self.line(&bucket, &format!("{labels},le=\"+Inf\""), found.count);
        self.line(&format!("{name}_sum"), labels, found.sum.as_secs_f64());
        self.line(&format!("{name}_count"), labels, found.count);
    }

    pub(super) fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }
}
