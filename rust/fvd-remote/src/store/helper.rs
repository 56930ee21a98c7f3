//! A program that prints credentials.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::secret::Secret;
use crate::transport::{Failure, FailureKind};

/// A machine waits for it. Longer than a server may be silent would be no use.
const LIMIT: Duration = Duration::from_secs(10);
/// More than any token has, in bytes.
const OUTPUT: u64 = 64 << 10;

/// `{"headers": {"Authorization": "Bearer ..."}}`, or `{"token": "..."}` for a bearer token.
#[derive(Deserialize)]
struct Printed {
    #[serde(default)]
    headers: std::collections::BTreeMap<String, Secret>,
    token: Option<Secret>,
}

/// The headers that the helper prints.
pub(super) async fn headers(command: &[String]) -> Result<Vec<(String, Secret)>, Failure> {
    let printed: Printed = run(command).await?;
    let mut headers: Vec<_> = printed.headers.into_iter().collect();
    if let Some(token) = printed.token {
        headers.push((
            "authorization".to_owned(),
            Secret::new(format!("Bearer {}", token.expose())),
        ));
    }
    if headers.is_empty() {
        return Err(failed(command, "printed neither headers nor a token"));
    }
    Ok(headers)
}

/// What `command` prints, as JSON.
pub(super) async fn run<T: DeserializeOwned + Send + 'static>(command: &[String]) -> Result<T, Failure> {
    let child = start(command)?;
    let child = Arc::new(Mutex::new(child));
    let reader = Arc::clone(&child);
    let reading = spawn_blocking(move || read(&reader));
    let Ok(read) = timeout(LIMIT, reading).await else {
        // It may have ended by itself. The thread that reads then sees the end of the pipe, and reaps it.
        _ = child.lock().unwrap_or_else(PoisonError::into_inner).kill();
        return Err(failed(command, "took longer than 10 s"));
    };
    let (output, is_success) = read
        .ok()
        .and_then(Result::ok)
        .ok_or_else(|| failed(command, "could not be read"))?;
    if !is_success {
        return Err(failed(command, "failed"));
    }
    // The error of the parser could quote a credential.
    serde_json::from_slice(&output).map_err(|_| failed(command, "printed something else than docs/remote.md says"))
}

fn start(command: &[String]) -> Result<Child, Failure> {
    let (program, arguments) = command.split_first().ok_or_else(|| failed(command, "has no name"))?;
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn();
    child.map_err(|error| failed(command, &format!("could not be started: {error}")))
}

fn read(child: &Mutex<Child>) -> std::io::Result<(Vec<u8>, bool)> {
    let pipe = child.lock().unwrap_or_else(PoisonError::into_inner).stdout.take();
    let mut output = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(OUTPUT).read_to_end(&mut output)?;
    }
    let status = child.lock().unwrap_or_else(PoisonError::into_inner).wait()?;
    Ok((output, status.success()))
}

/// Names the program, not its arguments, which may be credentials.
fn failed(command: &[String], what: &str) -> Failure {
    let program = command.first().map_or("", String::as_str);
    Failure::new(
        FailureKind::Credentials,
        format!("the credential helper {program} {what}"),
    )
}
