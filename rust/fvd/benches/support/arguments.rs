//! What the command lines of benchmarks have in common: `[--rounds N] [--only NAME] [--folder DIR]`.

use std::error::Error;
use std::path::PathBuf;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub(crate) struct Arguments {
    pub(crate) rounds: usize,
    only: Option<String>,
    /// Where the files are made.
    pub(crate) folder: PathBuf,
}

impl Arguments {
    /// Reads the command line. An option that only one benchmark has, always with a value, is for
    /// `own`; false: it has no such option.
    pub(crate) fn parse(rounds: usize, mut own: impl FnMut(&str, &str) -> Result<bool>) -> Result<Self> {
        let mut arguments = Self {
            rounds,
            only: None,
            folder: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        };
        // Cargo says `--bench`.
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

    /// Whether this part of the benchmark is to run.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == name)
    }
}
