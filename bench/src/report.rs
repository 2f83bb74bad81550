//! The table: one row per figure, with its floor, the ratio, the goal and the CPU time beside it.
//! Printed as Markdown, so that it can stand in docs/benchmarks.md as it is.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::measure::median;

/// A measured number and what it counts.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    pub value: f64,
    pub unit: &'static str,
}

/// What the figure should be.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// At least this share of the floor.
    FloorAtLeast(f64),
    /// At most so many times the floor.
    FloorAtMost(f64),
}

#[derive(Debug, Clone)]
pub struct Row {
    pub what: String,
    pub figure: Figure,
    /// The lowest and highest of several runs.
    pub range: Option<(f64, f64)>,
    /// In the figure's unit.
    pub floor: Option<f64>,
    pub goals: Vec<Goal>,
    /// CPU microseconds per step (or per piece of work where there are no steps).
    pub cpu_us: Option<f64>,
}

impl Row {
    /// Of the median of several runs.
    pub fn of_runs(what: impl Into<String>, unit: &'static str, runs: &[f64]) -> Self {
        let lowest = runs.iter().copied().reduce(f64::min);
        let highest = runs.iter().copied().reduce(f64::max);
        let range = if runs.len() > 1 { lowest.zip(highest) } else { None };
        let figure = Figure { value: median(runs.to_vec()), unit };
        Self { what: what.into(), figure, range, floor: None, goals: Vec::new(), cpu_us: None }
    }

    /// Of something that is measured once: a figure that comes out of many pieces of work already.
    pub fn once(what: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self::of_runs(what, unit, &[value])
    }

    pub fn floor(mut self, runs: &[f64]) -> Self {
        self.floor = (!runs.is_empty()).then(|| median(runs.to_vec()));
        self
    }

    pub fn goal(mut self, goal: Goal) -> Self {
        self.goals.push(goal);
        self
    }

    pub fn cpu(mut self, runs: &[f64]) -> Self {
        self.cpu_us = (!runs.is_empty()).then(|| median(runs.to_vec()));
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.floor.filter(|floor| *floor > 0.0).map(|floor| self.figure.value / floor)
    }

    /// Every goal, and whether it is met; unknown without its floor.
    pub fn verdicts(&self) -> impl Iterator<Item = (String, Option<bool>)> {
        self.goals.iter().map(|goal| match *goal {
            Goal::AtLeast(least) => {
                (format!("≥ {}", number(least)), Some(self.figure.value >= least))
            }
            Goal::AtMost(most) => (format!("≤ {}", number(most)), Some(self.figure.value <= most)),
            Goal::FloorAtLeast(share) => {
                (format!("≥ {share:.2} × floor"), self.ratio().map(|ratio| ratio >= share))
            }
            Goal::FloorAtMost(times) => {
                (format!("≤ {times:.2} × floor"), self.ratio().map(|ratio| ratio <= times))
            }
        })
    }

    fn verdict(&self) -> String {
        let marked = self.verdicts().map(|(text, met)| match met {
            Some(true) => format!("{text} ✓"),
            Some(false) => format!("{text} ✗"),
            None => text,
        });
        marked.collect::<Vec<_>>().join(", ")
    }

    fn json(&self) -> Value {
        json!({
            "workload": self.what,
            "figure": self.figure.value,
            "unit": self.figure.unit,
            "lowest": self.range.map(|(lowest, _)| lowest),
            "highest": self.range.map(|(_, highest)| highest),
            "floor": self.floor,
            "ratio": self.ratio(),
            "goals": self.verdicts().map(|(goal, met)| json!({"goal": goal, "met": met})).collect::<Vec<_>>(),
            "cpu_us": self.cpu_us,
        })
    }

    fn cells(&self) -> [String; 6] {
        let range = self.range.map_or(String::new(), |(lowest, highest)| {
            format!(" ({}–{})", number(lowest), number(highest))
        });
        [
            self.what.clone(),
            format!("{} {}{range}", number(self.figure.value), self.figure.unit),
            self.floor.map_or(String::new(), number),
            self.ratio().map_or(String::new(), |ratio| format!("{ratio:.2}")),
            self.verdict(),
            self.cpu_us.map_or(String::new(), |us| format!("{us:.1}")),
        ]
    }
}

/// A number of things as people write it: `100,000`.
pub fn count(things: usize) -> String {
    grouped(things.to_string())
}

/// With three digits that matter, and thousands kept apart.
fn number(value: f64) -> String {
    if value.abs() >= 100.0 {
        let sign = if value < 0.0 { "-" } else { "" };
        format!("{sign}{}", grouped(format!("{:.0}", value.abs())))
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn grouped(digits: String) -> String {
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

const HEADINGS: [&str; 6] =
    ["workload", "figure (lowest–highest)", "floor", "ratio", "goal", "CPU µs"];

/// The rows as a Markdown table with aligned columns.
pub fn table(rows: &[Row]) -> String {
    let lines: Vec<[String; 6]> =
        std::iter::once(HEADINGS.map(str::to_owned)).chain(rows.iter().map(Row::cells)).collect();
    let mut widths = [0; 6];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for (n, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(widths) {
            let padding = " ".repeat(width - cell.chars().count());
            // Writing to a String cannot fail.
            let _ = write!(text, "| {cell}{padding} ");
        }
        text.push_str("|\n");
        if n == 0 {
            widths.iter().for_each(|width| text.push_str(&format!("|{}", "-".repeat(width + 2))));
            text.push_str("|\n");
        }
    }
    text
}

/// The rows for programs: an array of objects; what is not known is null.
pub fn json(rows: &[Row]) -> Value {
    rows.iter().map(Row::json).collect()
}

/// How many goals there are, and how many of them are met.
pub fn goals(rows: &[Row]) -> (usize, usize) {
    let verdicts = || rows.iter().flat_map(Row::verdicts);
    (verdicts().count(), verdicts().filter(|(_, met)| *met == Some(true)).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_figure_floor_ratio_and_whether_the_goal_is_met() {
        let row = Row::of_runs("256 in flight", "steps/s", &[150_000.0, 149_000.0, 152_000.0])
            .floor(&[200_000.0])
            .goal(Goal::AtLeast(150_000.0))
            .goal(Goal::FloorAtLeast(0.8))
            .cpu(&[9.5]);
        let table = table(std::slice::from_ref(&row));
        let line = table.lines().nth(2).unwrap_or_default();
        assert_eq!(
            line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>(),
            [
                "256 in flight",
                "150,000 steps/s (149,000–152,000)",
                "200,000",
                "0.75",
                "≥ 150,000 ✓, ≥ 0.80 × floor ✗",
                "9.5"
            ]
        );
        assert_eq!((count(20), count(1_000_000)), ("20".to_owned(), "1,000,000".to_owned()));
        assert_eq!(goals(std::slice::from_ref(&row)), (2, 1));
        assert_eq!(json(&[row])[0]["goals"][1], json!({"goal": "≥ 0.80 × floor", "met": false}));
    }
}
