//! What a play does, line by line: what goes to the store and comes back, what is handed out, said
//! and asked. Two plays of one seed are the same, to the letter; otherwise a failure found by
//! chance could not be had again from its seed.

use std::fmt;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    life: u64,
    born: Option<Instant>,
}

impl Trace {
    /// A process begins, in its own runtime.
    pub fn begin(&self, life: u64) {
        let mut lines = self.0.lock().expect("no test panics with the lock held");
        (lines.life, lines.born) = (life, Some(Instant::now()));
    }

    pub fn note(&self, what: fmt::Arguments<'_>) {
        let mut lines = self.0.lock().expect("no test panics with the lock held");
        let at = lines.born.map_or(0, |born| born.elapsed().as_micros());
        let line = format!("life {} {at:>9} us  {what}", lines.life);
        lines.lines.push(line);
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no test panics with the lock held").lines)
    }
}

/// The first line in which two traces differ.
pub fn compare(first: &[String], second: &[String]) -> Result<(), String> {
    let differs = (0..first.len().max(second.len())).find(|n| first.get(*n) != second.get(*n));
    let Some(n) = differs else { return Ok(()) };
    let line = |lines: &[String]| lines.get(n).map_or("(it has ended)".to_owned(), Clone::clone);
    Err(format!(
        "played twice, it differs in line {} of its trace:\nonce:  {}\ntwice: {}",
        n + 1,
        line(first),
        line(second)
    ))
}
