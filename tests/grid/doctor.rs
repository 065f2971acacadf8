//! `offpeak doctor` on a grid of processes over servers of its own: all well, then each thing broken on purpose and mended.

use std::path::Path;

use serde_json::Value;
use testkit::servers::{Durability, Postgres, RabbitMq, psql};

use crate::offpeak::{Done, ONE_SLOT, Running, Services, offpeak, root, wait_for};

/// In every address that the doctor is given, and in nothing that it says.
const PASSWORD: &str = "s3cret-pass";

struct Ward {
    folder: tempfile::TempDir,
    rabbit: RabbitMq,
    postgres: Postgres,
    services: Services,
    running: Vec<Running>,
    /// The arguments that name all there is.
    named: Vec<String>,
}

impl Ward {
    /// A grid with a user, policies, plugins, services.
    fn healthy() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (rabbit, postgres) = (RabbitMq::start(), Postgres::start(Durability::Synced));
        rabbit.import_definitions(&root().join("deploy/rabbitmq/definitions-3.10.json"));
        rabbit.rabbitmqctl(&["add_user", "doc", PASSWORD]);
        rabbit.rabbitmqctl(&["set_user_tags", "doc", "administrator"]);
        rabbit.rabbitmqctl(&["set_permissions", "-p", "/", "doc", ".*", ".*", ".*"]);
        let login = |url: String, login: &str| url.replace(login, &format!("doc:{PASSWORD}@"));
        let amqp = format!("{}/%2f", login(rabbit.url(), "guest:guest@"));
        let database = postgres.fresh_database().replace("offpeak@", &format!("offpeak:{PASSWORD}@"));
        let services = Services::on(folder.path(), amqp, database);
        let kinds = ["producer", "aggregator", "worker"];
        let running: Vec<Running> = kinds.iter().map(|kind| services.start(kind, &ONE_SLOT)).collect();
        running.iter().for_each(Running::ready);
        let management = login(rabbit.address().management_url(), "guest:guest@");
        let mut named = vec!["--management".to_owned(), management];
        named.extend(running.iter().flat_map(|service| ["--admin".to_owned(), service.admin()]));
        Self { folder, rabbit, postgres, services, running, named }
    }

    fn doctor(&self, args: &[&str]) -> Done {
        let instead = usize::from(args.contains(&"--management")) * 2;
        let named = self.named.iter().map(String::as_str).skip(instead);
        let done = self.services.offpeak(&["doctor"].into_iter().chain(named).chain(args.iter().copied()).collect::<Vec<_>>());
        assert!(!format!("{done:?}").contains(PASSWORD), "{done:?}");
        done
    }

    /// What is not well, and that its cure and the exit code are told.
    fn bad(&self, args: &[&str]) -> Vec<String> {
        let done = self.doctor(&[args, &["--json"]].concat());
        let report = done.json();
        let code = match report["level"].as_str() {
            Some("wrong") => 3,
            Some("warning") => 1,
            _ => 0,
        };
        assert_eq!(done.code, Some(code), "{done:?}");
        let findings = report["findings"].as_array().expect("findings").iter();
        findings.filter(|finding| finding["level"] != "well").map(told).collect()
    }

    /// Waits until it is told: the broker takes a moment to see who is gone, and its management side longer.
    fn assert_bad(&self, args: &[&str], parts: &[&str]) {
        let told = |bad: &[String]| bad.iter().any(|finding| parts.iter().all(|part| finding.contains(part)));
        let seen = wait_for(|| told(&self.bad(args)).then_some(()));
        seen.unwrap_or_else(|| panic!("{parts:?} is not in {:#?}", self.bad(args)));
    }

    /// Services take a moment to see that all is well again.
    fn assert_well(&self, args: &[&str]) {
        let well = wait_for(|| self.bad(args).is_empty().then_some(()));
        well.unwrap_or_else(|| panic!("not well: {:#?}", self.bad(args)));
    }

    fn api(&self, method: &str, path: &str, body: &str) {
        self.rabbit.address().api(method, path, body).expect("the management side does as asked");
    }
}

