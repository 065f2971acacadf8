//! Customers as operators provision them: at the broker (user, rights, limits, queue) and in the database (weight, limits).

mod record;
mod render;

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use broker::rabbit::{Account, Accounts, Password};
use broker::users::{self, SERVICE_PREFIX, UserLimits};
use protocol::CustomerName;

use crate::args::{LimitValues, ManagementArgs, PasswordArgs};
use crate::exit::Refused;

pub use record::{Records, grid_limits_named};
pub use render::{Given, Row, added, as_json, as_text, limits_json, limits_text, list_json, list_text};

/// How long each answer of the management side may take: it lists all of a grid's queues.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of standard input so much is read for a password; longer is none.
const MOST_INPUT_BYTES: u64 = 4_096;

/// Opens the broker's management side.
pub fn accounts(args: &ManagementArgs) -> Result<Accounts> {
    let Some(url) = args.management.as_deref().filter(|url| !url.is_empty()) else {
        let problem = "no management side is named: give --management http://user:password@host:15672, or set \
                       OFFPEAK__AMQP__MANAGEMENT_URL";
        return Err(Refused::Usage(problem.to_owned()).into());
    };
    Accounts::new(url, &args.vhost, PATIENCE).map_err(|error| Refused::Usage(error.to_string()).into())
}

/// Refuses names that are the grid's own, or RabbitMQ's.
pub fn check_name(name: &CustomerName) -> Result<(), Refused> {
    let text = name.as_str();
    if text.starts_with(SERVICE_PREFIX) || text == "guest" {
        let problem = format!("{name} is no customer's name: {SERVICE_PREFIX}… are the grid's own users, guest is RabbitMQ's");
        return Err(Refused::Usage(problem));
    }
    Ok(())
}

/// Refuses a user that is there and is somebody else, or a customer in another virtual host: it would lose its rights or password.
pub fn check_is_customer(account: &Account, vhost: &str) -> Result<(), Refused> {
    let Some(user) = &account.user else { return Ok(()) };
    let name = &account.name;
    if !user.tags.is_empty() {
        let tags = user.tags.join(", ");
        let problem = format!(
            "user {name} is no customer: it has the tag {tags}; take another name, or rabbitmqctl set_user_tags {name}, without tags"
        );
        return Err(Refused::Usage(problem));
    }
    if account.is_somebody_else() {
        let problem = format!(
            "user {name} is no customer: it has rights, and none of them a customer's; take another name, or remove it first: \
             rabbitmqctl delete_user {name}"
        );
        return Err(Refused::Usage(problem));
    }
    if account.is_elsewhere() {
        let read = users::customer(name, UserLimits::CUSTOMER).rights.read;
        let problem = format!(
            "user {name} has a password, and neither rights nor a results queue in virtual host {vhost}: it is somebody else's; is \
             --vhost right? If it is to be a customer there, say so with a right of one: rabbitmqctl set_permissions --vhost \
             {vhost} {name} '^$' '^$' '{read}'"
        );
        return Err(Refused::Usage(problem));
    }
    Ok(())
}

/// The password that was chosen, if one was.
pub fn chosen_password(args: &PasswordArgs) -> Result<Option<Password>> {
    let text = match (&args.password_file, args.password_stdin) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the password in {}", path.display()));
            text.map_err(|error| Refused::Usage(crate::exit::told(&error)))?
        }
        (None, true) => {
            let mut text = String::new();
            std::io::stdin().lock().take(MOST_INPUT_BYTES).read_to_string(&mut text).context("cannot read standard input")?;
            text
        }
        (None, false) => return Ok(None),
    };
    let first = text.lines().next().unwrap_or_default();
    Ok(Some(Password::given(first).map_err(|error| Refused::Usage(error.to_string()))?))
}

/// Those of the broker's limits that are named, over those that are there.
pub fn broker_limits(values: &LimitValues, now: UserLimits) -> UserLimits {
    UserLimits {
        connections: values.max_connections.unwrap_or(now.connections),
        channels: values.max_channels.unwrap_or(now.channels),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_s_own_users_are_no_customers() {
        for bad in ["offpeak-producer", "offpeak-worker-open", "guest"] {
            assert!(check_name(&CustomerName::new(bad).unwrap()).is_err(), "{bad}");
        }
        for good in ["acme", "offpeak", "guests"] {
            assert!(check_name(&CustomerName::new(good).unwrap()).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_password_comes_from_the_first_line_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let args = PasswordArgs { password_file: Some(file.clone()), password_stdin: false };
        assert!(chosen_password(&args).unwrap_err().to_string().contains("cannot read the password in"));
        std::fs::write(&file, "correct horse\nand a note\n").unwrap();
        assert_eq!(chosen_password(&args).unwrap().unwrap().expose(), "correct horse");
        std::fs::write(&file, "\n").unwrap();
        assert!(chosen_password(&args).is_err());
        assert_eq!(chosen_password(&PasswordArgs::default()).unwrap(), None);
    }

    #[test]
    fn limits_that_are_not_named_stay() {
        let values = LimitValues { max_channels: Some(7), ..LimitValues::default() };
        let now = UserLimits { connections: 3, channels: 4 };
        assert_eq!(broker_limits(&values, now), UserLimits { connections: 3, channels: 7 });
    }
}
