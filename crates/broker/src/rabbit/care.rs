//! How a consumer goes on after a message that cannot be read: on a connection apart, with one message at a time, and soon.
//!
//! RabbitMQ lets pass what AMQP does not allow, such as a `message_id` that is no text; reading it costs the connection. The
//! delivery limit of the queue parks it, and everything that was delivered beside it each time: so nothing must be.

use std::time::Duration;

use rand::random_range;
use tokio::time::sleep;

use super::line::Line;
use super::settings::Target;

/// Attempts that follow each other soon; more than the delivery limit of the shipped policies, which ends them. A queue without
/// a limit is tried with a growing back-off after these.
const SOON: u32 = 40;
/// The pause between such attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// What a consumer knows of unreadable messages in its queue.
pub(super) struct Care {
    /// A connection of its own, once it was needed.
    apart: Option<Line>,
    /// Deliveries still to be taken one at a time.
    singly: u16,
    /// Attempts in a row that found the unreadable again.
    attempts: u32,
}

impl Care {
    pub(super) fn new() -> Self {
        Self { apart: None, singly: 0, attempts: 0 }
    }

    /// A delivery could not be read. As many as came with it are taken one at a time from now on; whether that is new.
    pub(super) fn unreadable(&mut self, prefetch: u16, target: &Target) -> bool {
        self.apart.get_or_insert_with(|| Line::new(target.clone(), "consume apart"));
        self.attempts = self.attempts.saturating_add(1);
        std::mem::replace(&mut self.singly, prefetch) == 0
    }

    /// A delivery was read; whether it was the last to be taken by itself.
    pub(super) fn read(&mut self) -> bool {
        self.attempts = 0;
        let last = self.singly == 1;
        self.singly = self.singly.saturating_sub(1);
        last
    }

    /// The connection to be used instead of that of all consumers, if there is need.
    pub(super) fn line(&self) -> Option<&Line> {
        self.apart.as_ref().filter(|_| self.singly > 0)
    }

    /// Waits for the next attempt if it is to be soon; whether it is.
    pub(super) async fn pause(&self) -> bool {
        let is_soon = (1..=SOON).contains(&self.attempts);
        if is_soon {
            sleep(PAUSE.mul_f64(random_range(0.5..=1.0))).await;
        }
        is_soon
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::RabbitSettings;
    use super::*;

    #[test]
    fn as_many_as_came_at_once_are_taken_one_at_a_time() {
        let target = Target::new(&RabbitSettings::new("amqp://broker")).unwrap();
        let mut care = Care::new();
        assert!(!care.read() && care.line().is_none(), "nothing was unreadable");
        assert!(care.unreadable(3, &target) && !care.unreadable(3, &target), "it is new once");
        assert_eq!([care.read(), care.read()], [false, false]);
        assert!(!care.unreadable(3, &target) && care.line().is_some(), "another one, before that was over");
        assert_eq!([care.read(), care.read(), care.read(), care.read()], [false, false, true, false]);
        assert!(care.line().is_none());
        assert!(care.unreadable(3, &target));
    }
}
