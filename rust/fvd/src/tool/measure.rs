//! Measure: how much of a disk holds data, without reading it.

use crate::error::Result;
use crate::source::{BaseSource, Content};

/// Number of units that hold data. Unit `n` is the `unit` bytes of the disk from byte `n * unit`; it counts if
/// any part of it may hold data. Data that consists of zeros counts, because nothing is read.
///
/// # Panics
///
/// If `unit` is 0.
pub async fn units_with_data(source: &dyn BaseSource, unit: u64) -> Result<u64> {
    let end = source.len();
    // Units below `counted` are decided.
    let (mut at, mut counted, mut found) = (0, 0, 0);
    while at < end {
        let run = source.status(at, end - at).await;
        let run = run.map_err(|error| error.during("look up"))?;
        let run_end = at + run.len.min(end - at);
        if run.content == Content::Data {
            let (first, stop) = ((at / unit).max(counted), run_end.div_ceil(unit));
            found += stop.saturating_sub(first);
            counted = counted.max(stop);
        }
        at = run_end;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, SeekFrom, Write as _};

    use pollster::block_on;

    use super::*;
    use crate::chain::{ChainOptions, open_source};

    /// Units with data of a raw disk of 1 MiB that has data at these offsets, in pieces of 4096 bytes.
    fn found(data: &[u64], unit: u64) -> u64 {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(1 << 20).expect("grows");
        for offset in data {
            file.seek(SeekFrom::Start(*offset)).expect("seeks");
            file.write_all(&[1; 4096]).expect("writes");
        }
        let options = ChainOptions::default();
        let source = block_on(open_source(file.path(), Some("raw"), &options)).expect("opens");
        block_on(units_with_data(&*source, unit)).expect("counts")
    }

    #[test]
    fn a_unit_counts_once_however_many_runs_lie_in_it() {
        assert_eq!(found(&[], 4096), 0);
        assert_eq!(found(&[0, 8192, 1 << 19], 4096), 3);
        assert_eq!(found(&[0, 8192, 1 << 19], 64 << 10), 2);
        assert_eq!(found(&[0, 8192, 1 << 19], 1 << 30), 1);
    }

    #[test]
    fn a_run_counts_in_each_unit_that_it_touches() {
        assert_eq!(found(&[(64 << 10) - 4096, 64 << 10], 64 << 10), 2);
        // A unit that does not divide the disk: the last one is shorter.
        assert_eq!(found(&[(1 << 20) - 4096], 1000), 5);
    }
}
