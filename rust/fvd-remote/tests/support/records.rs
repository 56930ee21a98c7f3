//! All records of `tracing`, as text.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

#[derive(Clone, Default)]
pub struct Records(Arc<Mutex<String>>);

/// From now on, in all threads.
pub fn capture() -> Records {
    let records = Records::default();
    tracing::subscriber::set_global_default(records.clone()).expect("the first of this process");
    records
}

impl Records {
    pub fn text(&self) -> String {
        self.0.lock().expect("no panic").clone()
    }
}

impl Visit for Records {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        writeln!(self.0.lock().expect("no panic"), "{field}={value:?}").expect("memory");
    }
}

impl Subscriber for Records {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        attributes.record(&mut self.clone());
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}
