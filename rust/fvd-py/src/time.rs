//! The clock of background work.

use fvd_nbd::daemon::TokioClock;

use crate::runtime;

/// The clock of the process's runtime. Fails if no thread can be started.
pub(crate) fn clock() -> Result<TokioClock, fvd::Error> {
    Ok(TokioClock::new(runtime::shared()?))
}
