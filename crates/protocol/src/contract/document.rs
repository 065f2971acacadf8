//! The AsyncAPI document, from the table of messages.

use super::node::{Node, map, reference};
use super::schemas::Schemas;
use super::table::{Role, Row, TABLE};
use super::{examples, properties};
use crate::Message as _;
use crate::address::{CUSTOMER_EXCHANGE, SUBMIT_EXCHANGE};
use crate::codec::Format;
use crate::ids::NAME_PATTERN;
use crate::problem::{Code, PROBLEM_JSON, Problem, Refused};

/// The contract's version: its first number is in the types of messages, and the second grows with what is added.
const VERSION: &str = "1.0.0";
/// The version of AsyncAPI that most tools read.
const ASYNCAPI: &str = "3.0.0";
/// The version of AsyncAPI's words for AMQP.
const BINDING: &str = "0.3.0";

const DESCRIPTION: &str = "\
Everything that you do with a grid goes through RabbitMQ: you publish requests to one exchange and read everything from one queue.

- Publish to the exchange `offpeak.submit` with your own name as the routing key. The property `type` says what a message is.
- Read your queue `offpeak.customer.<name>.results`. An answer carries the `correlation_id` of its request.
- Bodies are JSON or MessagePack (maps with named fields), as `content_type` says, and answers come in the format of the request. \
The schemas show JSON: in MessagePack bytes are `bin` instead of Base64, and fuel is a number instead of a string.
- A body is at most 8 MiB, less if your limit is lower. Larger data goes as a blob, in parts.
- Whatever you send may be sent again with the same `message_id`, and has the effect of once. Whatever comes to you may come twice, \
with the same `message_id`.
- Ignore fields and types that you do not know: fields may be added within v1. What is here stays.

`docs/customers.md` of Offpeak is the guide to it.
";

/// The whole document.
pub(super) fn document() -> Node {
    let mut schemas = Schemas::new();
    let messages = TABLE.iter().map(|row| (row.kind.to_owned(), message(row, &mut schemas))).collect();
    map([
        ("asyncapi", ASYNCAPI.into()),
        ("id", "urn:offpeak:contract:v1".into()),
        ("info", info()),
        ("defaultContentType", Format::Json.content_type().into()),
        ("servers", servers()),
        ("channels", map([("submit", submit()), ("results", results())])),
        ("operations", operations()),
        (
            "components",
            map([
                ("messages", Node::Map(messages)),
                ("messageTraits", map([("request", request_trait()), ("answer", answer_trait())])),
                ("operationTraits", map([("publish", publish_trait()), ("deliver", deliver_trait())])),
                ("correlationIds", map([("request", correlation())])),
                ("securitySchemes", map([("user", map([("type", "userPassword".into()), ("description", USER.into())]))])),
                ("schemas", schemas.into_components()),
            ]),
        ),
        ("x-problems", problems()),
    ])
}

/// What the security scheme is.
const USER: &str = "Your AMQP user, whose name is your customer's name; the operator gives you its password.";

fn info() -> Node {
    map([
        ("title", "Offpeak for customers".into()),
        ("version", VERSION.into()),
        ("description", DESCRIPTION.into()),
        ("license", map([("name", "Apache-2.0".into()), ("url", "https://www.apache.org/licenses/LICENSE-2.0".into())])),
    ])
}

fn servers() -> Node {
    let server = |protocol: &str, port: &str, title: &str| {
        let host =
            map([("description", "The broker's host, which the operator tells you.".into()), ("default", "localhost".into())]);
        map([
            ("host", format!("{{host}}:{port}").as_str().into()),
            ("protocol", protocol.into()),
            ("protocolVersion", "0.9.1".into()),
            ("title", title.into()),
            ("variables", map([("host", host)])),
            ("security", vec![reference("#/components/securitySchemes/user")].into()),
        ])
    };
    map([("tls", server("amqps", "5671", "RabbitMQ over TLS")), ("plain", server("amqp", "5672", "RabbitMQ without TLS"))])
}

/// The parameter of both addresses.
fn customer() -> Node {
    let description = format!("Your name: {NAME_PATTERN}");
    map([("customer", map([("description", description.as_str().into()), ("examples", vec!["acme".into()].into())]))])
}

fn submit() -> Node {
    let exchange =
        map([("name", SUBMIT_EXCHANGE.into()), ("type", "topic".into()), ("durable", true.into()), ("autoDelete", false.into())]);
    map([
        ("address", "{customer}".into()),
        ("title", "What you send".into()),
        ("description", "The exchange offpeak.submit, with your name as the routing key; the broker takes no other.".into()),
        ("messages", in_channel(|role| matches!(role, Role::Request { .. }))),
        ("parameters", customer()),
        ("bindings", amqp(map([("is", "routingKey".into()), ("exchange", exchange)]))),
    ])
}

