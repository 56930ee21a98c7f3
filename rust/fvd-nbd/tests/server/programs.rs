//! Runs programs as clients.

use std::process::Command;

/// Runs a program, which must succeed, and returns its standard output.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    match attempt(program, arguments) {
        Ok(printed) => printed,
        Err(failed) => panic!("{program} {arguments:?}: {failed}"),
    }
}

/// Runs a program and returns its standard output. If it fails, the error is all of its output.
pub(crate) fn attempt(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} cannot be run ({error}): make tools installs it"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let printed = text(&output.stdout);
    if output.status.success() {
        Ok(printed)
    } else {
        Err(printed + &text(&output.stderr))
    }
}
