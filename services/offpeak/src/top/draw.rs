//! Draws a picture: a heading, alarms, jobs, lanes and hosts, and a line of keys; 80 by 24 is enough.

use protocol::job::JobState;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, Widget as _};

use super::view::{Column, View};
use super::{Away, Database, Host, Job, Lane, Picture, Queues, Source, numbers};
use crate::dead::plain;
use crate::terminal::grouped;
use crate::times::instant;

/// How many alarms are shown; the rest is counted.
const ALARMS: usize = 4;
/// Cells of a job's bar.
const BAR: u64 = 10;
/// Queues and hosts take no more lines than this of a small terminal.
const SMALL: u16 = 7;
const KEYS: &str = " q ends   up/down marks   </> sorts   r turns   space stops";

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const TURNED: Style = Style::new().add_modifier(Modifier::REVERSED);
const BAD: Style = Style::new().fg(Color::Red);
const GOOD: Style = Style::new().fg(Color::Green);

/// Draws all of it.
pub fn draw(picture: &Picture, view: &mut View, area: Rect, buffer: &mut Buffer) {
    let alarms = alarms(picture);
    let below = picture.below().min(SMALL.max(area.height / 3));
    let lines = |count: usize| Constraint::Length(u16::try_from(count).unwrap_or(u16::MAX));
    let parts = [lines(2), lines(alarms.len()), Constraint::Min(2), Constraint::Length(below), Constraint::Length(1)];
    let [head, alarm, jobs, below, keys] = Layout::vertical(parts).areas(area);
    heading(picture, view, head, buffer);
    Paragraph::new(alarms).render(alarm, buffer);
    draw_jobs(picture, view, jobs, buffer);
    let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).spacing(2).areas(below);
    draw_queues(&picture.broker, left, buffer);
    draw_hosts(&picture.database, right, buffer);
    Line::styled(format!("{KEYS:<width$}", width = usize::from(keys.width)), TURNED).render(keys, buffer);
}

impl Picture {
    /// How many lines all of it takes.
    pub fn height(&self) -> u16 {
        let jobs = self.database.said.as_ref().map_or(0, |said| said.jobs.len());
        let jobs = u16::try_from(jobs).unwrap_or(u16::MAX).max(1);
        let alarms = u16::try_from(alarms(self).len()).unwrap_or(0);
        let height = [jobs, 4, alarms, self.below()].iter().fold(0_u16, |sum, lines| sum.saturating_add(*lines));
        // What is below the jobs gets a third at least: see `draw`.
        height.max(self.below().saturating_mul(3))
    }

    /// How many lines the queues and the hosts take.
    fn below(&self) -> u16 {
        let queues = self.broker.said.as_ref().map_or(1, |said| said.pools.len() + 3);
        let hosts = self.database.said.as_ref().map_or(1, |said| said.hosts.len());
        u16::try_from(queues.max(hosts)).unwrap_or(u16::MAX).saturating_add(1)
    }
}

/// All of a picture as lines of text, without styles.
pub fn as_text(picture: &Picture, width: u16) -> String {
    let area = Rect::new(0, 0, width, picture.height());
    let mut buffer = Buffer::empty(area);
    draw(picture, &mut View::default(), area, &mut buffer);
    // Without the line of keys: there is nobody to press them.
    let lines = (0..area.height.saturating_sub(1)).map(|y| {
        let line: String = (0..area.width).filter_map(|x| buffer.cell((x, y))).map(ratatui::buffer::Cell::symbol).collect();
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}

fn heading(picture: &Picture, view: &View, area: Rect, buffer: &mut Buffer) {
    let state = |name: &'static str, named: bool, away: bool, said: bool| match (named, away, said) {
        (false, _, _) => Span::raw(format!("  {name} not named")),
        (true, true, _) => Span::styled(format!("  {name} AWAY"), BAD),
        (true, false, true) => Span::styled(format!("  {name} up"), GOOD),
        (true, false, false) => Span::raw(format!("  {name} ...")),
    };
    let (database, broker) = (&picture.database, &picture.broker);
    let mut first = vec![
        Span::styled("offpeak top", BOLD),
        Span::raw(format!("  {}", instant(picture.at))),
        state("database", database.named, database.away.is_some(), database.said.is_some()),
        state("broker", broker.named, broker.away.is_some(), broker.said.is_some()),
    ];
    if view.paused {
        first.push(Span::styled("  STOPPED", BOLD));
    }
    let mut second = String::new();
    if let Some(Database { jobs, hosts, rates }) = &database.said {
        let running = jobs.iter().filter(|job| job.state == JobState::Running).count();
        let (units, items) = (numbers::tenths(rates.units_per_10_s), numbers::tenths(rates.items_per_10_s));
        let fuel = numbers::short(rates.fuel_per_s);
        second = format!("{running} running  {} hosts  {units} units/s  {items} items/s  {fuel} fuel/s", hosts.len());
    }
    let dead = broker.said.as_ref().map(|said| format!("  {} dead letters", grouped(&said.parked())));
    second.push_str(&dead.unwrap_or_default());
    Paragraph::new(vec![Line::from(first), Line::raw(second)]).render(area, buffer);
}

fn alarms(picture: &Picture) -> Vec<Line<'static>> {
    let away = |name: &str, away: &Option<Away>| {
        let Away { since, reason } = away.as_ref()?;
        let (for_s, reason, since) = (picture.at.since(*since).as_secs(), plain(reason), instant(*since));
        // The time without the day: the line is short, and how long it is tells the rest.
        let since = since.get(11..19).unwrap_or(&since);
        Some(format!("{name} away since {since}, {}: {reason}", numbers::time(for_s)))
    };
    let aways = [away("database", &picture.database.away), away("broker", &picture.broker.away)].into_iter().flatten();
    let mut told: Vec<String> = aways.chain(picture.alarms.iter().map(|alarm| plain(alarm))).collect();
    let more = told.len().saturating_sub(ALARMS);
    if more > 0 {
        told.truncate(ALARMS - 1);
        told.push(format!("and {} more", more + 1));
    }
    told.into_iter().map(|alarm| Line::styled(format!("! {alarm}"), BAD)).collect()
}

