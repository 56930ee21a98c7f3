//! Lines on stderr. Writing them never blocks the program: a pipe that is not read becomes full, and a client can
//! break connections as fast as it likes.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::format::Format;
use crate::hub::missed;

/// How many lines there may be.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// The maximum number of queued lines. Further lines are only counted.
    waiting: usize,
    /// The maximum number of lines per `interval`. None: no maximum.
    lines: Option<u32>,
    interval: Duration,
}

/// For problems, whose number a client decides.
const BRIEF: Limits = Limits {
    waiting: 64,
    lines: Some(20),
    interval: Duration::from_secs(1),
};
/// For a user who has asked for all.
const VERBOSE: Limits = Limits {
    waiting: 4096,
    lines: None,
    interval: Duration::from_secs(1),
};
/// The most lines that are written with one system call.
const TOGETHER: usize = 256;
/// How long the end waits for the remaining lines to be written.
const END: Duration = Duration::from_millis(200);
/// How often the end looks for room in the queue.
const STEP: Duration = Duration::from_millis(5);

/// A thread that writes lines. When this is dropped, the thread writes the queued lines and ends.
pub(crate) struct Lines {
    /// None is the end.
    queue: SyncSender<Option<String>>,
    /// The number of lines for which the queue had no room.
    dropped: Arc<AtomicU64>,
    /// Disconnected when the thread has ended.
    ended: Mutex<Receiver<()>>,
    /// [`END`].
    end: Duration,
}

impl Lines {
    /// Lines on stderr. `format` is for what is reported of dropped ones. If `is_brief`, at most 20 lines are
    /// written in a second.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub(crate) fn to_stderr(format: Format, is_brief: bool) -> io::Result<Self> {
        Self::with(Stderr, format, if is_brief { BRIEF } else { VERBOSE }, END)
    }

    fn with(to: impl Write + Send + 'static, format: Format, limits: Limits, end: Duration) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(limits.waiting);
        let (ending, ended) = sync_channel(0);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            to,
            format,
            limits,
            dropped: Arc::clone(&dropped),
        };
        thread::Builder::new().name("fvd-log".to_owned()).spawn(move || {
            let _ending = ending;
            writer.run(&waiting);
        })?;
        Ok(Self {
            queue: lines,
            dropped,
            ended: Mutex::new(ended),
            end,
        })
    }

    /// Queues `line`. If the queue is full, the line is only counted. Never blocks.
    pub(crate) fn tell(&self, line: String) {
        if self.queue.try_send(Some(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes what is queued and ends the thread, which may be blocked for ever on a pipe that is not read: waits
    /// for a moment only.
    pub(crate) fn finish(&self) {
        let deadline = Instant::now() + self.end;
        while let Err(TrySendError::Full(_)) = self.queue.try_send(None) {
            if Instant::now() >= deadline {
                return;
            }
            thread::sleep(STEP);
        }
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.finish();
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
    format: Format,
    limits: Limits,
    dropped: Arc<AtomicU64>,
}

impl<W: Write> Writer<W> {
    fn run(mut self, lines: &Receiver<Option<String>>) {
        while let Ok(Some(line)) = lines.recv() {
            let open = match self.limits.lines {
                Some(most) => self.interval(&line, lines, most),
                None => self.together(line, lines),
            };
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                let line = self.format.line(&missed(dropped));
                self.write(&format!("{line}\n"));
            }
            if !open {
                return;
            }
        }
    }

    /// Writes `most` lines of an interval, and sleeps to its end if there were so many. Returns false if no lines
    /// will follow.
    fn interval(&mut self, first: &str, lines: &Receiver<Option<String>>, most: u32) -> bool {
        let end = Instant::now() + self.limits.interval;
        self.write(&format!("{first}\n"));
        for _ in 1..most {
            let rest = end.saturating_duration_since(Instant::now());
            match lines.recv_timeout(rest) {
                Ok(Some(line)) => self.write(&format!("{line}\n")),
                Err(RecvTimeoutError::Timeout) => return true,
                Ok(None) | Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        thread::sleep(end.saturating_duration_since(Instant::now()));
        true
    }

    /// Writes the queued lines. Returns false if no lines will follow.
    fn together(&mut self, mut text: String, lines: &Receiver<Option<String>>) -> bool {
        text.push('\n');
        let mut open = true;
        for line in lines.try_iter().take(TOGETHER) {
            match line {
                Some(line) => {
                    text.push_str(&line);
                    text.push('\n');
                }
                None => open = false,
            }
        }
        self.write(&text);
        open
    }

    /// Writes whole lines. Errors are ignored.
    fn write(&mut self, text: &str) {
        let _ = self.to.write_all(text.as_bytes());
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

    fn lines(pipe: SyncSender<String>, limits: Limits, end: Duration) -> Lines {
        Lines::with(Pipe(pipe), Format::Text, limits, end).expect("a thread")
    }

    fn tell(lines: &Lines, count: usize) {
        (0..count).for_each(|number| lines.tell(number.to_string()));
    }

    /// The number in the line that says how many lines are missing.
    fn missed(heard: &[String]) -> usize {
        let found: Vec<_> = heard.iter().filter(|line| line.contains("more")).collect();
        let [line] = found[..] else { panic!("{heard:?}") };
        line.split(' ')
            .nth(3)
            .and_then(|count| count.parse().ok())
            .expect("a number")
    }

    #[test]
    fn a_blocked_reader_blocks_no_writer_and_gets_a_count() {
        let (pipe, reader) = sync_channel(0);
        let interval = Duration::ZERO;
        let lines = lines(pipe, Limits { interval, ..BRIEF }, END);
        tell(&lines, 1000);
        let most = BRIEF.lines.expect("there is a maximum") as usize;
        let heard: Vec<_> = (0..=most).map(|_| reader.recv().expect("the thread writes")).collect();
        assert_eq!(heard[..2], ["0\n", "1\n"]);
        let expected = 1000 - BRIEF.waiting - 1..=1000 - BRIEF.waiting;
        assert!(expected.contains(&missed(&heard)), "{heard:?}");
    }

    #[test]
    fn a_verbose_log_has_no_limit_per_second_and_counts_too() {
        let (pipe, reader) = sync_channel(0);
        let waiting = 500;
        let lines = lines(pipe, Limits { waiting, ..VERBOSE }, END);
        tell(&lines, 1000);
        let reading = thread::spawn(move || reader.iter().collect::<Vec<_>>());
        drop(lines);
        let heard = reading.join().expect("no panic");
        let written: usize = heard.iter().map(|text| text.lines().count()).sum();
        assert_eq!(written - 1 + missed(&heard), 1000);
        assert!(written > waiting, "{written}");
    }

    #[test]
    fn queued_lines_are_written_on_drop_and_errors_are_ignored() {
        let (pipe, reader) = sync_channel(9);
        let quiet = lines(pipe, BRIEF, Duration::from_secs(60));
        tell(&quiet, 9);
        drop(quiet);
        assert_eq!(reader.try_iter().count(), 9);
        let (pipe, reader) = sync_channel(9);
        drop(reader);
        tell(&lines(pipe, BRIEF, END), 9);
    }

    #[test]
    fn the_end_does_not_wait_for_a_reader_that_never_reads() {
        let (pipe, _reader) = sync_channel(0);
        let lines = lines(pipe, BRIEF, Duration::from_millis(20));
        tell(&lines, 1000);
        lines.finish();
        tell(&lines, 1);
    }
}