fn told(finding: &Value) -> String {
    let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    assert!(!text("cure").is_empty(), "no cure: {finding}");
    format!("{} {}: {} -> {}", text("level"), text("about"), text("says"), text("cure"))
}

fn settings(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("write the settings");
    path.display().to_string()
}

#[test]
fn a_healthy_grid_is_well_and_each_fault_is_named_with_its_cure() {
    let mut ward = Ward::healthy();
    ward.assert_well(&[]);
    // Any answer may be late on a busy machine.
    let well = wait_for(|| Some(ward.doctor(&[])).filter(|well| well.code == Some(0))).expect("well");
    assert!(well.stdout.ends_with("\nall well\n"), "{well:?}");

    broker_faults(&ward);
    settings_faults(&ward);
    database_faults(&ward);

    ward.rabbit.set_memory_alarm(true);
    ward.assert_bad(&[], &["wrong broker: it stopped answering", "rabbitmq-diagnostics alarms"]);
    // What the management side says of nodes is some seconds old.
    let told = || ward.bad(&[]).iter().any(|bad| bad.contains("has its memory alarm on -> give it more memory")).then_some(());
    wait_for(told).unwrap_or_else(|| panic!("no alarm: {:#?}", ward.bad(&[])));
    ward.rabbit.set_memory_alarm(false);
    ward.assert_well(&[]);

    ward.running.remove(2).kill9();
    ward.assert_bad(&[], &["wrong consumers: no worker listens", "start `offpeak worker`"]);
    ward.assert_bad(&[], &["wrong services", "cannot be reached"]);
    ward.postgres.kill9();
    ward.assert_bad(&[], &["wrong database", "cannot be used", "see that it is up"]);
}

