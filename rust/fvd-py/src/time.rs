//! Time for what works in the background.

use fvd_nbd::daemon::TokioClock;

use crate::runtime;

/// Time as the runtime of the process measures it. Fails where no thread can be started.
pub(crate) fn clock() -> Result<TokioClock, fvd::Error> {
    Ok(TokioClock::new(runtime::shared()?))
}
