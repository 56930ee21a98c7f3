//! Notices for the user about something that is no failure. The program decides where they go.

use std::sync::OnceLock;

static HEARER: OnceLock<fn(&str)> = OnceLock::new();

/// Calls `hearer` with each later notice, one line of text, on the thread where it arises. Only the first
/// call in a process has an effect.
pub fn hear_with(hearer: fn(&str)) {
    let _ = HEARER.set(hearer);
}

pub(crate) fn tell(text: &str) {
    if let Some(hearer) = HEARER.get() {
        hearer(text);
    }
}
