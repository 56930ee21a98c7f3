//! A minimal HTTP server that serves one text.
//!
//! A client sends a request head, gets an answer, and is disconnected. It can use a few KiB for a few
//! seconds. No request body is read.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use fvd::host::BoxFuture;
use fvd::process::CloseOnFork;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The maximum number of clients at once. Further clients wait.
const CLIENTS: usize = 8;
/// The maximum length of a request head in bytes.
const MAX_HEAD: usize = 8192;
/// The time from the connection to the end of the answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// The pause between two attempts to accept while the system has no descriptor left.
const RETRY: Duration = Duration::from_millis(100);

/// Answers `GET /metrics` with the current result of `text`, for ever.
pub(super) async fn respond(
    listener: TcpListener,
    text: impl Fn() -> BoxFuture<'static, String> + Send + Sync + 'static,
) {
    let _descriptor = CloseOnFork::new(listener.as_fd());
    let text = Arc::new(text);
    let places = Arc::new(Semaphore::new(CLIENTS));
    let mut tasks = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((socket, _)) => {
                let text = Arc::clone(&text);
                tasks.spawn(async move {
                    // Errors of a client that is too slow or gone do not matter to the server.
                    let _ = timeout(DEADLINE, converse(socket, &*text)).await;
                    drop(place);
                });
            }
            Err(_) => sleep(RETRY).await,
        }
        while tasks.try_join_next().is_some() {}
    }
}

async fn converse(mut socket: TcpStream, text: impl Fn() -> BoxFuture<'static, String>) -> io::Result<()> {
    let head = read_head(&mut socket).await?;
    let answer = answer(&head, text).await;
    socket.write_all(answer.as_bytes()).await?;
    socket.shutdown().await?;
    // If a socket is closed while it has unread input, the client may lose the answer.
    let mut rest = [0; 512];
    while socket.read(&mut rest).await? > 0 {}
    Ok(())
}

/// Reads up to the empty line. A longer head is cut.
async fn read_head(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = vec![0; MAX_HEAD];
    let mut len = 0;
    while len < MAX_HEAD && !head[..len].windows(4).any(|end| end == b"\r\n\r\n") {
        match socket.read(&mut head[len..]).await? {
            0 => break,
            more => len += more,
        }
    }
    head.truncate(len);
    Ok(head)
}

async fn answer(head: &[u8], text: impl Fn() -> BoxFuture<'static, String>) -> String {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split(|&byte| byte == b'?').next().unwrap_or_default();
    let (status, more, body) = match (method, path) {
        (b"GET", b"/metrics" | b"/") => ("200 OK", "", text().await),
        (b"GET", _) => ("404 Not Found", "", "Only /metrics is here.\n".to_owned()),
        _ => ("405 Method Not Allowed", "Allow: GET\r\n", String::new()),
    };
    format!(
        "HTTP/1.1 {status}\r\n{more}Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    fn get(head: &str) -> String {
        let text = || -> BoxFuture<'static, String> { Box::pin(ready("fvd_x 1\n".to_owned())) };
        pollster::block_on(answer(head.as_bytes(), text))
    }

    fn status(head: &str) -> String {
        let answer = get(head);
        answer.split("\r\n").next().unwrap_or_default().to_owned()
    }

    #[test]
    fn only_get_of_the_metrics_path_is_answered() {
        assert_eq!(status("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 200 OK");
        assert_eq!(status("GET /metrics?x=y HTTP/1.0\r\n\r\n"), "HTTP/1.1 200 OK");
        assert_eq!(status("GET /other HTTP/1.1\r\n\r\n"), "HTTP/1.1 404 Not Found");
        for head in ["POST /metrics HTTP/1.1\r\n\r\n", "", "\r\n", "GETMETRICS", "\0\0"] {
            assert_eq!(status(head), "HTTP/1.1 405 Method Not Allowed", "{head:?}");
        }
    }

    #[test]
    fn content_length_is_the_length_of_the_body() {
        let answer = get("GET / HTTP/1.1\r\n\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "fvd_x 1\n");
        assert!(head.contains("Content-Length: 8\r\n"));
    }
}
