//! `offpeak dead`: looks at dead letters, sends them again, removes them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail};
use broker::limits::oversize;
use broker::rabbit::user_of;
use ports::Broker;
use ports::broker::{Confirm, Delivery, Outgoing, Tag};
use ports::dead::DeadLetter;
use protocol::address::Origin;
use serde_json::json;
use service::Scope;

use super::connect;
use crate::args::{ChangeArgs, DeadCommand, ListArgs, ShowArgs};
use crate::dead::{self, Filter, Reading};
use crate::exit::{self, Refused};
use crate::terminal::{self, grouped};
use crate::times::{instant, now};

/// A page of letters is offered so long to where they came from.
const SEND_PATIENCE: Duration = Duration::from_mins(1);

/// Runs a command about dead letters.
pub(super) async fn dead(command: DeadCommand) -> Result<u8> {
    let scope = Scope::new();
    let args = match &command {
        DeadCommand::List(args) => &args.broker,
        DeadCommand::Show(args) => &args.broker,
        DeadCommand::Replay(args) => &args.change.broker,
        DeadCommand::Drop(args) => &args.change.broker,
    };
    let broker = connect::broker(args, &scope).await?;
    let code = perform(broker.as_ref(), &command).await;
    connect::close(&scope).await;
    code
}

async fn perform(broker: &dyn Broker, command: &DeadCommand) -> Result<u8> {
    match command {
        DeadCommand::List(args) => list(broker, args).await,
        DeadCommand::Show(args) => show(broker, args).await,
        DeadCommand::Replay(args) => change(broker, &args.change, Change::Replay { believed: args.believe.as_deref() }).await,
        DeadCommand::Drop(args) => change(broker, &args.change, Change::Drop).await,
    }
}

async fn list(broker: &dyn Broker, args: &ListArgs) -> Result<u8> {
    let filter = Filter::new(&args.filter, now());
    let mut left = args.limit;
    let mut more = false;
    if !args.json {
        terminal::print(&dead::as_row(dead::HEADINGS))?;
    }
    for origin in args.filter.origins() {
        let mut reading = Reading::begin(broker, origin).await?;
        'reading: while let Some(page) = reading.page().await? {
            for letter in page.iter().map(|delivery| DeadLetter::of(origin, delivery)).filter(|letter| filter.passes(letter)) {
                if left == 0 {
                    more = true;
                    break 'reading;
                }
                left -= 1;
                listed(&letter, args.json)?;
            }
        }
        reading.end().await?;
    }
    if more {
        terminal::note(&format!("there are more than {}: see --limit and the filters", grouped(&args.limit)));
    }
    Ok(exit::SUCCESS)
}

fn listed(letter: &DeadLetter, as_json: bool) -> Result<()> {
    if as_json {
        return terminal::print_json(&dead::as_json(letter));
    }
    let died = letter.last_at.map(instant).unwrap_or_default();
    let customer = letter.customer.as_ref().map(ToString::to_string).unwrap_or_default();
    let attempts = letter.attempts.to_string();
    terminal::print(&dead::as_row([&letter.id, letter.origin.key(), &died, &attempts, &customer, &letter.cause]))?;
    Ok(())
}

async fn show(broker: &dyn Broker, args: &ShowArgs) -> Result<u8> {
    let filter = Filter::new(&args.filter, now());
    let mut found = false;
    for origin in args.filter.origins() {
        let mut reading = Reading::begin(broker, origin).await?;
        while let Some(page) = reading.page().await? {
            for delivery in &page {
                let letter = DeadLetter::of(origin, delivery);
                if letter.id == args.id && filter.passes(&letter) {
                    shown(&letter, delivery, args, found)?;
                    found = true;
                }
            }
        }
        reading.end().await?;
    }
    if found { Ok(exit::SUCCESS) } else { Ok(none_such(&BTreeSet::from([args.id.as_str()]))) }
}

fn shown(letter: &DeadLetter, delivery: &Delivery, args: &ShowArgs, again: bool) -> Result<()> {
    if args.json {
        let mut object = dead::whole_json(letter, &delivery.properties);
        if args.body {
            let (name, body) = dead::body_json(delivery);
            object[name] = body;
        }
        return terminal::print_json(&object);
    }
    let gap = if again { "\n" } else { "" };
    let body = if args.body { format!("\n{}", dead::body_text(delivery)) } else { String::new() };
    terminal::print(&format!("{gap}{}{body}", dead::as_text(letter, &delivery.properties)))?;
    Ok(())
}

fn none_such(ids: &BTreeSet<&str>) -> u8 {
    for id in ids {
        terminal::note(&format!("there is no letter {}: see `offpeak dead list`", dead::plain(id)));
    }
    exit::SOME_FAILED
}

/// What is done to letters.
#[derive(Debug, Clone, Copy)]
enum Change<'a> {
    Replay {
        /// A user whose word is taken for whose submissions are.
        believed: Option<&'a str>,
    },
    Drop,
}

impl Change<'_> {
    fn done(self) -> &'static str {
        match self {
            Self::Replay { .. } => "replayed",
            Self::Drop => "dropped",
        }
    }
}

/// What became of letters so far.
#[derive(Debug, Default)]
struct Tally {
    done: u64,
    /// Can be sent nowhere: they stay.
    homeless: u64,
    /// The broker did not take them: they stay, and the same again may succeed.
    refused: u64,
}

