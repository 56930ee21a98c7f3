//! Converts a disk: `convert SOURCE TARGET FORMAT [OPTION...]`.
//!
//! FORMAT: `raw`, `fvd` (plain) or `compact` (fvd, with storage allocated on write).
//!
//! OPTION: `-W` out of order, `-n` into an existing target, `-S SIZE` sparse size in bytes, `-t MODE` cache
//! mode of the target, `-p` progress. `-` as SOURCE or TARGET: standard input or output.

use std::fs::File;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::process::ExitCode;

use fvd::tool::Progress;
use fvd::tool::convert::{Cache, ConvertRequest, Format, Source, Target, convert};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("convert: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let mut required = |what: &str| args.next().ok_or(format!("{what} is missing"));
    let (source, target) = (required("SOURCE")?, required("TARGET")?);
    let (format, compact) = match required("FORMAT")?.as_str() {
        "raw" => (Format::Raw, false),
        "fvd" => (Format::Fvd, false),
        "compact" => (Format::Fvd, true),
        other => return Err(format!("unknown format '{other}'").into()),
    };
    let mut request = ConvertRequest::new(source_of(source)?, target_of(target)?, format);
    request.create.layout.compact = compact;
    let mut verbose = false;
    while let Some(option) = args.next() {
        let mut value = || args.next().ok_or(format!("{option} needs a value"));
        match option.as_str() {
            "-W" => request.out_of_order = true,
            "-n" => request.no_create = true,
            "-p" => verbose = true,
            "-S" => request.sparse_size = value()?.parse()?,
            "-t" => request.cache = cache_of(&value()?)?,
            _ => return Err(format!("unknown option '{option}'").into()),
        }
    }
    let mut report = |progress: Progress| {
        if verbose {
            eprintln!("{} of {:?} bytes", progress.done, progress.total);
        }
        ControlFlow::Continue(())
    };
    convert(&request, &mut report)?;
    Ok(())
}

fn source_of(name: String) -> Result<Source, Failure> {
    if name == "-" {
        let stdin = std::io::stdin().as_fd().try_clone_to_owned()?;
        return Ok(Source::Stream(File::from(stdin)));
    }
    Ok(Source::File {
        path: name.into(),
        format: None,
    })
}

fn target_of(name: String) -> Result<Target, Failure> {
    if name == "-" {
        let stdout = std::io::stdout().as_fd().try_clone_to_owned()?;
        return Ok(Target::Stream(File::from(stdout)));
    }
    Ok(Target::File(name.into()))
}

fn cache_of(mode: &str) -> Result<Cache, Failure> {
    Ok(match mode {
        "writeback" => Cache::Writeback,
        "writethrough" => Cache::Writethrough,
        "none" => Cache::None,
        "directsync" => Cache::DirectSync,
        "unsafe" => Cache::Unsafe,
        _ => return Err(format!("unknown cache mode '{mode}'").into()),
    })
}
