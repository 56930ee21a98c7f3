//! The options of the format, and their values.

use fvd::format::Value;
use fvd::format::options::{self, FormatOption, Kind, Use};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyInt};

/// Name, type, description and limits.
type Described = (&'static str, &'static str, &'static str, String);

/// The options of a new image, by name: for each one its name, type and description, and its unit, range and
/// default.
#[pyfunction]
pub(crate) fn create_options() -> Vec<Described> {
    options::of_create()
        .map(|(option, create)| describe(option, create, "bool"))
        .collect()
}

/// What can be amended, in the order to show it: as `create_options`.
#[pyfunction]
pub(crate) fn amend_options() -> Vec<Described> {
    // The original driver's tool wrote 0 and 1.
    options::of_amend()
        .map(|(option, amend)| describe(option, amend, "switch"))
        .collect()
}

/// Other names of what can be amended, with the names in the header.
#[pyfunction]
pub(crate) fn amend_aliases(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let names = PyDict::new(py);
    for (other, name) in options::aliases() {
        names.set_item(other, name)?;
    }
    Ok(names)
}

fn describe<T>(option: &FormatOption, used: &Use<T>, switch: &'static str) -> Described {
    let kind = match option.kind {
        Kind::Bool => switch,
        Kind::Number(..) => "number",
        Kind::Size(..) => "size",
        Kind::SignedSize => "signed size",
        Kind::Word(_) | Kind::Text => "str",
        Kind::File => "file",
    };
    (used.name, kind, used.description, option.limits(used))
}

/// The value of an option: a bool, an int or a str.
pub(crate) fn value(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    if object.is_instance_of::<PyBool>() {
        return Ok(Value::Bool(object.extract()?));
    }
    if object.is_instance_of::<PyInt>() {
        let number = object.extract().map(Value::Int);
        return Ok(number.unwrap_or_else(|_| Value::Beyond(object.to_string())));
    }
    Ok(Value::Text(object.extract()?))
}
