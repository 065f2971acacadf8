//! Who published a message, and whether that is the customer in whose name it came.
//!
//! The broker lets a user publish under routing keys that its topic permission allows, and lets nobody set another's
//! `user_id`. The first is forgotten where a user is made by hand; the second cannot be.

use ports::broker::Properties;
use ports::dead;
use protocol::CustomerName;

use crate::ProducerSettings;

/// What is known of a message's publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// It is the customer, or an operator who sends the customer's message again; or nobody asked.
    Customer,
    /// It does not say, and must.
    Unnamed,
    /// It is somebody else.
    Other(String),
}

/// Judges a message in a customer's name. What an operator sends again is the customer's from here on.
pub(crate) fn identify(settings: &ProducerSettings, customer: &CustomerName, properties: &mut Properties) -> Identity {
    let is_customer = |user: &str| user == customer.as_str();
    let before = dead::user_before(properties).map(str::to_owned);
    let (strict, operator) = (settings.require_user_id, settings.operator.as_str());
    match (properties.user_id.as_deref(), before.as_deref()) {
        (Some(user), _) if is_customer(user) => Identity::Customer,
        // Anyone can write the header; only the operator's word makes it true, where truth is asked for.
        (Some(user), Some(before)) if is_customer(before) && (!strict || user == operator) => {
            properties.user_id = None;
            Identity::Customer
        }
        (None, Some(before)) if !is_customer(before) => Identity::Other(before.to_owned()),
        (Some(user), _) => Identity::Other(user.to_owned()),
        (None, _) if strict => Identity::Unnamed,
        (None, _) => Identity::Customer,
    }
}

/// Drops a claim that nobody vouches for, before anything can park it: in a letter it would be taken for one that was checked.
pub(crate) fn drop_unvouched(settings: &ProducerSettings, properties: &mut Properties) {
    if settings.require_user_id && properties.user_id.is_none() {
        dead::forget_user_before(properties);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(strict: bool) -> ProducerSettings {
        ProducerSettings {
            lease_ms: 1,
            max_unit_ms: 1,
            replica_deadline_ms: 1,
            idle_ms: 1,
            require_user_id: strict,
            operator: "op".to_owned(),
            pools: std::collections::BTreeMap::new(),
            shards: 1,
            rates: None,
            results_days: 0,
        }
    }

    fn properties(user: Option<&str>, before: Option<&str>) -> Properties {
        let headers = before.map(|user| ("offpeak-dead-user-id".to_owned(), user.to_owned()));
        let headers = headers.into_iter().collect();
        Properties { user_id: user.map(str::to_owned), headers, ..Properties::default() }
    }

    fn identified(strict: bool, user: Option<&str>, before: Option<&str>) -> (Identity, Option<String>) {
        let mut properties = properties(user, before);
        let identity = identify(&settings(strict), &CustomerName::new("acme").unwrap(), &mut properties);
        (identity, properties.user_id)
    }

    #[test]
    fn who_is_not_the_customer_is_told_apart() {
        let other = |user: &str| Identity::Other(user.to_owned());
        for strict in [false, true] {
            assert_eq!(identified(strict, Some("acme"), None).0, Identity::Customer);
            assert_eq!(identified(strict, Some("mallory"), None).0, other("mallory"));
            assert_eq!(identified(strict, Some("op"), Some("mallory")).0, other("op"));
            assert_eq!(identified(strict, None, Some("mallory")).0, other("mallory"));
            assert_eq!(identified(strict, Some("op"), None).0, other("op"), "an operator is no customer");
        }
        assert_eq!(identified(false, None, None).0, Identity::Customer);
        assert_eq!(identified(true, None, None).0, Identity::Unnamed);
    }

    #[test]
    fn what_an_operator_sends_again_is_the_customer_s_and_a_header_alone_proves_nothing() {
        assert_eq!(identified(true, Some("op"), Some("acme")), (Identity::Customer, None));
        assert_eq!(identified(true, Some("mallory"), Some("acme")).0, Identity::Other("mallory".to_owned()));
        assert_eq!(identified(true, None, Some("acme")).0, Identity::Unnamed);
        assert_eq!(identified(false, Some("guest"), Some("acme")), (Identity::Customer, None));
        assert_eq!(identified(false, None, Some("acme")).0, Identity::Customer);
    }

    #[test]
    fn a_claim_is_kept_only_where_somebody_stands_for_it() {
        for (strict, user, kept) in [(true, None, false), (true, Some("op"), true), (false, None, true)] {
            let mut properties = properties(user, Some("acme"));
            drop_unvouched(&settings(strict), &mut properties);
            assert_eq!(dead::user_before(&properties).is_some(), kept, "{strict} {user:?}");
        }
    }
}
