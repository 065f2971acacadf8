//! Judges whether customers' users at the broker have exactly the rights that they should.

use broker::rabbit::{Account, ManagementError};

use super::{Finding, Level, some};

const ABOUT: &str = "customers";

/// Judges what the management side answered; nothing if it was not asked, or did not answer at all: that is told elsewhere.
pub fn judge(answer: Option<&Result<Vec<Account>, ManagementError>>) -> Option<Finding> {
    match answer? {
        Ok(accounts) => Some(rights(accounts)),
        Err(ManagementError::Refused { .. }) => {
            let says = "the management side does not tell this user what customers may do";
            let cure = "name it with the URL of a user that has the tag administrator, to have the rights of customers checked";
            Some(Finding::bad(Level::Unchecked, ABOUT, says, cure))
        }
        Err(ManagementError::Url | ManagementError::Unread { .. }) => None,
    }
}

/// Queues without a user are no harm: customers who were removed, or who submit as another user.
fn rights(accounts: &[Account]) -> Finding {
    let with_user = || accounts.iter().filter(|account| account.user.is_some());
    let wrong: Vec<String> = with_user()
        .filter_map(|account| {
            let differences = account.differences();
            let first = differences.first()?;
            let more = differences.len() - 1;
            let more = if more == 0 { String::new() } else { format!(", and {more} more") };
            Some(format!("{}: {first}{more}", account.name))
        })
        .collect();
    if wrong.is_empty() {
        let says = match with_user().count() {
            0 => "none has a user of its own".to_owned(),
            1 => "one has a user, with exactly the rights it should have".to_owned(),
            count => format!("{count} have a user, with exactly the rights they should have"),
        };
        return Finding::well(ABOUT, says);
    }
    let cure = "`offpeak customer show NAME` says all that differs, and `offpeak customer add NAME` mends it; a queue that is \
                bound elsewhere: unbind it on RabbitMQ's own pages";
    Finding::bad(Level::Wrong, ABOUT, some(&wrong), cure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::rabbit::AccountUser;
    use protocol::CustomerName;

    fn refused(status: u16) -> Result<Vec<Account>, ManagementError> {
        let text = || "x".to_owned();
        Err(ManagementError::Refused { address: text(), what: text(), status, reason: text() })
    }

    #[test]
    fn a_right_that_differs_is_wrong_and_a_queue_alone_is_not() {
        let name = CustomerName::new("acme").unwrap();
        let left_over = Account::none(name);
        let user = AccountUser { has_password: true, tags: Vec::new() };
        let bare = Account { user: Some(user), ..left_over.clone() };
        assert_eq!(judge(None), None);
        assert_eq!(judge(Some(&refused(401))).unwrap().level, Level::Unchecked);
        assert_eq!(judge(Some(&Ok(vec![left_over]))).unwrap().level, Level::Well);
        let found = judge(Some(&Ok(vec![bare]))).unwrap();
        assert_eq!(found.level, Level::Wrong);
        assert!(found.says.starts_with("acme: it may configure (nothing)") && found.says.contains(" more"), "{}", found.says);
    }
}
