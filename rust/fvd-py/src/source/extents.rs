//! A call of `extents`, and what it told.

use std::ops::Range;
use std::sync::Arc;

use fvd::storage::Allocation;
use fvd::{Error, Result};
use pyo3::intern;
use pyo3::prelude::*;
use tokio::sync::oneshot::Receiver;

use crate::calls::{Answer, Raised, Work};

const OP: &str = "find the holes";

/// What is kept of an answer.
const MOST: usize = 16384;

/// The ranges of a part of a source that read as zeros, in order. The source has told about all of `asked`.
#[derive(Clone, Debug, Default)]
pub(super) struct Holes {
    asked: Range<u64>,
    zeros: Vec<Range<u64>>,
}

impl Holes {
    /// What is known about the bytes from `offset`, and for how many of at most `len` bytes. None: nothing.
    pub(super) fn at(&self, offset: u64, len: u64) -> Option<(Allocation, u64)> {
        if !self.asked.contains(&offset) {
            return None;
        }
        let end = self.asked.end.min(offset + len);
        let next = self.zeros.partition_point(|zeros| zeros.end <= offset);
        let (allocation, until) = match self.zeros.get(next) {
            Some(zeros) if zeros.start <= offset => (Allocation::Hole, zeros.end),
            Some(zeros) => (Allocation::Data, zeros.start),
            None => (Allocation::Data, end),
        };
        Some((allocation, until.min(end) - offset))
    }
}

/// A call of `extents`.
pub(super) struct Look {
    asked: Range<u64>,
    answer: Answer<Holes>,
}

impl Look {
    pub(super) fn new(asked: Range<u64>) -> (Arc<Self>, Receiver<Result<Holes>>) {
        let (answer, receiver) = Answer::new();
        (Arc::new(Self { asked, answer }), receiver)
    }

    fn holes(&self, result: &Bound<'_, PyAny>) -> PyResult<Holes> {
        let py = result.py();
        let mut holes = Holes {
            asked: self.asked.clone(),
            zeros: Vec::new(),
        };
        let mut last = self.asked.start;
        for extent in result.try_iter()? {
            let extent = extent?;
            let number = |name| extent.get_item(name)?.extract::<u64>();
            let (start, length) = (number(intern!(py, "start"))?, number(intern!(py, "length"))?);
            let range = start.max(last)..start.saturating_add(length).min(self.asked.end);
            if range.is_empty() {
                continue;
            }
            last = range.end;
            if extent.get_item(intern!(py, "zero"))?.is_truthy()? {
                holes.zeros.push(range);
                if holes.zeros.len() == MOST {
                    holes.asked.end = last;
                    break;
                }
            }
        }
        Ok(holes)
    }
}

impl Work for Look {
    fn method(&self) -> &'static str {
        "extents"
    }

    fn arguments<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let arguments = (self.asked.start, self.asked.end - self.asked.start);
        Ok(arguments.into_pyobject(py)?.into_any())
    }

    fn settle(&self, py: Python<'_>, result: PyResult<Bound<'_, PyAny>>) {
        let holes = result.and_then(|result| self.holes(&result));
        let raised = |error: PyErr| Raised::new("extents of the source", error.value(py)).failed(OP);
        self.answer.give(holes.map_err(raised));
    }

    fn refuse(&self, error: Error) {
        self.answer.give(Err(error));
    }
}
