//! The live view: keys and frames on one thread; the terminal is given back whatever happens.

use std::io;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use service::CancellationToken;
use tokio::sync::watch;

use super::Picture;
use super::draw::draw;
use super::view::{View, Wish};

/// How soon a new picture or a stop signal is seen; a key is at once.
const TICK: Duration = Duration::from_millis(100);

/// A terminal taken over; given back when dropped. A panic gives it back before its message is written.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Shows pictures until a key ends it, or it is stopped; what was wished.
pub fn show(pictures: &mut watch::Receiver<Picture>, stopped: &CancellationToken) -> io::Result<Wish> {
    let mut screen = Screen::take()?;
    let (mut view, mut picture) = (View::default(), pictures.borrow().clone());
    let mut changed = true;
    while !stopped.is_cancelled() {
        if !view.paused && pictures.has_changed().unwrap_or(false) {
            picture = pictures.borrow_and_update().clone();
            changed = true;
        }
        if std::mem::take(&mut changed) {
            screen.0.draw(|frame| draw(&picture, &mut view, frame.area(), frame.buffer_mut()))?;
        }
        if !event::poll(TICK)? {
            continue;
        }
        // A key or another size.
        changed = true;
        if let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
        {
            let jobs = picture.database.said.as_ref().map_or(&[][..], |said| &said.jobs);
            match view.key(key, jobs) {
                Wish::Stay => {}
                wish @ (Wish::End | Wish::Interrupt) => return Ok(wish),
            }
        }
    }
    Ok(Wish::Stay)
}
