//! Calls of Python code by the core (docs/design/python-code.md). No thread of the core takes the GIL for one
//! (docs/design/async-io.md, F5): it puts the call into a queue, and threads of Python, or an event loop, take
//! it from there (`fvd._calls`).

mod answer;
mod call;
mod caller;
mod queue;
mod raised;

pub(crate) use answer::{Answer, lost};
pub(crate) use call::{Call, Calls};
pub(crate) use caller::{Caller, Ticket, any, refuse_all};
pub(crate) use queue::{Watch, Within, Work};
pub(crate) use raised::{Raised, cause};
