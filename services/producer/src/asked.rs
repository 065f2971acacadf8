//! A request's sender and properties, and the answers to it.
//!
//! What answers an effect has a `message_id` that is derived from the request's sender, `message_id` and `correlation_id`
//! and from what the answer says: a request that comes again is answered again under the same id, which its customer knows
//! then. The outbox keeps an id only until its message is sent, so it is this that makes a second answer harmless, not the
//! store. A refusal, and the answer to what only asks, is of one moment: each arrival of the request has one of its own, or
//! a customer who sends it again, as the refusal says, would drop the second answer for the first.

use ports::broker::{Properties, Tag};
use ports::store::{OutboxMessage, StoreError};
use protocol::job::JobSpec;
use protocol::problem::{Code, FieldError, PROBLEM_JSON, Problem, Refused};
use protocol::quote::QuoteJob;
use protocol::{CodecError, CustomerName, Digest, Format, Message, Micros};

use crate::standing::Standing;

/// Of each text of a problem a customer gets so many bytes, and so many of its mistakes: what it sent cannot make the answer too large.
const MAX_PROBLEM_TEXT: usize = 16 << 10;
const MAX_MISTAKES: usize = 50;

/// How serde begins, in both formats, when a whole number is one that its field cannot hold.
const OUT_OF_RANGE: &str = "invalid value: integer";

/// One arrival of a request: another is another, whether the broker or the customer sent the request again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// When it was begun.
    pub(crate) at: Micros,
    /// By which it is settled.
    pub(crate) tag: Tag,
}

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
    /// Which arrival of the request this is.
    pub(crate) arrival: Arrival,
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
    pub(crate) fn new(customer: CustomerName, properties: &Properties, standing: Standing, arrival: Arrival) -> Self {
        Self {
            customer,
            message_id: properties.message_id.clone(),
            correlation_id: properties.correlation_id.clone(),
            traceparent: properties.traceparent.clone().filter(|trace| is_trace(trace)),
            format: Format::from_content_type(properties.content_type.as_deref()).unwrap_or(Format::MessagePack),
            standing,
            arrival,
        }
    }

    /// An answer, with the same id however often it is given.
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
        Ok(self.anew(OutboxMessage { content_type: content_type.to_owned(), ..answer? }))
    }

    /// The same answer as that of this arrival alone.
    pub(crate) fn anew(&self, answer: OutboxMessage) -> OutboxMessage {
        let Arrival { at, tag } = self.arrival;
        let arrival = [at.0.to_be_bytes(), tag.generation.to_be_bytes(), tag.tag.to_be_bytes()].concat();
        OutboxMessage { id: id_from(&[answer.id.as_bytes(), arrival.as_slice()].concat()), ..answer }
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
        id_from(&all)
    }
}

/// The id that follows from those bytes.
fn id_from(all: &[u8]) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Digest::of(all).0[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().hyphenated().to_string()
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

/// What a customer is told of a request of that kind that cannot be read. A whole number that its field cannot hold is a
/// mistake of the request like any number beyond a bound: another type of integer is not the customer's concern.
pub(crate) fn unreadable(kind: &str, error: &CodecError) -> Problem {
    if let CodecError::Invalid { detail, pointer: Some(pointer), .. } = error
        && detail.starts_with(OUT_OF_RANGE)
    {
        let (code, pointer) = match kind {
            JobSpec::KIND => (Code::InvalidJob, pointer.as_str()),
            // A quote tells the mistakes of its job as they are told of a submission.
            QuoteJob::KIND => (Code::InvalidJob, pointer.strip_prefix("/job").unwrap_or(pointer)),
            _ => (Code::InvalidRequest, pointer.as_str()),
        };
        return Problem::with_errors(code, vec![mistake(pointer, detail.as_str())]);
    }
    problem_of(error)
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

    fn arrival(tag: u64) -> Arrival {
        Arrival { at: Micros(1), tag: Tag { generation: 1, tag } }
    }

    fn asked(message_id: &str, correlation: Option<&str>) -> Asked {
        let properties = Properties {
            message_id: message_id.to_owned(),
            correlation_id: correlation.map(str::to_owned),
            content_type: Some("application/json".to_owned()),
            ..Properties::default()
        };
        Asked::new(CustomerName::new("acme").unwrap(), &properties, Standing::default(), arrival(1))
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
    fn a_refusal_has_an_id_of_its_own_each_time_that_its_request_arrives() {
        let id = |tag| {
            let asked = Asked { arrival: arrival(tag), ..asked("a", Some("b")) };
            asked.refused(JobSpec::KIND, Problem::new(Code::TooManyJobs, "so many")).unwrap().id
        };
        assert_eq!(id(1), id(1), "what is written again within one arrival is one message");
        assert_ne!(id(1), id(2));
        let later = Asked { arrival: Arrival { at: Micros(2), ..arrival(1) }, ..asked("a", Some("b")) };
        let problem = Problem::new(Code::TooManyJobs, "so many");
        assert_ne!(id(1), later.refused(JobSpec::KIND, problem).unwrap().id);
    }

    #[test]
    fn a_number_that_its_field_cannot_hold_is_a_mistake_and_another_type_is_none() {
        let told = |kind: &str, body: &[u8]| unreadable(kind, &JobSpec::from_bytes(body, Format::Json).unwrap_err());
        let job = told(JobSpec::KIND, b"{\"quorum\":300}");
        assert_eq!((job.code.as_str(), job.errors[0].pointer.as_str()), ("invalid-job", "/quorum"));
        for fuel in [b"{\"limits\":{\"fuel_per_item\":9223372036854775808}}".as_slice(), b"{\"limits\":{\"fuel_per_item\":-1}}"] {
            let job = told(JobSpec::KIND, fuel);
            assert_eq!((job.code.as_str(), job.errors[0].pointer.as_str()), ("invalid-job", "/limits/fuel_per_item"));
        }
        assert_eq!(told("anything", b"{\"quorum\":300}").code, "invalid-request");
        assert_eq!(told(JobSpec::KIND, b"{\"quorum\":\"two\"}").code, "undecodable");
        assert_eq!(told(JobSpec::KIND, b"{\"quorum\":2.5}").code, "undecodable");
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
        let asked = Asked::new(CustomerName::new("acme").unwrap(), &properties, Standing::default(), arrival(1));
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
