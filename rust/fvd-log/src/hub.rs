//! The subscriber: gives the records to those who want them.
//!
//! There is one in a process, set when the first consumer comes. `tracing` caches for each place in the code
//! whether its records are wanted: one that is not costs a relaxed load.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Once, OnceLock};

use fvd::process::Process;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record as Values};
use tracing::subscriber::{Interest, set_global_default};
use tracing::{Event, Level, Metadata, Subscriber, callsite};

use crate::filter::Filter;
use crate::format::Format;
use crate::lines::Lines;
use crate::record::{Record, Scope, Value, Visitor};
use crate::{queue, span};

/// Lines for people or programs.
struct Output {
    filter: Filter,
    format: Format,
    lines: Lines,
    /// The thread that writes is not in a forked child.
    process: Process,
}

static OUTPUT: OnceLock<Output> = OnceLock::new();

/// What the queue takes: an index in [`LEVELS`].
static QUEUE_LEVEL: AtomicU8 = AtomicU8::new(0);

const LEVELS: [LevelFilter; 6] = [
    LevelFilter::OFF,
    LevelFilter::ERROR,
    LevelFilter::WARN,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
    LevelFilter::TRACE,
];

/// Writes the records that `filter` wants to stderr from now on. Only the first call in a process has an effect.
///
/// # Errors
///
/// No thread can be started.
pub fn start_lines(filter: Filter, format: Format) -> io::Result<()> {
    if OUTPUT.get().is_none() {
        let is_brief = filter.max_level() <= LevelFilter::WARN;
        let lines = Lines::to_stderr(format, is_brief)?;
        let process = Process::current();
        let _ = OUTPUT.set(Output {
            filter,
            format,
            lines,
            process,
        });
    }
    subscribe();
    Ok(())
}

/// Waits a moment for lines that are not written yet. Later ones are dropped.
pub fn finish_lines() {
    if let Some(output) = OUTPUT.get().filter(|output| output.process.is_current()) {
        output.lines.finish();
    }
}

pub(crate) fn set_queue_level(level: LevelFilter) {
    let index = LEVELS.iter().position(|known| *known == level).unwrap_or(0);
    QUEUE_LEVEL.store(index as u8, Ordering::Relaxed);
    subscribe();
}

fn queue_level() -> LevelFilter {
    LEVELS[usize::from(QUEUE_LEVEL.load(Ordering::Relaxed))]
}

/// Sets the subscriber, or asks it again what it wants.
fn subscribe() {
    static ONCE: Once = Once::new();
    // A program that has a subscriber of its own keeps it.
    ONCE.call_once(|| drop(set_global_default(Hub)));
    callsite::rebuild_interest_cache();
}

fn output_wants(metadata: &Metadata<'_>) -> Option<&'static Output> {
    let wants = |output: &&Output| output.filter.enables(metadata.target(), *metadata.level());
    OUTPUT.get().filter(wants)
}

fn give(record: Record, metadata: &Metadata<'_>) {
    if let Some(output) = output_wants(metadata).filter(|output| output.process.is_current()) {
        output.lines.tell(output.format.line(&record));
    }
    if record.level <= queue_level() {
        queue::put(record);
    }
}

/// The subscriber of fvd. All state is in statics of this crate.
struct Hub;

impl Subscriber for Hub {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= queue_level() || output_wants(metadata).is_some()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let output = OUTPUT
            .get()
            .map_or(LevelFilter::OFF, |output| output.filter.max_level());
        Some(output.max(queue_level()))
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Visitor::default();
        attributes.record(&mut fields);
        let metadata = attributes.metadata();
        let (id, span) = span::open(metadata, fields, attributes.parent(), attributes.is_root());
        let Scope { name, fields } = span.scope();
        give(
            Record::new(metadata, format!("{name} begins"), fields, span.outer_scopes()),
            metadata,
        );
        id
    }

    fn record(&self, id: &Id, values: &Values<'_>) {
        if let Some(span) = span::find(id) {
            values.record(&mut *span.fields());
        }
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut visitor = Visitor::default();
        event.record(&mut visitor);
        let around = match event.parent() {
            Some(id) => span::find(id),
            None if event.is_root() => None,
            None => span::current(),
        };
        let scopes = around.map_or_else(Vec::new, |span| span.scopes());
        let metadata = event.metadata();
        give(Record::new(metadata, visitor.message, visitor.fields, scopes), metadata);
    }

    fn enter(&self, id: &Id) {
        span::enter(id);
    }

    fn exit(&self, id: &Id) {
        span::exit(id);
    }

    fn clone_span(&self, id: &Id) -> Id {
        span::keep(id);
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let Some(span) = span::release(&id) else {
            return false;
        };
        let Scope { name, mut fields } = span.scope();
        fields.push(("elapsed_us", Value::Unsigned(span.begun.elapsed().as_micros() as u64)));
        let record = Record::new(span.metadata, format!("{name} ends"), fields, span.outer_scopes());
        give(record, span.metadata);
        true
    }
}

/// A problem that this crate reports itself.
pub(crate) fn missed(count: u64) -> Record {
    let message = format!("... and {count} more messages");
    Record {
        time: std::time::SystemTime::now(),
        level: Level::WARN,
        target: module_path!(),
        message,
        fields: vec![("dropped", Value::Unsigned(count))],
        scopes: Vec::new(),
        thread: None,
    }
}
