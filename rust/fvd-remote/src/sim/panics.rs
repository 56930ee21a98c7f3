//! Panics of tasks, which the runtime would swallow.

use std::cell::RefCell;
use std::panic::{set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
    static IS_QUIET: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

static HOOK: Once = Once::new();

/// From now on, panics of this thread are remembered.
pub(super) fn forget() {
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            LAST.set(Some(info.to_string()));
            if !IS_QUIET.get() {
                before(info);
            }
        }));
    });
    LAST.set(None);
}

/// Whether they are printed.
pub(super) fn set_quiet(is_quiet: bool) {
    IS_QUIET.set(is_quiet);
}

pub(super) fn last() -> Option<String> {
    LAST.with_borrow(Clone::clone)
}