fn broker_faults(ward: &Ward) {
    let without = || Some(ward.services.offpeak(&["doctor"])).filter(|without| without.code == Some(1));
    let without = wait_for(without).expect("nothing but warnings");
    assert!(without.stdout.contains("-> name it with --management"), "{without:?}");

    ward.api("DELETE", "/api/policies/%2f/offpeak-fetch", "");
    ward.assert_bad(&[], &["wrong policies: queue offpeak.fetch has no policy", "rabbitmqctl import_definitions"]);
    ward.rabbit.import_definitions(&root().join("deploy/rabbitmq/definitions-3.10.json"));

    let queue = "/api/queues/%2f/offpeak.dead.fetch";
    ward.api("DELETE", queue, "");
    ward.assert_bad(&[], &["wrong topology: queue offpeak.dead.fetch is missing", "start a producer"]);
    ward.api("PUT", queue, r#"{"durable":true,"arguments":{"x-queue-type":"classic"}}"#);
    ward.assert_bad(&[], &["wrong topology: queue offpeak.dead.fetch is of another kind", "delete_queue"]);
    ward.api("DELETE", queue, "");
    ward.api("PUT", queue, r#"{"durable":true,"arguments":{"x-queue-type":"quorum"}}"#);
    ward.assert_bad(&[], &["wrong bindings: not bound: queue offpeak.dead.fetch", "amqp.declare"]);
    ward.api("POST", "/api/bindings/%2f/e/offpeak.dead/q/offpeak.dead.fetch", r#"{"routing_key":"fetch"}"#);
    ward.assert_well(&[]);

    ward.rabbit.rabbitmqctl(&["add_user", "small", PASSWORD]);
    let rights =
        |configure, write, read| ward.rabbit.rabbitmqctl(&["set_permissions", "-p", "/", "small", configure, write, read]);
    let small = ward.services.amqp.replace("doc:", "small:");
    rights(".*", "^offpeak\\.(outcomes|fetch)$", "^offpeak\\.work\\.open\\.");
    ward.assert_bad(&["--amqp", &small], &["wrong rights", "may not consume", "offpeak.submit", "set_permissions"]);
    ward.assert_bad(&["--amqp", &small], &["wrong rights", "may not publish to offpeak.work"]);
    ward.assert_well(&["--amqp", &small, "--service", "worker"]);
    rights("^$", ".*", ".*");
    ward.assert_bad(&["--amqp", &small], &["wrong rights", "may not declare"]);

    // A customer by hand: it may submit, and nothing keeps it to its own name.
    ward.rabbit.rabbitmqctl(&["add_user", "acme", PASSWORD]);
    let rights = ["^$", "^offpeak\\.submit$", "^offpeak\\.customer\\.acme\\."];
    ward.rabbit.rabbitmqctl(&[&["set_permissions", "-p", "/", "acme"][..], &rights].concat());
    ward.assert_bad(&[], &["wrong customers: acme: it may submit under every name", "and 3 more", "offpeak customer add NAME"]);
    let management = ward.named.get(1).expect("the management side");
    let added = ward.services.offpeak(&["customer", "add", "acme", "--management", management]);
    assert_eq!(added.code, Some(0), "{added:?}");
    ward.assert_well(&[]);
    ward.rabbit.rabbitmqctl(&["set_user_tags", "doc", "monitoring"]);
    ward.assert_bad(&[], &["unchecked customers", "tag administrator"]);
    ward.rabbit.rabbitmqctl(&["set_user_tags", "doc", "administrator"]);

    let away = format!("amqp://doc:{PASSWORD}@127.0.0.1:1/%2f");
    ward.assert_bad(&["--amqp", &away], &["wrong broker", "amqp://doc@127.0.0.1:1", "see that it is up"]);
    let stranger = ward.services.amqp.replace("doc:", "nobody:");
    ward.assert_bad(&["--amqp", &stranger], &["wrong broker", "authenticate_user"]);
    ward.assert_bad(&["--management", "http://127.0.0.1:1"], &["warning management", "rabbitmq-plugins enable"]);
    ward.assert_well(&[]);
}

fn settings_faults(ward: &Ward) {
    let folder = ward.folder.path();
    let slow = settings(folder, "slow.toml", "[producer]\nmax_unit_ms = 1_000_000\n");
    ward.assert_bad(&["--config", &slow], &["warning timeout", "1,000,000 ms", "consumer_timeout = 4000000"]);
    let slower = "[producer]\nmax_unit_ms = 1_800_000\nreplica_deadline_ms = 3_600_000\n";
    ward.assert_bad(&["--config", &settings(folder, "slower.toml", slower)], &["wrong timeout"]);
    let other = settings(folder, "other.toml", "[grid]\nshards = 2\n");
    ward.assert_bad(&["--config", &other], &["wrong settings: producer", "grid.shards = 4", "say 2"]);
    ward.assert_bad(&["--config", &other], &["warning settings: queues that these settings do not name", "offpeak.outcomes.2"]);
    let mistaken = ward.doctor(&["--config", &settings(folder, "mistaken.toml", "[grid]\nshard = 2\n")]);
    assert_eq!(mistaken.code, Some(2), "{mistaken:?}");
}

fn database_faults(ward: &Ward) {
    let empty = ward.postgres.fresh_database();
    ward.assert_bad(&["--database", &empty], &["wrong schema", "no schema yet", "run `offpeak migrate`"]);
    assert_eq!(offpeak(ward.folder.path(), ["migrate", "--database", &empty]).code, Some(0));
    ward.assert_well(&["--database", &empty]);
    psql(&empty, "DELETE FROM _sqlx_migrations WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)").expect("psql");
    ward.assert_bad(&["--database", &empty], &["wrong schema", "schema is at version", "run `offpeak migrate`"]);
    psql(&empty, "ALTER DATABASE \"postgres\" SET default_transaction_read_only = on").expect("psql");
    ward.assert_bad(&["--database", &ward.postgres.url()], &["wrong database", "takes no writes"]);
    let away = format!("postgres://offpeak:{PASSWORD}@127.0.0.1:1/grid");
    ward.assert_bad(&["--database", &away], &["wrong database: postgres://offpeak@127.0.0.1:1/grid cannot be used"]);
    ward.assert_bad(&["--database", "sqlite:///nowhere/grid.db"], &["wrong database", "there is no file"]);
}