fn results() -> Node {
    let name = format!("{CUSTOMER_EXCHANGE}.{{customer}}.results");
    let queue = map([
        ("name", name.as_str().into()),
        ("durable", true.into()),
        ("exclusive", false.into()),
        ("autoDelete", false.into()),
    ]);
    map([
        ("address", name.as_str().into()),
        ("title", "What you read".into()),
        ("description", "Your own queue, which the operator has made; you may consume it and not declare it.".into()),
        ("messages", in_channel(|role| !matches!(role, Role::Request { .. }))),
        ("parameters", customer()),
        ("bindings", amqp(map([("is", "queue".into()), ("queue", queue)]))),
    ])
}

fn in_channel(wanted: impl Fn(Role) -> bool) -> Node {
    let rows = TABLE.iter().filter(|row| wanted(row.role));
    Node::Map(rows.map(|row| (row.kind.to_owned(), reference(&format!("#/components/messages/{}", row.kind)))).collect())
}

fn amqp(binding: Node) -> Node {
    map([("amqp", binding.with("bindingVersion", BINDING))])
}

/// One operation for each request with its answers, and one for what the grid tells of its own accord.
fn operations() -> Node {
    let mut operations: Vec<(String, Node)> = TABLE.iter().filter_map(operation).collect();
    let news = TABLE.iter().filter(|row| row.role == Role::News).map(|row| in_results(row.kind)).collect::<Vec<_>>();
    let follow = map([
        ("action", "send".into()),
        ("title", "Follow your jobs".into()),
        ("summary", "What the grid tells you about accepted jobs, under the correlation_id of their submission.".into()),
        ("channel", reference("#/channels/results")),
        ("messages", news.into()),
        ("traits", vec![reference("#/components/operationTraits/deliver")].into()),
    ]);
    operations.push(("job.follow".to_owned(), follow));
    Node::Map(operations)
}

fn operation(row: &Row) -> Option<(String, Node)> {
    let Role::Request { answers, refused } = row.role else { return None };
    let answers: Vec<Node> = answers.iter().copied().chain([refused]).map(in_results).collect();
    let operation = map([
        ("action", "receive".into()),
        ("title", row.title.into()),
        ("summary", row.summary.into()),
        ("channel", reference("#/channels/submit")),
        ("messages", vec![reference(&format!("#/channels/submit/messages/{}", row.kind))].into()),
        ("reply", map([("channel", reference("#/channels/results")), ("messages", answers.into())])),
        ("traits", vec![reference("#/components/operationTraits/publish")].into()),
    ]);
    // `offpeak.job.submit.v1` is the operation `job.submit`.
    let name = row.kind.trim_start_matches("offpeak.").trim_end_matches(".v1");
    Some((name.to_owned(), operation))
}

fn in_results(kind: &str) -> Node {
    reference(&format!("#/channels/results/messages/{kind}"))
}

fn message(row: &Row, schemas: &mut Schemas) -> Node {
    let of = if matches!(row.role, Role::Request { .. }) { "request" } else { "answer" };
    let is_problem = [Problem::KIND, Refused::KIND].contains(&row.kind);
    let content_type = if is_problem { PROBLEM_JSON } else { Format::Json.content_type() };
    let examples: Vec<Node> = examples(row.kind).iter().map(without_type).collect();
    map([
        ("name", row.kind.into()),
        ("title", row.title.into()),
        ("summary", row.summary.into()),
        ("contentType", content_type.into()),
        ("correlationId", reference("#/components/correlationIds/request")),
        ("traits", vec![reference(&format!("#/components/messageTraits/{of}"))].into()),
        ("bindings", amqp(map([("messageType", row.kind.into())]))),
        ("payload", schemas.of(row)),
        ("examples", examples.into()),
    ])
}

fn without_type(example: &Node) -> Node {
    Node::Map(example.entries().iter().filter(|(key, _)| key != "type").cloned().collect())
}

fn request_trait() -> Node {
    map([("headers", properties::of_requests())])
}

fn answer_trait() -> Node {
    map([("headers", properties::of_answers())])
}

fn publish_trait() -> Node {
    let binding = map([("deliveryMode", 2_u64.into()), ("mandatory", true.into()), ("ack", true.into())]);
    map([
        (
            "description",
            "Published persistent and mandatory, with publisher confirms: it counts as sent when the broker confirms it.".into(),
        ),
        ("bindings", amqp(binding)),
    ])
}

fn deliver_trait() -> Node {
    map([
        ("description", "Consumed with acknowledgements: acknowledge what you have stored.".into()),
        ("bindings", amqp(map([("deliveryMode", 2_u64.into()), ("ack", true.into())]))),
    ])
}

fn correlation() -> Node {
    map([
        ("description", "Yours: chosen for the request, and carried by its answers.".into()),
        ("location", "$message.header#/correlation_id".into()),
    ])
}

/// Every kind of problem, as a program may want to know it.
fn problems() -> Node {
    let rows = Code::ALL.map(|code| {
        let about = code.about();
        map([
            ("code", about.code.into()),
            ("status", u64::from(about.status).into()),
            ("title", about.title.into()),
            ("retryable", about.retryable.into()),
            ("cause", about.cause.into()),
            ("cure", about.cure.into()),
        ])
    });
    rows.to_vec().into()
}
