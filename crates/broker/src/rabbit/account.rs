//! What a broker grants a customer, and what of it is not as it should be.

use protocol::CustomerName;

use crate::topology;
use crate::users::{self, Rights, TopicRight, UserLimits};

/// A customer at the broker, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Whose.
    pub name: CustomerName,
    /// Its user, if there is one.
    pub user: Option<AccountUser>,
    /// The user's rights in the vhost.
    pub rights: Option<Rights>,
    /// Its rights to routing keys there.
    pub topics: Vec<TopicRight>,
    /// How many connections it may have.
    pub max_connections: Option<i64>,
    /// How many channels it may have.
    pub max_channels: Option<i64>,
    /// Its results queue, if there is one.
    pub queue: Option<AccountQueue>,
}

/// A customer's user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountUser {
    /// Whether it has a password: without one nobody comes in.
    pub has_password: bool,
    /// What it is on the management side.
    pub tags: Vec<String>,
}

/// A customer's results queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountQueue {
    /// Whether it is a durable quorum queue.
    pub fit: bool,
    /// What is in it, as of some seconds ago.
    pub messages: u64,
    /// Pairs of exchange and key by which it is bound, beside the one that every queue has.
    pub bindings: Vec<(String, String)>,
}

impl Account {
    /// Of whom nothing is known.
    pub fn none(name: CustomerName) -> Self {
        let (user, rights, queue) = (None, None, None);
        Self { name, user, rights, topics: Vec::new(), max_connections: None, max_channels: None, queue }
    }

    /// Whether the broker knows nothing of it.
    pub fn is_none(&self) -> bool {
        self.user.is_none() && self.queue.is_none()
    }

    /// Whether its user has rights, and none that a customer has: then it is another's, who happens to have that name.
    pub fn is_somebody_else(&self) -> bool {
        let own = users::customer(&self.name, UserLimits::CUSTOMER).rights;
        let within = |found: &str, right: &str| found.contains(right.trim_matches(['^', '$']));
        self.rights.as_ref().is_some_and(|rights| !within(&rights.write, &own.write) && !within(&rights.read, &own.read))
    }

    /// Whether its user has a password and nothing in this vhost: then it is one of another vhost or application. A user that is
    /// being made has no password until it has all the rest.
    pub fn is_elsewhere(&self) -> bool {
        let has_password = self.user.as_ref().is_some_and(|user| user.has_password);
        has_password && self.rights.is_none() && self.topics.is_empty() && self.queue.is_none()
    }

    /// The limits that are set, or else the usual ones.
    pub fn limits(&self) -> UserLimits {
        let usual = UserLimits::CUSTOMER;
        let set = |found: Option<i64>, usual| found.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(usual);
        UserLimits { connections: set(self.max_connections, usual.connections), channels: set(self.max_channels, usual.channels) }
    }

    /// Everything that is not as it should be, a fragment each; nothing if all is well.
    pub fn differences(&self) -> Vec<String> {
        let mut found = Vec::new();
        match &self.user {
            None => found.push("there is no user".to_owned()),
            Some(user) => {
                if !user.has_password {
                    found.push("its user has no password, so nobody comes in".to_owned());
                }
                if !user.tags.is_empty() {
                    found.push(format!("its user has the tag {}", user.tags.join(", ")));
                }
                self.rights_differ(&mut found);
            }
        }
        self.queue_differs(&mut found);
        found
    }

    fn rights_differ(&self, found: &mut Vec<String>) {
        let expected = users::customer(&self.name, self.limits());
        let none = Rights { configure: String::new(), write: String::new(), read: String::new() };
        let rights = self.rights.as_ref().unwrap_or(&none);
        let wanted = &expected.rights;
        let kinds = [
            ("configure", &rights.configure, &wanted.configure),
            ("write", &rights.write, &wanted.write),
            ("read", &rights.read, &wanted.read),
        ];
        let differ = kinds.into_iter().filter(|(_, is, wanted)| is != wanted);
        found.extend(differ.map(|(kind, is, wanted)| format!("it may {kind} {} instead of {wanted}", shown(is))));
        for wanted in &expected.topics {
            match self.topics.iter().find(|topic| topic.exchange == wanted.exchange) {
                None => found.push(format!("it may submit under every name: {} has no topic permission", wanted.exchange)),
                Some(topic) if topic != wanted => {
                    let (write, read) = (shown(&topic.write), shown(&topic.read));
                    found.push(format!("its topic permission on {} is {write}, {read}, not {}", wanted.exchange, wanted.write));
                }
                Some(_) => {}
            }
        }
        let others = self.topics.iter().filter(|topic| expected.topics.iter().all(|wanted| wanted.exchange != topic.exchange));
        found.extend(others.map(|topic| format!("it has a topic permission on {}", topic.exchange)));
        for (what, limit) in [("connections", self.max_connections), ("channels", self.max_channels)] {
            if limit.is_none_or(|limit| limit < 0) {
                found.push(format!("its {what} have no limit"));
            }
        }
    }

