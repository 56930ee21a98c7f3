//! Tests that amend images that were made by `create` and written by `Image`.

mod attributes;
mod compact;
mod crash;
mod foreign;
mod names;
mod original;
mod plain;

use bytes::Bytes;
use pollster::block_on;

use super::{Changes, amend};
use crate::error::Result;
use crate::format::{Header, Value};
use crate::image::check::{FindingKind, Repair};
use crate::image::testing::{CHUNK, Kind, Sample, content, open, options};
use crate::image::{CreateOptions, create, read_head};
use crate::storage::{MemoryStorage, Storage};

/// Size of the disk of every sample, in bytes.
const SIZE: u64 = 40 * CHUNK;

/// An image with these options in which some chunks were written.
fn sample(options: &CreateOptions, unclean: bool) -> Sample<MemoryStorage> {
    let separate = !options.data_file.is_empty();
    fill(
        MemoryStorage::new(),
        separate.then(MemoryStorage::new),
        options,
        unclean,
    )
}

fn fill(
    file: MemoryStorage,
    data: Option<MemoryStorage>,
    options: &CreateOptions,
    unclean: bool,
) -> Sample<MemoryStorage> {
    let sample = Sample { file, data };
    block_on(create(&sample.file, sample.data.as_ref(), options, None)).expect("created");
    let image = open(&sample, true).expect("opens");
    for chunk in [39, 3, 4, 20, 0, 11, 13, 7, 30, 25] {
        let bytes = Bytes::from(vec![chunk as u8 + 1; 5000]);
        block_on(image.write(bytes, chunk * CHUNK + 3000)).expect("written");
    }
    block_on(image.flush()).expect("flushed");
    if !unclean {
        block_on(image.close()).expect("closed");
    }
    sample
}

/// Like [`options`], without a table.
fn plain(kind: Kind) -> CreateOptions {
    let mut options = options(kind);
    options.layout.compact = false;
    options.layout.chunk_size = None;
    options
}

fn changes<const N: usize>(pairs: [(&str, Value); N]) -> Changes {
    let mut changes = Changes::new(true);
    for (name, value) in pairs {
        changes.set(name, value).expect("an attribute and a value for it");
    }
    changes
}

fn int(number: u64) -> Value {
    Value::Int(i64::try_from(number).expect("small"))
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

impl<S: Storage + Clone> Sample<S> {
    fn amend(&self, changes: &Changes) -> Result<Header> {
        block_on(amend(&self.file, self.data.as_ref(), changes))
    }

    fn resize(&self, size: u64) -> Result<Header> {
        self.amend(&changes([("size", int(size))]))
    }

    fn header(&self) -> Header {
        block_on(read_head(&self.file)).expect("valid").header
    }

    /// The message with which the changes are refused. Asserts that the header does not change, except by a
    /// recovery.
    fn refusal<const N: usize>(&self, pairs: [(&str, Value); N]) -> String {
        let state = || Header {
            clean_shutdown: true,
            ..self.header()
        };
        let before = state();
        let error = self.amend(&changes(pairs)).expect_err("refused");
        assert_eq!(error.kind(), crate::ErrorKind::InvalidArgument);
        assert_eq!(state(), before);
        error.to_string()
    }

    fn assert_consistent(&self, case: &str) {
        let report = self.check(Repair::None).expect("checks");
        let wrong = report.corruptions + report.check_errors;
        assert_eq!(wrong, 0, "{case}: {:?}", report.findings);
    }
}

/// The content `old` after the disk was resized to `size` bytes.
fn resized(old: &[u8], size: u64) -> Vec<u8> {
    let mut new = old.to_vec();
    new.resize(size as usize, 0);
    new
}
