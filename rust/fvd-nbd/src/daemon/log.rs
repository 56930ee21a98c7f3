//! Messages for people on stderr. Writing them never blocks the server: a pipe that is not read becomes full,
//! and a client can break connections as fast as it likes.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The maximum number of queued lines. Further lines are only counted.
const WAITING: usize = 64;
/// The maximum number of lines per [`INTERVAL`].
const LINES: u32 = 20;
const INTERVAL: Duration = Duration::from_secs(1);
/// How long drop waits for the remaining lines to be written.
const END: Duration = Duration::from_millis(200);

/// A thread that writes lines. When this is dropped, the thread writes the queued lines and ends.
pub struct Log {
    /// None only during drop.
    lines: Option<SyncSender<String>>,
    /// The number of lines for which the queue had no room.
    dropped: Arc<AtomicU64>,
    /// Disconnected when the thread has ended.
    ended: Mutex<Receiver<()>>,
    /// [`END`].
    end: Duration,
}

impl Log {
    /// A log that writes to stderr.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn to_stderr() -> io::Result<Self> {
        Self::new(Stderr)
    }

    fn new(to: impl Write + Send + 'static) -> io::Result<Self> {
        Self::with_times(to, INTERVAL, END)
    }

    fn with_times(to: impl Write + Send + 'static, interval: Duration, end: Duration) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(WAITING);
        let (ending, ended) = sync_channel(0);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            to,
            interval,
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
            end,
        })
    }

    /// Queues `line`. If the queue is full, the line is only counted. Never blocks.
    pub fn tell(&self, line: String) {
        if self.lines.as_ref().is_none_or(|lines| lines.try_send(line).is_err()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.lines = None;
        // The thread may be blocked for ever on a pipe that is not read.
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(self.end);
    }
}

/// The current stderr, without Rust's lock on it: other threads would wait for that lock.
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
    /// [`INTERVAL`].
    interval: Duration,
    dropped: Arc<AtomicU64>,
}

impl<W: Write> Writer<W> {
    fn run(mut self, lines: &Receiver<String>) {
        while let Ok(line) = lines.recv() {
            let end = Instant::now() + self.interval;
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

    /// Writes the lines of an interval after the first, and sleeps to its end if there were too many. Returns
    /// false if no lines will follow.
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

    /// Writes one line in one piece. Errors are ignored.
    fn write(&mut self, line: &str) {
        let _ = self.to.write_all(format!("{line}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that blocks the writer while its channel is full.
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
    fn a_blocked_reader_blocks_no_writer_and_gets_a_count() {
        let (pipe, reader) = sync_channel(0);
        let log = Log::with_times(Pipe(pipe), Duration::ZERO, END).unwrap();
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
    fn queued_lines_are_written_on_drop_and_errors_are_ignored() {
        let (pipe, reader) = sync_channel(9);
        let log = Log::with_times(Pipe(pipe), INTERVAL, Duration::from_secs(60)).unwrap();
        tell(&log, 9);
        drop(log);
        assert_eq!(reader.try_iter().count(), 9);
        let (pipe, reader) = sync_channel(9);
        drop(reader);
        tell(&Log::new(Pipe(pipe)).unwrap(), 9);
    }
}
