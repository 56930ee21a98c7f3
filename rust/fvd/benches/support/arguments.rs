//! The common command line of benchmarks: `[--rounds N] [--only NAME] [--folder DIR]`.

use std::error::Error;
use std::path::PathBuf;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub(crate) struct Arguments {
    pub(crate) rounds: usize,
    only: Option<String>,
    /// Where files are created.
    pub(crate) folder: PathBuf,
}

impl Arguments {
    /// Reads the command line. `own` gets each option of a single benchmark, with its value. It returns false
    /// if it does not know the option.
    pub(crate) fn parse(rounds: usize, mut own: impl FnMut(&str, &str) -> Result<bool>) -> Result<Self> {
        let mut arguments = Self {
            rounds,
            only: None,
            folder: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        };
        // Cargo passes `--bench`.
        let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            let value = words.next().ok_or(format!("{word} needs a value"))?;
            match word.as_str() {
                "--rounds" => arguments.rounds = value.parse()?,
                "--only" => arguments.only = Some(value),
                "--folder" => arguments.folder = value.into(),
                other if own(other, &value)? => {}
                other => return Err(format!("unknown option '{other}'").into()),
            }
        }
        Ok(arguments)
    }

    /// Whether to run this part of the benchmark.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == name)
    }
}
