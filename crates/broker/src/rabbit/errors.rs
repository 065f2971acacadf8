//! What lapin's errors mean to us: refused by the broker, or a connection to be built anew.

use lapin::{Error, ErrorKind};

/// AMQP's reply codes that a retry does not heal.
pub(super) const ACCESS_REFUSED: u16 = 403;
/// No such exchange or queue.
pub(super) const NOT_FOUND: u16 = 404;
/// Exclusive to another connection.
pub(super) const RESOURCE_LOCKED: u16 = 405;
/// It is there, but different; or the message is not acceptable.
pub(super) const PRECONDITION_FAILED: u16 = 406;

/// A frame that is none, or too large.
const FRAME_ERROR: u16 = 501;

/// A refusal in the broker's words; `None` if the connection or channel was merely lost.
pub(super) fn refusal(error: &Error) -> Option<(u16, String)> {
    if let ErrorKind::ProtocolError(amqp) = error.kind()
        && error.is_amqp_soft_error()
    {
        return Some((amqp.get_id(), amqp.get_message().to_string()));
    }
    None
}

/// Whether something came that is no AMQP, or more than was agreed on, which ends the connection.
pub(super) fn is_unreadable(error: &Error) -> bool {
    let kind = error.kind();
    matches!(kind, ErrorKind::ParsingError(_)) || matches!(kind, ErrorKind::ProtocolError(amqp) if amqp.get_id() == FRAME_ERROR)
}

/// What an operator can do about a refusal.
pub(super) fn way_out(code: u16) -> &'static str {
    match code {
        ACCESS_REFUSED => "grant the right with rabbitmqctl set_permissions",
        NOT_FOUND => "start a producer first, which declares the topology",
        RESOURCE_LOCKED => "another connection owns it; is a second worker running under the same host id?",
        PRECONDITION_FAILED => "it exists but differs, or the message is not acceptable to the broker",
        _ => "see the broker's log",
    }
}
