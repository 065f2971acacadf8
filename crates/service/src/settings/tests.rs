//! The loader against files and environments, good and bad.

use serde::Deserialize;

use super::{Mistake, Origin, Secret, SettingsError, Validate, load, optional};

const DEFAULTS: &str = r#"
# How the process talks to its broker.
[broker]
url = ""
prefetch = 8
tags = ["a"]
[worker]
slots = 2
ratio = 0.5
pause = false
mode = "fast"
label = ""
[pools]
"#;

#[derive(Debug, Deserialize, PartialEq)]
struct Settings {
    broker: Broker,
    worker: Worker,
    pools: std::collections::BTreeMap<String, Pool>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Broker {
    url: Secret,
    prefetch: u16,
    tags: Vec<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Worker {
    slots: u32,
    ratio: f64,
    pause: bool,
    mode: Mode,
    #[serde(deserialize_with = "optional")]
    label: Option<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Fast,
    Slow,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Pool {
    lanes: u32,
}

impl Validate for Settings {
    fn validate(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if self.worker.slots == 0 {
            mistakes.push(Mistake::new("worker.slots", "must be at least 1"));
        }
        mistakes
    }
}

fn from(file: Option<&str>, env: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("offpeak.toml");
    if let Some(text) = file {
        std::fs::write(&path, text).expect("settings file");
    }
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(DEFAULTS, file.map(|_| path.as_path()), env)
}

fn mistakes(file: Option<&str>, env: &[(&str, &str)]) -> Vec<Mistake> {
    from(file, env).expect_err("these settings are wrong").mistakes().to_vec()
}

#[test]
fn defaults_alone_are_enough() {
    let settings = from(None, &[]).expect("defaults");
    assert_eq!(settings.worker.slots, 2);
    assert_eq!(settings.worker.mode, Mode::Fast);
    assert_eq!(settings.worker.label, None);
    assert!(settings.broker.url.is_empty());
    assert!(settings.pools.is_empty());
}

#[test]
fn environment_wins_over_file_wins_over_default() {
    let file = "[worker]\nslots = 3\nratio = 1\n[broker]\nprefetch = 9\n[pools.open]\nlanes = 4\n";
    let env = [
        ("OFFPEAK__WORKER__SLOTS", "5"),
        ("OFFPEAK__WORKER__PAUSE", "true"),
        ("OFFPEAK__WORKER__LABEL", "07"),
        ("OFFPEAK__BROKER__TAGS", "x, y"),
        ("OFFPEAK__POOLS__TRUSTED__LANES", "2"),
        ("OFFPEAK_SERVICE_HOST", "ignored: a single underscore is not ours"),
    ];
    let settings = from(Some(file), &env).expect("settings");
    assert_eq!(settings.worker.slots, 5);
    assert!((settings.worker.ratio - 1.0).abs() < f64::EPSILON);
    assert!(settings.worker.pause);
    assert_eq!(settings.worker.label.as_deref(), Some("07"));
    assert_eq!(settings.broker.prefetch, 9);
    assert_eq!(settings.broker.tags, ["x", "y"]);
    assert_eq!(settings.pools["open"], Pool { lanes: 4 });
    assert_eq!(settings.pools["trusted"], Pool { lanes: 2 });
}

#[test]
fn every_mistake_is_reported_with_its_place_and_way_out() {
    let file = "[worker]\nslot = 3\nratio = \"half\"\nmode = \"quick\"\n\n[broker]\nprefetch = 70000\n";
    let env = [("OFFPEAK__WORKER__PAUSE", "maybe"), ("OFFPEAK__WORKER__SLOTS", "0")];
    let error = from(Some(file), &env).expect_err("six mistakes");
    let text = error.to_string();
    assert_eq!(error.mistakes().len(), 6, "{text}");
    for part in [
        "6 mistakes in the settings",
        "offpeak.toml line 2: worker.slot is not a known key; did you mean worker.slots?",
        "offpeak.toml line 3: worker.ratio must be a number, but is a text; the default is 0.5",
        "offpeak.toml line 4: worker.mode",
        "offpeak.toml line 7: broker.prefetch",
        "variable OFFPEAK__WORKER__PAUSE: worker.pause must be true or false, but is \"maybe\"",
        "variable OFFPEAK__WORKER__SLOTS: worker.slots must be at least 1",
    ] {
        assert!(text.contains(part), "missing {part:?} in:\n{text}");
    }
}

#[test]
fn unknown_keys_are_refused_in_file_and_environment() {
    let found = mistakes(Some("[wroker]\nslots = 1\n"), &[("OFFPEAK__BROKER__ULR", "x")]);
    let outs: Vec<_> = found.iter().filter_map(|mistake| mistake.way_out.as_deref()).collect();
    assert_eq!(outs, ["did you mean worker.slots?", "did you mean OFFPEAK__BROKER__URL?"]);
    let found = mistakes(Some("[broker]\nentirely_else = 1\n"), &[]);
    let out = found[0].way_out.as_deref();
    assert_eq!(out, Some("known are broker.prefetch, broker.tags, broker.url"));
    assert_eq!(mistakes(Some("worker = 1\n"), &[])[0].problem, "is a section, not a value");
    assert_eq!(mistakes(Some("[nothing]\n"), &[])[0].key, "nothing");
}

#[test]
fn a_syntax_error_names_its_line_and_does_not_hide_the_environment() {
    let found = mistakes(Some("[worker]\nslots = = 1\n"), &[("OFFPEAK__WORKER__SLOTS", "two")]);
    assert!(found.len() >= 2, "{found:?}");
    assert!(matches!(&found[0].origin, Origin::File { line: Some(2), .. }), "{found:?}");
    assert_eq!(found.last().map(|mistake| mistake.key.as_str()), Some("worker.slots"));
}

#[test]
fn a_missing_file_is_a_mistake() {
    let error = load::<Settings>(DEFAULTS, Some("no/such/file.toml".as_ref()), std::iter::empty());
    let text = error.expect_err("no file").to_string();
    assert!(text.contains("no/such/file.toml: cannot be read"), "{text}");
}

#[test]
fn a_secret_is_read_from_a_file_and_never_printed() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("url");
    std::fs::write(&path, "amqp://user:password@host\n").expect("secret file");
    let path = path.to_str().expect("path");
    let settings = from(None, &[("OFFPEAK__BROKER__URL_FILE", path)]).expect("settings");
    assert_eq!(settings.broker.url.expose(), "amqp://user:password@host");
    assert!(!format!("{settings:?}").contains("password"));

    let both = [("OFFPEAK__BROKER__URL_FILE", path), ("OFFPEAK__BROKER__URL", "amqp://other")];
    assert!(mistakes(None, &both)[0].problem.starts_with("is already given"));
    let gone = mistakes(None, &[("OFFPEAK__BROKER__URL_FILE", "no/such/secret")]);
    assert!(gone[0].problem.contains("no/such/secret"), "{gone:?}");
}

#[test]
fn lists_and_tables_in_variables_may_be_toml() {
    let env = [("OFFPEAK__BROKER__TAGS", r#"["p", "q,r"]"#), ("OFFPEAK__POOLS", "{ open = { lanes = 3 } }")];
    let settings = from(None, &env).expect("settings");
    assert_eq!(settings.broker.tags, ["p", "q,r"]);
    assert_eq!(settings.pools["open"].lanes, 3);
    assert_eq!(mistakes(None, &[("OFFPEAK__BROKER__TAGS", "[1, 2]")])[0].key, "broker.tags");
    let wrong = mistakes(None, &[("OFFPEAK__POOLS__OPEN__LANES", "many")]);
    assert!(matches!(wrong[0].origin, Origin::Variable(_)), "{wrong:?}");
}
