//! Customers as people and programs read them.

use broker::rabbit::{Account, Password};
use ports::store::CustomerUse;
use protocol::address::{SUBMIT_EXCHANGE, results_queue};
use protocol::customer::CustomerRecord;
use serde_json::{Value, json};

use crate::dead::plain;
use crate::terminal::{grouped, table};

/// A customer at the broker and in the database.
#[derive(Debug, Clone)]
pub struct Row {
    /// At the broker.
    pub account: Account,
    /// In the database; `None` where it was not asked or has not seen it.
    pub record: Option<CustomerRecord>,
    /// Connections that are open, where that was asked.
    pub open_connections: Option<usize>,
}

/// A customer's password after it was added.
#[derive(Debug)]
pub enum Given<'a> {
    /// It was made.
    Made(&'a Password),
    /// It was chosen by whoever added the customer.
    Chosen,
    /// It has had one since before.
    Before,
}

/// What a customer needs to know and its operator is to hand on; the password is shown here and nowhere else.
pub fn added(row: &Row, made: bool, password: &Given<'_>, note: Option<&str>) -> String {
    let name = &row.account.name;
    let how = if made { "added" } else { "provisioned again" };
    let another = format!("`offpeak customer rotate {name}` makes another");
    let mut rows = vec![("user", name.to_string())];
    rows.push(match password {
        Given::Made(password) => ("password", format!("{}  (shown once: {another})", password.expose())),
        Given::Chosen => ("password", "as given".to_owned()),
        Given::Before => ("password", format!("as before: {another}")),
    });
    rows.push(("submits", format!("to exchange {SUBMIT_EXCHANGE}, with routing key {name}")));
    rows.push(("reads", format!("queue {}", results_queue(name))));
    rows.push(("limits", broker_limits(&row.account)));
    rows.extend(row.record.as_ref().map(|record| ("grid", grid_limits(record))));
    rows.extend(note.map(|note| ("note", note.to_owned())));
    format!("customer {name} is {how}\n{}{}", aligned(&rows), differences(&row.account))
}

/// All that is known of a customer, for people.
pub fn as_text(row: &Row) -> String {
    let account = &row.account;
    let user = match &account.user {
        None => "none".to_owned(),
        Some(user) if !user.has_password => format!("{}, without a password", account.name),
        Some(_) => account.name.to_string(),
    };
    let mut rows = vec![("user", user)];
    if let Some(rights) = &account.rights {
        rows.push(("configure", rights.configure.clone()));
        rows.push(("write", rights.write.clone()));
        rows.push(("read", rights.read.clone()));
    }
    rows.extend(account.topics.iter().map(|topic| ("keys", format!("{} on {}", topic.write, topic.exchange))));
    rows.push(("limits", broker_limits(account)));
    rows.extend(row.open_connections.map(|open| ("open", format!("{} connections", grouped(&open)))));
    let queue = account.queue.as_ref().map_or_else(
        || "none".to_owned(),
        |queue| format!("{}, {} messages", results_queue(&account.name), grouped(&queue.messages)),
    );
    rows.push(("queue", queue));
    rows.extend(row.record.as_ref().map(|record| ("grid", grid_limits(record))));
    let differences = differences(account);
    let sum = if differences.is_empty() { "all as it should be\n".to_owned() } else { differences };
    format!("customer {}\n{}{sum}", account.name, aligned(&rows))
}

/// The same for programs.
pub fn as_json(row: &Row) -> Value {
    let account = &row.account;
    let user = account.user.as_ref().map(|user| json!({ "has_password": user.has_password, "tags": user.tags }));
    let queue = account.queue.as_ref().map(|queue| json!({ "name": results_queue(&account.name), "messages": queue.messages }));
    json!({
        "customer": account.name, "user": user, "permissions": account.rights, "topic_permissions": account.topics,
        "max_connections": account.max_connections, "max_channels": account.max_channels,
        "open_connections": row.open_connections, "queue": queue, "exchange": SUBMIT_EXCHANGE, "routing_key": account.name,
        "weight": row.record.as_ref().map(|record| record.weight), "limits": row.record.as_ref().map(|record| record.limits),
        "differences": account.differences(),
    })
}