fn draw_jobs(picture: &Picture, view: &mut View, area: Rect, buffer: &mut Buffer) {
    let widths = [
        Constraint::Length(13),
        Constraint::Fill(1),
        Constraint::Length(9),
        Constraint::Length(15),
        Constraint::Length(13),
        Constraint::Length(7),
        Constraint::Length(7),
    ];
    let titles = [
        ("job", Some(Column::Job)),
        ("customer", Some(Column::Customer)),
        ("state", Some(Column::State)),
        ("progress", Some(Column::Progress)),
        ("items", None),
        ("items/s", Some(Column::Rate)),
        ("eta", Some(Column::Eta)),
    ];
    let header = titles.map(|(title, column)| {
        let sorts = column == Some(view.column);
        let arrow = if !sorts {
            ""
        } else if view.turned {
            "^"
        } else {
            "v"
        };
        Cell::from(format!("{title}{arrow}")).style(if sorts { BOLD } else { Style::new() })
    });
    let Some(said) = &picture.database.said else {
        let text = if picture.database.named { "the database has said nothing yet" } else { "no database is named: --database" };
        return Paragraph::new(text).render(area, buffer);
    };
    let sorted = view.sorted(&said.jobs);
    let (mark, rows) = (view.mark(&sorted), usize::from(area.height.saturating_sub(1)));
    // As little as needed, so that what is marked is in sight.
    let first = view.first.min(mark).max((mark + 1).saturating_sub(rows)).min(sorted.len().saturating_sub(rows));
    view.first = first;
    let shown = sorted.iter().enumerate().skip(first).take(rows);
    let rows = shown.map(|(at, job)| job_row(job).style(if at == mark { TURNED } else { Style::new() }));
    Table::new(rows, widths).header(Row::new(header).style(BOLD)).render(area, buffer);
}

fn job_row(job: &Job) -> Row<'static> {
    let id = job.job.to_string();
    // The beginning of a job's id is when it was made; its end tells those of one moment apart.
    let id = format!("{}..{}", id.get(..6).unwrap_or_default(), id.get(31..).unwrap_or_default());
    let full = numbers::share(job.done, job.items, BAR);
    let bar: String = (0..BAR).map(|at| if at < full { '#' } else { '.' }).collect();
    let reduces = job.state == JobState::Running && job.stage > 0;
    let state = if reduces { format!("reduce {}", job.stage) } else { job.state.word().to_owned() };
    let items = format!("{}/{}", numbers::short(job.done), numbers::short(job.items));
    let eta = job.eta_s.map_or_else(|| "-".to_owned(), numbers::time);
    let style = if job.failed > 0 { BAD } else { Style::new() };
    Row::new([
        Cell::from(id),
        Cell::from(job.customer.to_string()),
        Cell::from(state),
        Cell::from(format!("{bar} {:>3}%", job.percent())),
        Cell::from(items).style(style),
        Cell::from(numbers::tenths(job.items_per_10_s)),
        Cell::from(eta),
    ])
}

