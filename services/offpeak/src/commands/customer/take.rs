//! Takes from customers what they had: the password, or all of it.

use anyhow::{Context as _, Result};
use broker::rabbit::{Account, Accounts};
use ports::store::CustomerUse;
use protocol::CustomerName;
use serde_json::json;

use super::{no_such, password, records};
use crate::args::{LimitValues, RemoveArgs, RotateArgs};
use crate::customer::{self, Records};
use crate::exit::{self, Refused};
use crate::terminal;

/// What clients are told whose connections are closed.
const ROTATED: &str = "the password was changed";
const REMOVED: &str = "customer is removed";

pub(super) async fn rotate(args: &RotateArgs) -> Result<u8> {
    let name = &args.name;
    customer::check_name(name)?;
    let accounts = customer::accounts(&args.management)?;
    let chosen = customer::chosen_password(&args.password)?;
    let account = accounts.find(name).await?;
    customer::check_is_customer(&account, &args.management.vhost)?;
    if account.user.is_none() {
        return Err(no_such(name).into());
    }
    let is_new = chosen.is_none();
    let (password, hash) = password(chosen)?;
    accounts.set_password(name, hash).await?;
    // From here on only this program knows the password: it is told whatever becomes of the connections.
    let closed = if args.keep_connections { Ok(None) } else { accounts.close_connections(name, ROTATED).await.map(Some) };
    let shown = is_new.then(|| password.expose());
    let open = match &closed {
        Ok(Some(closed)) => format!("{closed} connections made with the old password are closed"),
        Ok(None) => "connections made with the old password go on until they end".to_owned(),
        Err(_) => "connections made with the old password may still be open".to_owned(),
    };
    if args.json {
        let closed = closed.as_ref().ok();
        terminal::print_json(&json!({ "customer": name, "password": shown, "connections_closed": closed }))?;
    } else {
        let shown = shown.map_or_else(|| "as given".to_owned(), |password| format!("{password}  (shown once)"));
        terminal::print(&format!("customer {name} has a new password\n  password  {shown}\n  open      {open}\n"))?;
    }
    closed.with_context(|| format!("{open}; rabbitmqctl close_all_user_connections {name} closes them"))?;
    Ok(exit::SUCCESS)
}

pub(super) async fn remove(args: &RemoveArgs) -> Result<u8> {
    let name = &args.name;
    customer::check_name(name)?;
    let accounts = customer::accounts(&args.management)?;
    let records = records(&args.record, &LimitValues::default()).await?;
    let account = accounts.find(name).await?;
    customer::check_is_customer(&account, &args.management.vhost)?;
    if !args.force {
        refuse_while_needed(&accounts, &account, records.as_ref()).await?;
    }
    let removed_user = accounts.remove_user(name).await?;
    // The broker closes them as well; what it has not closed yet is closed when this returns.
    accounts.close_connections(name, REMOVED).await?;
    let removed_queue = args.queue && accounts.remove_queue(name).await?;
    let removed_record = match &records {
        Some(records) => Some(records.remove(name).await?),
        None => None,
    };
    let queue_stays = account.queue.is_some() && !args.queue;
    if args.json {
        terminal::print_json(&json!({
            "customer": name, "user_removed": removed_user, "queue_removed": removed_queue, "queue_stays": queue_stays,
            "record_removed": removed_record,
        }))?;
    } else {
        terminal::print(&removed_text(name, (removed_user, removed_queue, queue_stays), removed_record))?;
    }
    Ok(exit::SUCCESS)
}

/// Refuses to remove a customer that still has something to get.
async fn refuse_while_needed(accounts: &Accounts, account: &Account, records: Option<&Records>) -> Result<()> {
    let name = &account.name;
    let counted = account.queue.as_ref().map_or(0, |queue| queue.messages);
    let has_unread = counted > 0 || accounts.has_unread(name).await?;
    let used = match records {
        Some(records) => Some(records.used(name).await?),
        None => None,
    };
    let needed = still_needed(account, has_unread, used.as_ref());
    needed.map_or(Ok(()), |problem| Err(Refused::Usage(problem).into()))
}

/// Why a customer is not to be removed yet, if there is a reason; what it uses is known to the database alone.
fn still_needed(account: &Account, has_unread: bool, used: Option<&CustomerUse>) -> Option<String> {
    let name = &account.name;
    if has_unread {
        return Some(format!(
            "customer {name} has unread results in its queue: have it read and acknowledge them (the count is some seconds old), or \
             say --force"
        ));
    }
    let needs = used.filter(|used| used.jobs > 0 || used.unsent_messages > 0)?;
    Some(format!(
        "customer {name} has {} jobs that run and {} replies under way: cancel the jobs and wait for their ends, or say --force",
        needs.jobs, needs.unsent_messages
    ))
}

fn removed_text(name: &CustomerName, (user, queue, queue_stays): (bool, bool, bool), record: Option<bool>) -> String {
    let queue_name = protocol::address::results_queue(name);
    let gone = format!("user {name} is removed, its connections are closed");
    let mut lines = vec![if user { gone } else { format!("there was no user {name}") }];
    if queue {
        lines.push(format!("queue {queue_name} is removed; replies of jobs that still run would make it again"));
    }
    if queue_stays {
        lines.push(format!("queue {queue_name} stays with what is in it: the same again with --queue removes it"));
    }
    lines.push(match record {
        Some(true) => "its uploads, weight and limits are gone; jobs, results and the ledger stay".to_owned(),
        Some(false) => {
            "uploads, weight and limits stay, as jobs of it run, which go on and are billed: the same again after their \
                        end removes them; jobs, results and the ledger stay"
                .to_owned()
        }
        None => {
            "no database was named: uploads, weight and limits stay, as do jobs, results and the ledger, and what runs goes on; \
                 the same again with --database removes the first three"
                .to_owned()
        }
    });
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_that_has_something_to_get_is_not_removed() {
        let acme = Account::none(CustomerName::new("acme").unwrap());
        let idle = CustomerUse::default();
        for nothing in [Some(&idle), None] {
            assert_eq!(still_needed(&acme, false, nothing), None);
        }
        let (busy, waited_for) = (CustomerUse { jobs: 1, ..idle }, CustomerUse { unsent_messages: 1, ..idle });
        for (has_unread, used, part) in [
            (true, Some(&idle), "has unread results"),
            (true, None, "has unread results"),
            (false, Some(&busy), "has 1 jobs that run"),
            (false, Some(&waited_for), "and 1 replies under way"),
        ] {
            let problem = still_needed(&acme, has_unread, used).unwrap();
            assert!(problem.contains(part) && problem.contains("--force"), "{problem}");
        }
    }
}
