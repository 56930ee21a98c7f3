//! The compiled core of the Python package `fvd`: a thin layer with one file per function.

#![expect(clippy::needless_pass_by_value, reason = "PyO3 makes arguments as owned values")]

mod aio;
mod amend;
mod arguments;
mod background;
#[expect(unsafe_code, reason = "memory and descriptors of Python, in this one module")]
mod buffer;
mod cache;
mod calls;
mod chains;
mod check;
mod compare;
mod convert;
mod create;
mod disk;
mod dump;
mod errors;
mod exit;
mod extents;
mod handle;
mod held;
mod image;
mod info;
mod leases;
mod logs;
mod measure;
mod numbers;
mod open;
mod options;
mod prefetch;
mod profile;
mod progress;
mod publish;
mod remote;
mod runtime;
mod serve;
mod source;
mod stats;
mod time;
mod unclosed;
mod waiting;

use pyo3::prelude::*;

#[pymodule(gil_used = true)]
mod _fvd {
    use super::{Bound, PyModule, PyModuleMethods, PyResult, errors, exit};

    #[pymodule_export]
    use super::aio::{AsyncImage, open_async};
    #[pymodule_export]
    use super::amend::amend;
    #[pymodule_export]
    use super::cache::{cache_list, cache_prune, cache_verify};
    #[pymodule_export]
    use super::calls::{Call, Calls};
    #[pymodule_export]
    use super::chains::{commit, rebase};
    #[pymodule_export]
    use super::check::check;
    #[pymodule_export]
    use super::compare::compare;
    #[pymodule_export]
    use super::convert::convert;
    #[pymodule_export]
    use super::create::create;
    #[pymodule_export]
    use super::dump::dump;
    #[pymodule_export]
    use super::errors::{
        FvdError, InUseError, InvalidImageError, IoError, NoSpaceError, NotPermittedError, PoisonedError,
        UnsupportedError,
    };
    #[pymodule_export]
    use super::extents::map;
    #[pymodule_export]
    use super::image::Image;
    #[pymodule_export]
    use super::info::info;
    #[pymodule_export]
    use super::logs::{finish_log, log_descriptor, set_log_level, start_log, take_log};
    #[pymodule_export]
    use super::measure::{plan, units_with_data};
    #[pymodule_export]
    use super::open::open;
    #[pymodule_export]
    use super::options::{amend_aliases, amend_options, create_options};
    #[pymodule_export]
    use super::profile::{profile, set_profile};
    #[pymodule_export]
    use super::publish::{publish, publish_profile};
    #[pymodule_export]
    use super::remote::{RemoteHooks, remote_status};
    #[pymodule_export]
    use super::serve::{Server, serve};
    #[pymodule_export]
    use super::source::Source;
    #[pymodule_export]
    use super::stats::stats;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("DEBUG_BUILD", cfg!(debug_assertions))?;
        fvd::notice::hear_with(errors::notice);
        errors::add_defaults(module.py())?;
        exit::register(module.py())
    }
}
