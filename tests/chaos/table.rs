//! The table: what each fault did, over all rounds.

use std::fmt::Write as _;
use std::time::Duration;

use crate::load::Balance;

/// One fault's row.
#[derive(Debug)]
struct Row {
    fault: &'static str,
    lost: u64,
    duplicated: u64,
    recoveries: Vec<Duration>,
}

/// Fault by fault, in the order in which they came first.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Notes one round.
    pub(crate) fn note(&mut self, fault: &'static str, recovery: Duration, balance: Balance) {
        if !self.rows.iter().any(|row| row.fault == fault) {
            self.rows.push(Row { fault, lost: 0, duplicated: 0, recoveries: Vec::new() });
        }
        let row = self.rows.iter_mut().find(|row| row.fault == fault).expect("just made");
        row.lost += balance.lost;
        row.duplicated += balance.duplicated;
        row.recoveries.push(recovery);
    }

    /// Whether nothing was lost and nothing done twice.
    pub(crate) fn is_clean(&self) -> bool {
        self.rows.iter().all(|row| row.lost == 0 && row.duplicated == 0)
    }

    /// As Markdown.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from("| fault | rounds | lost | duplicated effects | recovery p50 s | recovery max s |\n");
        text.push_str("| --- | ---: | ---: | ---: | ---: | ---: |\n");
        for Row { fault, lost, duplicated, recoveries } in &self.rows {
            let mut sorted = recoveries.clone();
            sorted.sort();
            let (middle, max) = (sorted[(sorted.len() - 1) / 2].as_secs_f64(), sorted[sorted.len() - 1].as_secs_f64());
            let rounds = sorted.len();
            writeln!(text, "| {fault} | {rounds} | {lost} | {duplicated} | {middle:.1} | {max:.1} |").expect("a text");
        }
        text
    }
}