async fn change(broker: &dyn Broker, args: &ChangeArgs, change: Change<'_>) -> Result<u8> {
    if args.all && args.filter.is_empty() && !args.yes && !args.dry_run {
        return Err(too_many(broker, change).await?.into());
    }
    let filter = Filter::new(&args.filter, now());
    let mut missing: BTreeSet<&str> = args.ids.iter().map(String::as_str).collect();
    let mut tally = Tally::default();
    for origin in args.filter.origins() {
        let mut reading = Reading::begin(broker, origin).await?;
        while let Some(page) = reading.page().await? {
            let seen = page.into_iter().map(|delivery| (DeadLetter::of(origin, &delivery), delivery));
            let meant = |letter: &DeadLetter| (args.all || args.ids.contains(&letter.id)) && filter.passes(letter);
            let meant: Vec<(DeadLetter, Delivery)> = seen.filter(|(letter, _)| meant(letter)).collect();
            for (letter, _) in &meant {
                missing.remove(letter.id.as_str());
            }
            let done = changed(broker, args, change, meant, &mut tally).await?;
            if !args.dry_run {
                reading.remove(&done.iter().map(|(_, tag)| *tag).collect::<Vec<_>>()).await?;
            }
            for (letter, _) in &done {
                tally.done += 1;
                let would = if args.dry_run { "would be " } else { "" };
                told(args, letter, &format!("{would}{}", change.done()))?;
            }
        }
        reading.end().await?;
    }
    if !args.json {
        let would = if args.dry_run { "would be " } else { "" };
        let stay = tally.homeless + tally.refused;
        let stay = if stay > 0 { format!(", {} stay", grouped(&stay)) } else { String::new() };
        terminal::print(&format!("{} letters {would}{}{stay}\n", grouped(&tally.done), change.done()))?;
    }
    if tally.refused > 0 {
        bail!("the broker did not take {} letters, they stay: try again when it does", tally.refused);
    }
    if !missing.is_empty() {
        return Ok(none_such(&missing));
    }
    Ok(if tally.homeless > 0 { exit::SOME_FAILED } else { exit::SUCCESS })
}

/// Why `--all` alone is not enough, with how many letters it would be.
async fn too_many(broker: &dyn Broker, change: Change<'_>) -> Result<Refused> {
    let mut letters = 0_u64;
    for origin in Origin::ALL {
        letters += u64::from(dead::ready(broker, &origin.queue()).await?);
    }
    let problem = format!(
        "all {} letters would be {}: narrow them with filters, or say --yes; --dry-run tells which",
        grouped(&letters),
        change.done()
    );
    Ok(Refused::Usage(problem))
}

/// Changes the letters of one page; those that have no place among the dead letters now.
async fn changed(
    broker: &dyn Broker,
    args: &ChangeArgs,
    change: Change<'_>,
    letters: Vec<(DeadLetter, Delivery)>,
    tally: &mut Tally,
) -> Result<Vec<(DeadLetter, Tag)>> {
    let mut done = Vec::new();
    let (mut sent, mut outgoing) = (Vec::new(), Vec::new());
    for (letter, delivery) in letters {
        let tag = delivery.tag;
        let Change::Replay { believed } = change else {
            done.push((letter, tag));
            continue;
        };
        let letter = match believed {
            Some(user) => letter.believing(user),
            None => letter,
        };
        match sent_again(&letter, delivery, args) {
            Err(reason) => {
                tally.homeless += 1;
                told(args, &letter, &format!("stays: {reason}"))?;
            }
            Ok(_) if args.dry_run => done.push((letter, tag)),
            Ok(message) => {
                outgoing.push(message);
                sent.push((letter, tag));
            }
        }
    }
    let confirms = if outgoing.is_empty() { Vec::new() } else { broker.publish(outgoing, SEND_PATIENCE).await? };
    for ((letter, tag), confirm) in sent.into_iter().zip(confirms) {
        match confirm {
            Confirm::Stored => done.push((letter, tag)),
            Confirm::Unroutable => {
                tally.homeless += 1;
                told(args, &letter, "stays: no queue takes what is sent to where it came from")?;
            }
            Confirm::Refused => {
                tally.refused += 1;
                told(args, &letter, "stays: the queue it came from is full")?;
            }
            Confirm::Unknown => {
                tally.refused += 1;
                told(args, &letter, "stays: the broker did not answer, it may have been sent")?;
            }
        }
    }
    Ok(done)
}

/// What is sent for a letter, or why nothing can be: one that no broker would take would hold up those that are sent with it.
fn sent_again(letter: &DeadLetter, delivery: Delivery, args: &ChangeArgs) -> Result<Outgoing, String> {
    let message = vouched(letter.replay(delivery)?, letter, args);
    match oversize(&message) {
        Some(reason) => Err(format!("larger than any message may be: {reason}")),
        None => Ok(message),
    }
}

/// A submission whose customer is known says who sends it again: the producer believes its operator only.
fn vouched(mut message: Outgoing, letter: &DeadLetter, args: &ChangeArgs) -> Outgoing {
    if letter.origin == Origin::Submit && letter.user.is_some() {
        message.properties.user_id = args.broker.amqp.as_deref().and_then(user_of);
    }
    message
}

/// Says what became of a letter, or would.
fn told(args: &ChangeArgs, letter: &DeadLetter, outcome: &str) -> Result<()> {
    if args.json {
        let mut object = dead::as_json(letter);
        object["outcome"] = json!(outcome);
        object["dry_run"] = json!(args.dry_run);
        return terminal::print_json(&object);
    }
    terminal::print(&format!("{}  {}  {outcome}\n", letter.origin.key(), letter.id))?;
    Ok(())
}
