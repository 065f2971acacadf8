//! The requests of the contract, one file for each noun, and the table of them: type, body, handler.
//!
//! A handler is given who asks and a decoded body, and returns what is to be answered or why it refuses; it may be called
//! again when the store was away or its message is delivered again, so its effect is that of once.

mod apps;
mod explanations;
mod jobs;
mod quotes;
mod results;
mod submissions;
mod uploads;
mod usage;

use ports::broker::Delivery;
use ports::store::JobReport;
use protocol::app::RegisterApp;
use protocol::blob::{DeleteBlob, ListBlobs, PutBlob};
use protocol::job::{CancelJob, JobSpec};
use protocol::problem::{Code, Problem};
use protocol::query::{ExplainJob, FetchResults, GetJobStatus, ListJobs, PauseJob, ReleaseResults, ResumeJob};
use protocol::quote::QuoteJob;
use protocol::usage::ReportUsage;
use protocol::{Format, JobId, Message, codec};

use crate::Producer;
use crate::asked::{Answer, Asked, Refusal, problem_of, unreadable};

/// Whether a request changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It does, so it needs a `message_id`.
    Acts,
    /// It only asks.
    Asks,
}

macro_rules! requests {
    ($($request:ident: $effect:ident => $handler:path,)*) => {
        /// A request that was decoded.
        pub(crate) enum Request {
            $(
                #[doc = concat!("See [`", stringify!($request), "`].")]
                $request(Box<$request>),
            )*
        }

        /// The types of all requests.
        pub(crate) const KINDS: &[&str] = &[$($request::KIND),*];

        impl Request {
            /// Its type, and whether it changes anything.
            pub(crate) fn about(&self) -> (&'static str, Effect) {
                match self {
                    $(Self::$request(_) => ($request::KIND, Effect::$effect),)*
                }
            }

            /// Decodes a message; the problem tells its sender why it cannot be.
            pub(crate) fn read(delivery: &Delivery) -> Result<Self, Box<Problem>> {
                let properties = &delivery.properties;
                let kind = properties.kind.as_str();
                if !KINDS.contains(&kind) {
                    let detail = format!("type {kind:?} is no request that this grid knows");
                    return Err(Box::new(Problem::new(Code::UnknownType, detail)));
                }
                let format = Format::from_content_type(properties.content_type.as_deref());
                let body = codec::decoded(properties.content_encoding.as_deref(), &delivery.body);
                let (format, body) = format.and_then(|format| Ok((format, body?))).map_err(|e| Box::new(problem_of(&e)))?;
                match kind {
                    $($request::KIND => $request::from_bytes(&body, format).map(|read| Self::$request(Box::new(read))),)*
                    _ => return Err(Box::new(Problem::new(Code::UnknownType, "the type is no request"))),
                }
                .map_err(|e| Box::new(unreadable(kind, &e)))
            }

            /// Does what is asked. What only asks is answered anew each time that it arrives.
            pub(crate) async fn perform(&self, producer: &Producer, asked: &Asked) -> Result<Answer, Refusal> {
                let answer = match self {
                    $(Self::$request(request) => Box::pin($handler(producer, asked, request)).await?,)*
                };
                Ok(match self.about().1 {
                    Effect::Acts => answer,
                    Effect::Asks => answer.into_iter().map(|message| asked.anew(message)).collect(),
                })
            }
        }
    };
}

requests! {
    RegisterApp: Acts => apps::register,
    PutBlob: Acts => uploads::put,
    ListBlobs: Asks => uploads::list,
    DeleteBlob: Acts => uploads::delete,
    QuoteJob: Asks => quotes::quote,
    JobSpec: Acts => submissions::submit,
    CancelJob: Acts => jobs::cancel,
    PauseJob: Acts => jobs::pause,
    ResumeJob: Acts => jobs::resume,
    GetJobStatus: Asks => jobs::status,
    ListJobs: Asks => jobs::list,
    ExplainJob: Asks => explanations::explain,
    FetchResults: Asks => results::fetch,
    ReleaseResults: Acts => results::release,
    ReportUsage: Asks => usage::report,
}

/// A job of who asks; that it is someone else's is not told.
async fn own_job(producer: &Producer, asked: &Asked, job: JobId) -> Result<JobReport, Refusal> {
    let report = producer.store.job(job).await?.filter(|report| report.customer == asked.customer);
    report.ok_or_else(|| no_such_job(asked, job))
}

fn no_such_job(asked: &Asked, job: JobId) -> Refusal {
    Refusal::of(Code::NoSuchJob, format!("customer {} has no job {job}", asked.customer))
}

/// A page's length, if it is within its bounds.
fn page(limit: u32, most: u32) -> Result<u32, Refusal> {
    if (1..=most).contains(&limit) {
        Ok(limit)
    } else {
        Err(Refusal::invalid("/limit", format!("{limit} is not from 1 to {most}")))
    }
}

/// Cuts a list that was read one longer than the page; whether there is more.
fn cut<T>(list: &mut Vec<T>, limit: u32) -> bool {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = list.len() > limit;
    list.truncate(limit);
    more
}
