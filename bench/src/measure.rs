//! What is measured, apart from wall time: CPU time, memory and written bytes of a process, read
//! from /proc, and percentiles of latencies. Where there is no /proc the figures are absent, never
//! guessed.

use std::fs;
use std::time::Duration;

/// Clock ticks of `/proc/<pid>/stat` per second: fixed by Linux's interface to user space.
const TICKS_PER_S: u64 = 100;

/// A process to be measured.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    pid: u32,
}

impl Process {
    pub fn own() -> Self {
        Self { pid: std::process::id() }
    }

    pub fn of(child: &std::process::Child) -> Self {
        Self { pid: child.id() }
    }

    pub fn with_id(pid: u32) -> Self {
        Self { pid }
    }

    fn file(self, name: &str) -> Option<String> {
        fs::read_to_string(format!("/proc/{}/{name}", self.pid)).ok()
    }

    /// User and system time since the process began, in steps of 10 ms.
    pub fn cpu(self) -> Option<Duration> {
        self.times(11)
    }

    /// The same of its children that have ended and were waited for, and of theirs.
    pub fn cpu_of_children(self) -> Option<Duration> {
        self.times(13)
    }

    /// Two neighbouring fields of `stat`, counted from behind the command's name, as one time.
    fn times(self, first: usize) -> Option<Duration> {
        let stat = self.file("stat")?;
        // The second field is the command's name in brackets and may hold anything.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace().skip(first);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some(Duration::from_millis((user + system) * 1000 / TICKS_PER_S))
    }

    /// Memory that is its own or shared and really there, in bytes: what `ps` calls RSS.
    pub fn resident_bytes(self) -> Option<u64> {
        let status = self.file("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib * 1024)
    }

    /// Bytes that the process has caused to be written to disks.
    pub fn written_bytes(self) -> Option<u64> {
        let io = self.file("io")?;
        io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()
    }
}

/// CPU time and written bytes between two moments.
#[derive(Debug)]
pub struct Meter {
    process: Process,
    cpu: Option<Duration>,
    written: Option<u64>,
}

impl Meter {
    pub fn begin(process: Process) -> Self {
        Self { process, cpu: process.cpu(), written: process.written_bytes() }
    }

    /// CPU microseconds per unit of work so far.
    pub fn cpu_us_per(&self, units: u64) -> Option<f64> {
        let spent = self.process.cpu()?.checked_sub(self.cpu?)?;
        Some(spent.as_secs_f64() * 1e6 / units.max(1) as f64)
    }

    /// Bytes written per unit of work so far.
    pub fn written_per(&self, units: u64) -> Option<f64> {
        let spent = self.process.written_bytes()?.checked_sub(self.written?)?;
        Some(spent as f64 / units.max(1) as f64)
    }
}

/// Latencies of single pieces of work.
#[derive(Debug, Default)]
pub struct Latencies {
    sorted: bool,
    taken: Vec<Duration>,
}

impl Latencies {
    pub fn add(&mut self, taken: Duration) {
        self.sorted = false;
        self.taken.push(taken);
    }

    /// Those of several lanes as one.
    pub fn all(lanes: Vec<Latencies>) -> Self {
        lanes.into_iter().flat_map(|lane| lane.taken).collect()
    }

    pub fn len(&self) -> usize {
        self.taken.len()
    }

    /// In milliseconds; `share` 0.5 is the median, 1.0 the longest. Nothing measured is nothing
    /// known.
    pub fn ms_at(&mut self, share: f64) -> Option<f64> {
        if !self.sorted {
            self.taken.sort_unstable();
            self.sorted = true;
        }
        let last = self.taken.len().checked_sub(1)?;
        let place = (share * last as f64).round() as usize;
        self.taken.get(place.min(last)).map(|taken| taken.as_secs_f64() * 1e3)
    }
}

impl FromIterator<Duration> for Latencies {
    fn from_iter<I: IntoIterator<Item = Duration>>(taken: I) -> Self {
        Self { sorted: false, taken: taken.into_iter().collect() }
    }
}

/// The median of several runs; 0 for none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (Some(upper), 0) => {
            values.get(middle.wrapping_sub(1)).map_or(*upper, |lower| (lower + upper) / 2.0)
        }
        (Some(value), _) => *value,
        (None, _) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_take_the_nearest_value() {
        let mut latencies: Latencies = (1..=1001).rev().map(Duration::from_secs).collect();
        assert_eq!(latencies.ms_at(0.5), Some(501_000.0));
        assert_eq!(latencies.ms_at(0.99), Some(991_000.0));
        assert_eq!(latencies.ms_at(1.0), Some(1_001_000.0));
        assert_eq!(Latencies::default().ms_at(0.5), None);
    }

    #[test]
    fn an_even_number_of_runs_has_its_median_between_the_middle_two() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(
            Process::own()
                .resident_bytes()
                .is_some_and(|bytes| (1 << 20..1 << 32).contains(&bytes))
        );
    }

    #[test]
    fn work_costs_cpu_time_of_this_process() {
        let meter = Meter::begin(Process::own());
        let begun = std::time::Instant::now();
        // On a busy machine it takes a while until this process gets so much.
        let has_cost = || meter.cpu_us_per(1).is_some_and(|us| us >= 20_000.0);
        while !has_cost() && begun.elapsed() < Duration::from_secs(120) {
            std::hint::spin_loop();
        }
        assert!(has_cost());
    }
}
