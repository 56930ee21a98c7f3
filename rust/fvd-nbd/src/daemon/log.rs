//! Words for people on stderr, which never hold up who serves: a pipe that nobody reads is full one
//! day, and a client can break connections as fast as it likes.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Lines that wait to be written; further ones are only counted.
const WAITING: usize = 64;
/// Lines of one [`INTERVAL`].
const LINES: u32 = 20;
const INTERVAL: Duration = Duration::from_secs(1);
/// How long the end waits for the lines that are left.
const END: Duration = Duration::from_millis(200);

/// A thread that writes lines; it ends with what is there when this is dropped.
pub struct Log {
    /// None while it is dropped.
    lines: Option<SyncSender<String>>,
    /// Lines that found no place.
    dropped: Arc<AtomicU64>,
    /// Disconnected when the thread has ended.
    ended: Mutex<Receiver<()>>,
}

impl Log {
    /// Lines to stderr. Fails where no thread can be started.
    pub fn to_stderr() -> io::Result<Self> {
        Self::new(Stderr)
    }

    fn new(to: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(WAITING);
        let (ending, ended) = sync_channel(0);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            to,
            dropped: Arc::clone(&dropped),
        };
        thread::Builder::new().name("fvd-log".to_owned()).spawn(move || {
            let _ending = ending;
            writer.run(&waiting);
        })?;
        Ok(Self {
            lines: Some(lines),
            dropped,
            ended: Mutex::new(ended),
        })
    }

    /// Has `line` written, if there is a place for it.
    pub fn tell(&self, line: String) {
        if self.lines.as_ref().is_none_or(|lines| lines.try_send(line).is_err()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.lines = None;
        // It may wait for ever for somebody to read.
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(END);
    }
}

/// Whatever stderr is at the moment, without the lock of Rust's, for which others would wait.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(io::stderr(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Writer<W> {
    to: W,
    dropped: Arc<AtomicU64>,
}

impl<W: Write> Writer<W> {
    fn run(mut self, lines: &Receiver<String>) {
        while let Ok(line) = lines.recv() {
            let end = Instant::now() + INTERVAL;
            self.write(&line);
            let open = self.interval(lines, end);
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                self.write(&format!("fvd: ... and {dropped} more connections"));
            }
            if !open {
                return;
            }
        }
    }

    /// The lines of an interval but the first, and a pause to its end if there were too many. False
    /// if none will come any more.
    fn interval(&mut self, lines: &Receiver<String>, end: Instant) -> bool {
        for _ in 1..LINES {
            let rest = end.saturating_duration_since(Instant::now());
            match lines.recv_timeout(rest) {
                Ok(line) => self.write(&line),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        thread::sleep(end.saturating_duration_since(Instant::now()));
        true
    }

    /// As one piece. Where nobody reads, nobody misses it.
    fn write(&mut self, line: &str) {
        let _ = self.to.write_all(format!("{line}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody who reads when there is a place to put it.
    struct Pipe(SyncSender<String>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(bytes.to_vec()).map_err(io::Error::other)?;
            self.0.send(text).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn tell(log: &Log, count: usize) {
        (0..count).for_each(|number| log.tell(number.to_string()));
    }

    #[test]
    fn a_reader_that_does_not_read_holds_up_nobody_and_hears_how_much_it_has_missed() {
        let (pipe, reader) = sync_channel(0);
        let log = Log::new(Pipe(pipe)).unwrap();
        tell(&log, 1000);
        let heard: Vec<_> = (0..=LINES).map(|_| reader.recv().unwrap()).collect();
        assert_eq!(heard[..2], ["0\n", "1\n"]);
        let [missed] = heard.iter().filter(|line| line.contains("more")).collect::<Vec<_>>()[..] else {
            panic!("{heard:?}");
        };
        let missed: usize = missed.split(' ').nth(3).unwrap().parse().unwrap();
        assert!((1000 - WAITING - 1..=1000 - WAITING).contains(&missed), "{missed}");
    }

    #[test]
    fn what_was_told_is_written_before_the_end_and_errors_are_nobodys_business() {
        let (pipe, reader) = sync_channel(9);
        let log = Log::new(Pipe(pipe)).unwrap();
        tell(&log, 9);
        drop(log);
        assert_eq!(reader.try_iter().count(), 9);
        let (pipe, reader) = sync_channel(9);
        drop(reader);
        tell(&Log::new(Pipe(pipe)).unwrap(), 9);
    }
}