    fn queue_differs(&self, found: &mut Vec<String>) {
        let expected = topology::customer(&self.name);
        let Some(queue) = &self.queue else {
            found.push(format!("there is no queue {}", expected.name));
            return;
        };
        if !queue.fit {
            found.push(format!("queue {} is not a durable quorum queue", expected.name));
        }
        let is_own = |(exchange, key): &(String, String)| exchange == expected.exchange && *key == expected.key;
        if !queue.bindings.iter().any(is_own) {
            found.push(format!("queue {} is not bound to {} by key {}", expected.name, expected.exchange, expected.key));
        }
        for (exchange, key) in queue.bindings.iter().filter(|binding| !is_own(binding)) {
            found.push(format!("queue {} is also bound to {exchange} by key {}", expected.name, shown(key)));
        }
    }
}

fn shown(text: &str) -> &str {
    if text.is_empty() { "(nothing)" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right() -> Account {
        let name = CustomerName::new("acme").unwrap();
        let spec = users::customer(&name, UserLimits::CUSTOMER);
        let bindings = vec![("offpeak.customer".to_owned(), "acme".to_owned())];
        Account {
            user: Some(AccountUser { has_password: true, tags: Vec::new() }),
            rights: Some(spec.rights),
            topics: spec.topics,
            max_connections: Some(20),
            max_channels: Some(200),
            queue: Some(AccountQueue { fit: true, messages: 0, bindings }),
            ..Account::none(name)
        }
    }

    #[test]
    fn what_is_right_differs_in_nothing() {
        assert_eq!(right().differences(), Vec::<String>::new());
        let nobody = Account::none(CustomerName::new("acme").unwrap());
        assert!(nobody.is_none());
        assert_eq!(nobody.differences(), ["there is no user", "there is no queue offpeak.customer.acme.results"]);
    }

    #[test]
    fn a_user_with_no_right_of_a_customer_is_somebody_else() {
        assert!(!right().is_somebody_else() && !Account::none(right().name).is_somebody_else());
        let with = |write: &str| {
            let rights = Rights { configure: ".*".to_owned(), write: write.to_owned(), read: ".*".to_owned() };
            Account { rights: Some(rights), ..right() }.is_somebody_else()
        };
        assert_eq!([with(r"^offpeak\.submit$|^own$"), with(".*"), with("^billing$")], [false, true, true]);
    }

    #[test]
    fn a_user_with_a_password_and_nothing_in_the_vhost_is_of_elsewhere() {
        let of = |has_password| {
            let user = Some(AccountUser { has_password, tags: Vec::new() });
            Account { user, ..Account::none(right().name) }
        };
        assert_eq!([of(true), of(false), right()].map(|account| account.is_elsewhere()), [true, false, false]);
        // A limit is of the user everywhere; anything else is of this vhost.
        assert!(Account { max_channels: Some(3), ..of(true) }.is_elsewhere());
        let (rights, topics, queue) = (right().rights, right().topics, right().queue);
        for some in [Account { rights, ..of(true) }, Account { topics, ..of(true) }, Account { queue, ..of(true) }] {
            assert!(!some.is_elsewhere(), "{some:?}");
        }
    }

    #[test]
    fn each_difference_is_named() {
        type Change = fn(&mut Account);
        let cases: [(Change, &str); 10] = [
            (|account| account.user.as_mut().unwrap().has_password = false, "nobody comes in"),
            (|account| account.user.as_mut().unwrap().tags.push("administrator".to_owned()), "tag administrator"),
            (|account| account.rights.as_mut().unwrap().configure = ".*".to_owned(), "it may configure .* instead of ^$"),
            (|account| account.rights = None, "it may read (nothing) instead of ^offpeak"),
            (|account| account.topics.clear(), "submit under every name"),
            (|account| account.topics[0].write = ".*".to_owned(), "is .*, ^$, not ^acme$"),
            (|account| account.max_channels = Some(-1), "its channels have no limit"),
            (|account| account.queue.as_mut().unwrap().fit = false, "not a durable quorum queue"),
            (|account| account.queue.as_mut().unwrap().bindings.clear(), "not bound to offpeak.customer by key acme"),
            (
                |account| account.queue.as_mut().unwrap().bindings.push(("offpeak.customer".into(), "other".into())),
                "also bound to offpeak.customer by key other",
            ),
        ];
        for (change, part) in cases {
            let mut account = right();
            change(&mut account);
            let found = account.differences();
            assert!(found.iter().any(|difference| difference.contains(part)), "{part} is not in {found:?}");
        }
    }
}
