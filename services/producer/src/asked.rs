//! A request's sender and properties, and the answers to it.
//!
//! An answer's `message_id` is derived from the request's sender, `message_id` and `correlation_id` and from what the
//! answer says: a request that is delivered again is answered again under the same ids, which its customer knows then;
//! the same question under another correlation has an answer of its own. The outbox keeps an id only until its message
//! is sent, so it is this that makes a second answer harmless, not the store.

use ports::broker::Properties;
use ports::store::{OutboxMessage, StoreError};
use protocol::job::JobSpec;
use protocol::problem::{Code, FieldError, Problem, Refused};
use protocol::{CodecError, CustomerName, Digest, Format, Message};

use crate::standing::Standing;

/// Of each text of a problem a customer gets so many bytes, and so many of its mistakes: what it sent cannot make the answer too large.
const MAX_PROBLEM_TEXT: usize = 16 << 10;
const MAX_MISTAKES: usize = 50;
/// How problems are written to those who speak JSON (RFC 9457).
const PROBLEM_JSON: &str = "application/problem+json";

/// Who asks, and what the request says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Who.
    pub(crate) customer: CustomerName,
    /// The request's key; empty if it has none.
    pub(crate) message_id: String,
    /// The customer's own key, echoed on every answer.
    pub(crate) correlation_id: Option<String>,
    /// W3C trace context.
    pub(crate) traceparent: Option<String>,
    /// How answers are written.
    pub(crate) format: Format,
    /// What the customer may use, and uses.
    pub(crate) standing: Standing,
}

/// What is written for the customer when a request was done.
pub(crate) type Answer = Vec<OutboxMessage>;

/// Why a request was not done.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It is wrong: told to the customer.
    Problem(Box<Problem>),
    /// A blob is not here, and may still be under way in another producer; what is to be told if it does not come.
    Absent {
        /// The blob.
        digest: Digest,
        /// What is to be told.
        problem: Box<Problem>,
    },
    /// An app that was not published yet: that takes long, and is done apart.
    Unpublished {
        /// The app.
        app: Digest,
    },
    /// The store is away: tried again.
    Store(StoreError),
}

impl Asked {
    /// Reads what a request says of itself. A content type that cannot be read is answered in the grid's own format.
    pub(crate) fn new(customer: CustomerName, properties: &Properties, standing: Standing) -> Self {
        Self {
            customer,
            message_id: properties.message_id.clone(),
            correlation_id: properties.correlation_id.clone(),
            traceparent: properties.traceparent.clone().filter(|trace| is_trace(trace)),
            format: Format::from_content_type(properties.content_type.as_deref()).unwrap_or(Format::MessagePack),
            standing,
        }
    }

    /// An answer.
    pub(crate) fn answer<M: Message>(&self, message: &M) -> Result<OutboxMessage, CodecError> {
        let body = message.to_bytes(self.format)?;
        Ok(OutboxMessage {
            id: self.id_of(M::KIND, &body),
            customer: self.customer.clone(),
            kind: M::KIND.to_owned(),
            content_type: self.format.content_type().to_owned(),
            correlation_id: self.correlation_id.clone(),
            traceparent: self.traceparent.clone(),
            body,
        })
    }

    /// The answer to a request of that kind that was refused.
    pub(crate) fn refused(&self, kind: &str, problem: Problem) -> Result<OutboxMessage, CodecError> {
        let problem = bounded(problem);
        let answer = if kind == JobSpec::KIND { self.answer(&problem) } else { self.answer(&Refused(problem)) };
        let content_type = match self.format {
            Format::Json => PROBLEM_JSON,
            Format::MessagePack => Format::MessagePack.content_type(),
        };
        Ok(OutboxMessage { content_type: content_type.to_owned(), ..answer? })
    }

