//! What a user should know although nothing has failed. Where it goes is for the program to say.

use std::sync::OnceLock;

static HEARER: OnceLock<fn(&str)> = OnceLock::new();

/// Has `hearer` told of everything from now on, a line each, on the thread where it comes about. The first call
/// in a process counts.
pub fn hear_with(hearer: fn(&str)) {
    let _ = HEARER.set(hearer);
}

pub(crate) fn tell(text: &str) {
    if let Some(hearer) = HEARER.get() {
        hearer(text);
    }
}