fn draw_queues(source: &Source<Queues>, area: Rect, buffer: &mut Buffer) {
    let Some(queues) = &source.said else {
        let text = if source.named { "the broker has said nothing yet" } else { "no broker is named: --amqp" };
        return Paragraph::new(text).render(area, buffer);
    };
    let mut rows: Vec<Row<'_>> = queues.pools.iter().map(|(pool, lanes)| queue_row(format!("pool {pool}"), lanes)).collect();
    rows.push(queue_row("submissions".to_owned(), queues.submit.as_slice()));
    rows.push(queue_row("outcomes".to_owned(), &queues.outcomes));
    let dead: Vec<String> = queues.dead.iter().map(|(origin, ready)| format!("{origin} {}", grouped(ready))).collect();
    let dead = if dead.is_empty() { "-".to_owned() } else { dead.join(" ") };
    rows.push(Row::new([Cell::from("dead letters"), Cell::from(grouped(&queues.parked())), Cell::from("-"), Cell::from(dead)]));
    let widths = [Constraint::Length(14), Constraint::Length(7), Constraint::Length(9), Constraint::Fill(1)];
    let header = Row::new(["queues", "ready", "consumers", "each"]).style(BOLD);
    Table::new(rows, widths).header(header).render(area, buffer);
}

/// One line for queues that share a work: what waits in all of them, who listens, and what waits in each.
fn queue_row(name: String, lanes: &[Lane]) -> Row<'static> {
    let sum = |of: fn(&Lane) -> u32| lanes.iter().map(|lane| u64::from(of(lane))).sum::<u64>();
    let (ready, consumers) = (sum(|lane| lane.ready), sum(|lane| lane.consumers));
    let each: Vec<String> = lanes.iter().map(|lane| numbers::short(lane.ready.into())).collect();
    let style = if ready > 0 && consumers == 0 { BAD } else { Style::new() };
    let cells = [name, numbers::short(ready), consumers.to_string(), each.join(" ")];
    Row::new(cells).style(style)
}

fn draw_hosts(source: &Source<Database>, area: Rect, buffer: &mut Buffer) {
    let Some(said) = &source.said else { return };
    let mut hosts: Vec<&Host> = said.hosts.iter().collect();
    hosts.sort_by(|a, b| b.fuel_per_s.cmp(&a.fuel_per_s).then_with(|| a.host.cmp(&b.host)));
    let room = usize::from(area.height.saturating_sub(1));
    let more = if hosts.len() > room { format!("hosts, {room} of {}", hosts.len()) } else { "hosts".to_owned() };
    let row = |host: &&Host| {
        let numbers = [numbers::tenths(host.units_per_10_s), numbers::short(host.fuel_per_s), numbers::time(host.idle_s)];
        Row::new([host.host.to_string()].into_iter().chain(numbers))
    };
    let widths = [Constraint::Fill(1), Constraint::Length(7), Constraint::Length(7), Constraint::Length(6)];
    let header = Row::new([more, "units/s".to_owned(), "fuel/s".to_owned(), "idle".to_owned()]).style(BOLD);
    Table::new(hosts.iter().map(row), widths).header(header).render(area, buffer);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::tests::picture;
    use protocol::Micros;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn lines(picture: &Picture, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let mut view = View::default();
        terminal.draw(|frame| draw(picture, &mut view, frame.area(), frame.buffer_mut())).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    #[test]
    fn all_of_it_fits_80_by_24() {
        let shown = lines(&picture(), 80, 24);
        let text = shown.join("\n");
        assert!(shown[0].starts_with("offpeak top  1970-01-01T00:00:10Z  database up  broker up"), "{text}");
        assert_eq!(shown[1], "2 running  1 hosts  0.5 units/s  5.0 items/s  1.20G fuel/s  2 dead letters");
        assert!(shown[2].starts_with("! no aggregator listens on 1 of 2 shards"), "{text}");
        for part in ["acme", "##........  25%", "250/1000", "2m30s", "pool trusted", "host-a", "q ends", "statev"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(shown.iter().any(|line| line.starts_with("pool open") && line.contains("3 0")), "{text}");
    }

    #[test]
    fn what_is_away_is_named_with_since_when_and_the_rest_stays() {
        let mut away = picture();
        away.broker.heard(Micros(3_000_000), Err("connection refused\u{1b}[2J".to_owned()));
        let text = lines(&away, 120, 24).join("\n");
        assert!(text.contains("broker AWAY") && text.contains("! broker away since 00:00:03, 7s: connection refused"), "{text}");
        assert!(text.contains("pool trusted") && text.contains("acme") && !text.contains('\u{1b}'), "{text}");
        let nothing = Picture::new(Micros(0), Source::new(true), Source::new(false));
        let text = lines(&nothing, 80, 24).join("\n");
        assert!(text.contains("no broker is named") && text.contains("said nothing yet"), "{text}");
    }

    #[test]
    fn no_size_is_too_small() {
        for (width, height) in [(1, 1), (2, 3), (10, 5), (40, 8), (300, 100)] {
            lines(&picture(), width, height);
        }
    }

    #[test]
    fn as_text_nothing_is_cut_off() {
        let mut many = picture();
        let said = many.database.said.as_mut().unwrap();
        said.jobs = (0..50).flat_map(|_| said.jobs.clone()).collect();
        let text = as_text(&many, 110);
        assert_eq!(text.matches("acme").count(), 50);
        assert!(text.contains("dead letters") && text.contains("host-a") && !text.contains("q ends"), "{text}");
    }
}