/// A table of customers.
pub fn list_text(rows: &[Row]) -> String {
    let limit = |limit: Option<i64>| limit.filter(|limit| *limit >= 0).map_or_else(|| "none".to_owned(), |limit| grouped(&limit));
    let cells = rows.iter().map(|row| {
        let (account, differences) = (&row.account, row.account.differences());
        let queue = account.queue.as_ref().map_or_else(|| "none".to_owned(), |queue| grouped(&queue.messages));
        let weight = row.record.as_ref().map_or_else(String::new, |record| grouped(&record.weight));
        let state = match differences.len() {
            0 => "as it should be".to_owned(),
            1 => differences.concat(),
            more => format!("{}, and {} more", differences.first().map_or("", String::as_str), more - 1),
        };
        let [connections, channels] = [account.max_connections, account.max_channels].map(limit);
        vec![account.name.to_string(), connections, channels, weight, queue, plain(&state)]
    });
    table(&["customer", "connections", "channels", "weight", "messages", "state"], &cells.collect::<Vec<_>>())
}

/// The same for programs.
pub fn list_json(rows: &[Row]) -> Value {
    rows.iter().map(as_json).collect()
}

/// What a customer may use, beside what it uses now.
pub fn limits_text(account: Option<&Account>, record: Option<(&CustomerRecord, &CustomerUse)>) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |what: &str, limit: String, used: String| rows.push(vec![what.to_owned(), limit, used]);
    if let Some(account) = account {
        let limits = account.limits();
        row("connections", grouped(&limits.connections), String::new());
        row("channels", grouped(&limits.channels), String::new());
    }
    if let Some((CustomerRecord { weight, limits, .. }, used)) = record {
        row("weight", grouped(weight), String::new());
        row("jobs", grouped(&limits.jobs), grouped(&used.jobs));
        row("units at a time", grouped(&limits.units), String::new());
        row("stored bytes", grouped(&limits.stored_bytes), grouped(&used.stored_bytes));
        let fuel = limits.fuel_per_month.map_or_else(|| "none".to_owned(), |fuel| grouped(&fuel.get()));
        row("fuel a month", fuel, grouped(&used.fuel));
        row("requests a second", grouped(&limits.requests_per_second), String::new());
        row("bytes of a message", grouped(&limits.message_bytes), String::new());
    }
    table(&["what", "at most", "now"], &rows)
}

/// The same for programs; sums that JSON's readers may not keep exactly are texts.
pub fn limits_json(account: Option<&Account>, record: Option<(&CustomerRecord, &CustomerUse)>) -> Value {
    let used = record.map(|(_, used)| {
        json!({
            "jobs": used.jobs, "stored_bytes": used.stored_bytes, "fuel": used.fuel.to_string(),
            "unsent_messages": used.unsent_messages, "unsent_bytes": used.unsent_bytes,
        })
    });
    json!({
        "max_connections": account.map(|account| account.limits().connections),
        "max_channels": account.map(|account| account.limits().channels),
        "weight": record.map(|(record, _)| record.weight), "limits": record.map(|(record, _)| record.limits), "used": used,
    })
}

fn broker_limits(account: &Account) -> String {
    let limits = account.limits();
    format!("{} connections, {} channels", grouped(&limits.connections), grouped(&limits.channels))
}

fn grid_limits(record: &CustomerRecord) -> String {
    let limits = &record.limits;
    let fuel = limits
        .fuel_per_month
        .map_or_else(|| "fuel without end".to_owned(), |fuel| format!("{} fuel a month", grouped(&fuel.get())));
    format!(
        "weight {}, {} jobs, {} units, {} stored bytes, {fuel}, {} requests a second, {} bytes a message",
        grouped(&record.weight),
        grouped(&limits.jobs),
        grouped(&limits.units),
        grouped(&limits.stored_bytes),
        grouped(&limits.requests_per_second),
        grouped(&limits.message_bytes)
    )
}

fn differences(account: &Account) -> String {
    let found = account.differences();
    let lines = found.iter().map(|difference| format!("  differs: {}\n", plain(difference)));
    lines.collect::<Vec<_>>().concat()
}

fn aligned(rows: &[(&str, String)]) -> String {
    rows.iter().map(|(name, value)| format!("  {name:<10}{}\n", plain(value))).collect::<Vec<_>>().concat()
}
