//! What the watcher has chosen: which job is marked, how the jobs are sorted, whether the view stands still.

use std::cmp::{Ordering, Reverse};

use protocol::JobId;
use protocol::job::JobState;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::Job;

/// By which column jobs are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Their age, the youngest first.
    Job,
    /// Their customer.
    Customer,
    /// Their state, running ones first.
    State,
    /// How far they are, the furthest first.
    Progress,
    /// Their rate, the fastest first.
    Rate,
    /// The time they have left, the shortest first.
    Eta,
}

impl Column {
    /// All of them, as they stand from left to right.
    pub const ALL: [Self; 6] = [Self::Job, Self::Customer, Self::State, Self::Progress, Self::Rate, Self::Eta];

    fn next(self, steps: usize) -> Self {
        let at = Self::ALL.iter().position(|column| *column == self).unwrap_or(0);
        Self::ALL[(at + steps) % Self::ALL.len()]
    }

    fn order(self, a: &Job, b: &Job) -> Ordering {
        let running = |job: &Job| job.state != JobState::Running;
        match self {
            Self::Job => b.job.cmp(&a.job),
            Self::Customer => a.customer.cmp(&b.customer),
            Self::State => running(a).cmp(&running(b)),
            Self::Progress => b.percent().cmp(&a.percent()),
            Self::Rate => b.items_per_10_s.cmp(&a.items_per_10_s),
            Self::Eta => a.eta_s.unwrap_or(u64::MAX).cmp(&b.eta_s.unwrap_or(u64::MAX)),
        }
    }
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To see it as it is now.
    Stay,
    /// To end.
    End,
    /// To end as Ctrl-C does.
    Interrupt,
}

/// What the watcher has chosen.
#[derive(Debug, Clone)]
pub struct View {
    /// The column that sorts.
    pub column: Column,
    /// Whether the order is turned.
    pub turned: bool,
    /// Whether the view stands still.
    pub paused: bool,
    /// The job that is marked: it stays marked when others come before it.
    marked: Option<JobId>,
    /// The first job in sight.
    pub first: usize,
}

impl Default for View {
    fn default() -> Self {
        Self { column: Column::State, turned: false, paused: false, marked: None, first: 0 }
    }
}

impl View {
    /// The jobs in the order that was chosen; among equals the youngest first.
    pub fn sorted<'a>(&self, jobs: &'a [Job]) -> Vec<&'a Job> {
        let mut sorted: Vec<&Job> = jobs.iter().collect();
        sorted.sort_by_key(|job| Reverse(job.job));
        sorted.sort_by(|a, b| if self.turned { self.column.order(b, a) } else { self.column.order(a, b) });
        sorted
    }

    /// Which of the sorted jobs is marked.
    pub fn mark(&self, sorted: &[&Job]) -> usize {
        sorted.iter().position(|job| Some(job.job) == self.marked).unwrap_or(0)
    }

    /// Takes a key.
    pub fn key(&mut self, key: KeyEvent, jobs: &[Job]) -> Wish {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Wish::Interrupt } else { Wish::Stay };
        }
        #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is not ours; other keys mean nothing")]
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Wish::End,
            KeyCode::Up | KeyCode::Char('k') => self.step(jobs, |at| at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.step(jobs, |at| at + 1),
            KeyCode::PageUp => self.step(jobs, |at| at.saturating_sub(10)),
            KeyCode::PageDown => self.step(jobs, |at| at + 10),
            KeyCode::Home => self.step(jobs, |_| 0),
            KeyCode::End => self.step(jobs, |_| usize::MAX),
            KeyCode::Right | KeyCode::Char('>' | 's') => self.column = self.column.next(1),
            KeyCode::Left | KeyCode::Char('<') => self.column = self.column.next(Column::ALL.len() - 1),
            KeyCode::Char('r') => self.turned = !self.turned,
            KeyCode::Char(' ') => self.paused = !self.paused,
            _ => {}
        }
        Wish::Stay
    }

    fn step(&mut self, jobs: &[Job], to: impl Fn(usize) -> usize) {
        let sorted = self.sorted(jobs);
        let at = to(self.mark(&sorted)).min(sorted.len().saturating_sub(1));
        self.marked = sorted.get(at).map(|job| job.job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::tests::picture;

    fn press(view: &mut View, jobs: &[Job], code: KeyCode) -> Wish {
        view.key(KeyEvent::new(code, KeyModifiers::NONE), jobs)
    }

    #[test]
    fn keys_sort_mark_and_end() {
        let jobs = picture().database.said.unwrap().jobs;
        let mut view = View::default();
        let customers = |view: &View| view.sorted(&jobs).iter().map(|job| job.customer.to_string()).collect::<Vec<_>>();
        assert_eq!(customers(&view), ["acme", "zeta"], "both run, and acme is the younger one");
        for (code, column) in
            [(KeyCode::Right, Column::Progress), (KeyCode::Char('s'), Column::Rate), (KeyCode::Left, Column::Progress)]
        {
            assert_eq!(press(&mut view, &jobs, code), Wish::Stay);
            assert_eq!(view.column, column);
        }
        assert_eq!(customers(&view), ["zeta", "acme"]);
        press(&mut view, &jobs, KeyCode::Down);
        assert_eq!(view.mark(&view.sorted(&jobs)), 1);
        press(&mut view, &jobs, KeyCode::Char('r'));
        assert_eq!((customers(&view), view.mark(&view.sorted(&jobs))), (vec!["acme".to_owned(), "zeta".to_owned()], 0));
        press(&mut view, &jobs, KeyCode::End);
        press(&mut view, &jobs, KeyCode::PageDown);
        assert_eq!(view.mark(&view.sorted(&jobs)), 1);
        press(&mut view, &[], KeyCode::Up);
        assert_eq!(press(&mut view, &jobs, KeyCode::Char('q')), Wish::End);
        assert_eq!(view.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), &jobs), Wish::Interrupt);
    }
}