    fn id_of(&self, kind: &str, body: &[u8]) -> String {
        let correlation = self.correlation_id.as_deref().unwrap_or("");
        let said = Digest::of(body).0;
        let mut all = Vec::new();
        for part in [self.customer.as_str(), &self.message_id, correlation, kind] {
            all.extend(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            all.extend(part.as_bytes());
        }
        all.extend(said);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&Digest::of(&all).0[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid().hyphenated().to_string()
    }
}

/// Whether that is a W3C `traceparent`, of this version or a later one, which may say more. Anything else is no trace, and is
/// not sent on with every unit and answer.
fn is_trace(text: &str) -> bool {
    const LONGEST: usize = 255;
    let hex =
        |text: &str, digits: usize| text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut fields = text.splitn(5, '-');
    let known = [2, 32, 16, 2].iter().all(|digits| fields.next().is_some_and(|field| hex(field, *digits)));
    let more = fields.next();
    known
        && more.is_none_or(|more| !text.starts_with("00") && more.bytes().all(|byte| byte.is_ascii_graphic()))
        && text.len() <= LONGEST
}

fn bounded(mut problem: Problem) -> Problem {
    problem.errors.truncate(MAX_MISTAKES);
    let texts = problem.errors.iter_mut().flat_map(|error| [&mut error.pointer, &mut error.detail]);
    for text in texts.chain([&mut problem.detail]) {
        text.truncate(text.floor_char_boundary(MAX_PROBLEM_TEXT));
    }
    problem
}

impl Refusal {
    /// A problem of that code.
    pub(crate) fn of(code: Code, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    /// A request with one mistake.
    pub(crate) fn invalid(pointer: &str, detail: impl Into<String>) -> Self {
        Problem::with_errors(Code::InvalidRequest, vec![mistake(pointer, detail)]).into()
    }
}

/// One mistake in a message.
pub(crate) fn mistake(pointer: &str, detail: impl Into<String>) -> FieldError {
    FieldError { pointer: pointer.to_owned(), detail: detail.into() }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Trying again would not help, so it is told to the customer: a value that fits a body in one format may not in the other.
impl From<CodecError> for Refusal {
    fn from(error: CodecError) -> Self {
        problem_of(&error).into()
    }
}

/// What a customer is told of bytes that are no message.
pub(crate) fn problem_of(error: &CodecError) -> Problem {
    match error {
        CodecError::Oversized { limit, .. } => {
            let limit = u64::try_from(*limit).unwrap_or(u64::MAX);
            Problem::over(Code::MessageTooLarge, limit, None, error.to_string())
        }
        CodecError::Invalid { detail, pointer: Some(pointer), .. } => {
            let errors = vec![mistake(pointer, detail.as_str())];
            Problem { errors, ..Problem::new(Code::Undecodable, error.to_string()) }
        }
        CodecError::ContentType { .. }
        | CodecError::Encoding { .. }
        | CodecError::Truncated { .. }
        | CodecError::Trailing { .. }
        | CodecError::Invalid { .. }
        | CodecError::Encode { .. } => Problem::new(Code::Undecodable, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use protocol::JobId;
    use protocol::reply::Accepted;

    use super::*;

    fn asked(message_id: &str, correlation: Option<&str>) -> Asked {
        let properties = Properties {
            message_id: message_id.to_owned(),
            correlation_id: correlation.map(str::to_owned),
            content_type: Some("application/json".to_owned()),
            ..Properties::default()
        };
        Asked::new(CustomerName::new("acme").unwrap(), &properties, Standing::default())
    }

    fn accepted(items: u64) -> Accepted {
        Accepted { job: JobId(uuid::Uuid::nil()), items }
    }

    #[test]
    fn an_answer_has_an_id_of_its_own_and_the_same_when_it_is_given_again() {
        let id = |asked: Asked, items| asked.answer(&accepted(items)).unwrap().id;
        let first = id(asked("a", Some("b")), 1);
        assert_eq!(first, id(asked("a", Some("b")), 1));
        for other in [id(asked("a", Some("c")), 1), id(asked("ab", None), 1), id(asked("a", Some("b")), 2)] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_told_with_its_place() {
        let errors = |body: &[u8]| problem_of(&JobSpec::from_bytes(body, Format::Json).unwrap_err()).errors;
        let [error] = errors(b"{\"quorum\":\"two\"}").try_into().unwrap();
        assert!(error.pointer == "/quorum" && error.detail.contains("two"), "{error:?}");
        assert_eq!(errors(b"{"), []);
    }

    #[test]
    fn what_is_no_trace_is_not_passed_on() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let later = format!("cc{}-what-comes", &trace[2..]);
        for good in [trace, &later] {
            assert!(is_trace(good), "{good}");
        }
        let (more, upper, long) = (format!("{trace}-more"), trace.to_uppercase(), format!("{later}{}", "x".repeat(200)));
        for bad in ["", "rubbish", &trace[1..], &more, &upper, &long, "00---", &"0".repeat(130_000)] {
            assert!(!is_trace(bad), "{}", &bad[..bad.len().min(80)]);
        }
        let properties = Properties { traceparent: Some("0".repeat(130_000)), ..Properties::default() };
        let asked = Asked::new(CustomerName::new("acme").unwrap(), &properties, Standing::default());
        assert_eq!(asked.traceparent, None);
    }

    #[test]
    fn a_problem_is_written_as_the_request_was_and_never_too_large() {
        let errors = vec![mistake("/input", "ä".repeat(20 << 10)); 1_000];
        let problem = Problem::with_errors(Code::InvalidJob, errors);
        let told = asked("a", None).refused(JobSpec::KIND, problem.clone()).unwrap();
        assert_eq!((told.kind.as_str(), told.content_type.as_str()), ("offpeak.job.rejected.v1", PROBLEM_JSON));
        assert!(told.body.len() < 2 << 20);
        let plain = Asked { format: Format::MessagePack, ..asked("a", None) };
        let told = plain.refused("anything", problem).unwrap();
        assert_eq!((told.kind.as_str(), told.content_type.as_str()), ("offpeak.request.refused.v1", "application/msgpack"));
    }
}
