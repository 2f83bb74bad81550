//! The log writer: lines go into memory first, and from there to standard error on a separate
//! thread. Logging never waits and never fails: a pipe that nobody reads, a reader that is gone and
//! a full disk lose lines, which are counted, and nothing else.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait to be written; what comes while there are more is lost.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// Of a line of text; the rest is cut off.
const LINE_BYTES_MAX: usize = 32 << 10;
/// Room that is kept between batches.
const KEPT_BYTES: usize = 64 << 10;
/// How soon a pipe that does not block is tried again when it is full.
const FULL_PIPE_RETRY: Duration = Duration::from_millis(20);

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// The thread is writing what it has taken.
    is_writing: bool,
}

impl Lines {
    /// Lines that the thread writes to `to` for as long as the process lives.
    pub(super) fn start(to: impl Write + Send + 'static) -> io::Result<Arc<Self>> {
        let lines = Arc::new(Self::default());
        let thread = lines.clone();
        std::thread::Builder::new().name("crux-log".to_owned()).spawn(move || thread.run(to))?;
        Ok(lines)
    }

    /// How many were lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until everything is written, up to this time.
    pub(super) fn flush(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut state = self.lock();
        while state.is_writing || !state.waiting.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.written.wait_timeout(state, left);
            (state, _) = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() + line.len() > WAITING_BYTES_MAX {
            drop(state);
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.waiting.extend_from_slice(line);
        drop(state);
        self.filled.notify_one();
    }

    fn run(&self, mut to: impl Write) {
        let mut batch = Vec::new();
        let mut reported = 0;
        let mut failure = None;
        // A write that fails may leave the beginning of a line behind.
        let mut is_mid_line = false;
        loop {
            batch.clear();
            batch.shrink_to(KEPT_BYTES);
            self.take(&mut batch);
            if is_mid_line {
                batch.insert(0, b'\n');
            }
            match write(&mut to, &batch) {
                Ok(()) => {
                    is_mid_line = false;
                    let lost = self.lost();
                    if lost > reported {
                        let reason = failure
                            .take()
                            .unwrap_or_else(|| "the log was not read fast enough".to_owned());
                        warn!(
                            lines = lost - reported,
                            reason, "log writable again; lines were lost"
                        );
                        reported = lost;
                    }
                }
                Err((written, error)) => {
                    let rest = if written == 0 { batch.strip_prefix(b"\n") } else { None };
                    let rest = rest.unwrap_or(&batch[written..]);
                    let lost = rest.iter().filter(|byte| **byte == b'\n').count();
                    self.lost.fetch_add(u64::try_from(lost).unwrap_or(u64::MAX), Ordering::Relaxed);
                    is_mid_line = match written {
                        0 => is_mid_line,
                        _ => batch[written - 1] != b'\n',
                    };
                    failure = Some(error.to_string());
                }
            }
        }
    }

    /// Waits for lines, and takes all that there are.
    fn take(&self, batch: &mut Vec<u8>) {
        let mut state = self.lock();
        state.is_writing = false;
        self.written.notify_all();
        while state.waiting.is_empty() {
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut state.waiting, batch);
        state.is_writing = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error: how much was written before it.
fn write(to: &mut impl Write, batch: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < batch.len() {
        match to.write(&batch[written..]) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(FULL_PIPE_RETRY)
            }
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

/// What a line may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// JSON hides control characters itself.
    Json,
    /// Text in which only the formatter's colours may control a terminal.
    Coloured,
    Plain,
}

/// Makes a writer for each event.
#[derive(Debug, Clone)]
pub(super) struct ToLines {
    pub(super) lines: Arc<Lines>,
    pub(super) content: Content,
}

impl<'a> MakeWriter<'a> for ToLines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// The formatter writes an event in one go.
#[derive(Debug)]
pub(super) struct Line<'a>(&'a ToLines);

impl Write for Line<'_> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        match self.0.content {
            Content::Json => self.0.lines.push(event),
            content => self.0.lines.push(&one_line(event, content == Content::Coloured)),
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An event as one line of bounded length: values of clients must not look like lines of the log,
/// nor control a terminal.
fn one_line(event: &[u8], keeps_colours: bool) -> Cow<'_, [u8]> {
    let text = event.strip_suffix(b"\n").unwrap_or(event);
    let is_plain = |byte: &u8| (b' '..0x7f).contains(byte) || (keeps_colours && *byte == 0x1b);
    if text.len() <= LINE_BYTES_MAX && text.iter().all(is_plain) {
        return Cow::Borrowed(event);
    }
    let mut line = String::with_capacity(text.len().min(LINE_BYTES_MAX) + 64);
    let text = String::from_utf8_lossy(text);
    for c in text.chars() {
        if line.len() >= LINE_BYTES_MAX {
            line.push_str(&format!("… (cut off: {} bytes)", text.len()));
            break;
        }
        match c {
            '\x1b' if keeps_colours => line.push(c),
            // Separators of lines and paragraphs: some programs begin a new line there.
            '\u{2028}' | '\u{2029}' => line.extend(c.escape_unicode()),
            _ if c.is_control() => line.extend(c.escape_default()),
            _ => line.push(c),
        }
    }
    line.push('\n');
    Cow::Owned(line.into_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const ENOUGH: Duration = Duration::from_secs(10);

    /// Accepts writes when the test allows it, or fails.
    struct Pipe {
        steps: mpsc::Receiver<Result<usize, io::ErrorKind>>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Without a step: as a pipe that is read.
            let n = self.steps.recv().unwrap_or(Ok(usize::MAX))?.min(bytes.len());
            self.taken.lock().unwrap().extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_pipe_that_nobody_reads_holds_up_nobody_and_costs_what_does_not_fit() {
        let (step, steps) = mpsc::channel();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let lines = Lines::start(Pipe { steps, taken: taken.clone() }).unwrap();
        let line = [vec![b'x'; 1023], vec![b'\n']].concat();
        let sent = 3 * WAITING_BYTES_MAX / line.len();
        for _ in 0..sent {
            lines.push(&line);
        }
        let lost = usize::try_from(lines.lost()).unwrap();
        assert!(lost >= sent / 3, "{lost} of {sent}");
        lines.flush(Duration::from_millis(1));
        drop(step);
        lines.flush(ENOUGH);
        assert_eq!(taken.lock().unwrap().len(), (sent - lost) * line.len());
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_the_next_ones_begin_anew() {
        let (step, steps) = mpsc::channel();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let lines = Lines::start(Pipe { steps, taken: taken.clone() }).unwrap();
        step.send(Ok(2)).unwrap();
        step.send(Err(io::ErrorKind::StorageFull)).unwrap();
        lines.push(b"first\n");
        lines.flush(ENOUGH);
        assert_eq!(lines.lost(), 1);
        for kind in [io::ErrorKind::BrokenPipe, io::ErrorKind::StorageFull] {
            step.send(Err(kind)).unwrap();
            lines.push(b"lost\n");
            lines.flush(ENOUGH);
        }
        assert_eq!(lines.lost(), 3);
        drop(step);
        lines.push(b"last\n");
        lines.flush(ENOUGH);
        assert_eq!(String::from_utf8_lossy(&taken.lock().unwrap()), "fi\nlast\n");
    }

    #[test]
    fn an_event_is_one_line_and_controls_no_terminal() {
        let of = |event: &str, colours| {
            String::from_utf8(one_line(event.as_bytes(), colours).into_owned()).unwrap()
        };
        assert_eq!(of("plain\n", false), "plain\n");
        assert_eq!(
            of("a\nERROR b\r\x1b[2J\u{85}\u{2028}é\n", false),
            "a\\nERROR b\\r\\u{1b}[2J\\u{85}\\u{2028}é\n"
        );
        assert_eq!(of("\x1b[31mred\x1b[0m\n", true), "\x1b[31mred\x1b[0m\n");
        let long = of(&"ä".repeat(1 << 20), false);
        assert!(long.len() < LINE_BYTES_MAX + 64 && long.ends_with("… (cut off: 2097152 bytes)\n"));
    }
}
