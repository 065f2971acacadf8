//! The program as people call it: help, bad usage, bad job files, closed pipes.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Every command with a help text of its own.
const COMMANDS: [&[&str]; 33] = [
    &[],
    &["run"],
    &["producer"],
    &["worker"],
    &["aggregator"],
    &["migrate"],
    &["submit"],
    &["status"],
    &["result"],
    &["cancel"],
    &["pause"],
    &["resume"],
    &["usage"],
    &["app"],
    &["app", "inspect"],
    &["customer"],
    &["customer", "add"],
    &["customer", "list"],
    &["customer", "show"],
    &["customer", "limits"],
    &["customer", "rotate"],
    &["customer", "remove"],
    &["contract"],
    &["definitions"],
    &["dead"],
    &["dead", "list"],
    &["dead", "show"],
    &["dead", "replay"],
    &["dead", "drop"],
    &["top"],
    &["doctor"],
    &["health"],
    &["bench"],
];

fn offpeak(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_offpeak"));
    command.args(arguments);
    // The help names the variables, never their values; the width is fixed.
    for name in [
        "OFFPEAK__AMQP__URL",
        "OFFPEAK__AMQP__MANAGEMENT_URL",
        "OFFPEAK__DATABASE__URL",
        "OFFPEAK__CUSTOMER",
        "OFFPEAK__LOG__FILTER",
    ] {
        command.env_remove(name);
    }
    command.env("COLUMNS", "100").stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    offpeak(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_help_is_as_committed() {
    let all: String = COMMANDS
        .iter()
        .map(|command| {
            let arguments: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
            let help = output(&arguments);
            assert!(help.status.success());
            format!("$ offpeak {}\n{}\n", arguments.join(" "), text(&help.stdout))
        })
        .collect::<Vec<_>>()
        .concat();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/help.txt");
    let actual = Path::new(env!("CARGO_TARGET_TMPDIR")).join("help.txt");
    std::fs::write(&actual, &all).unwrap();
    let same = std::fs::read_to_string(&golden).unwrap_or_default() == all;
    assert!(same, "the help has changed; if it is meant: cp {} {}", actual.display(), golden.display());
}

#[test]
fn every_help_has_examples() {
    for command in COMMANDS.iter().filter(|command| ![&["app"][..], &["dead"], &["customer"]].contains(command)) {
        let arguments: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        let help = text(&output(&arguments).stdout);
        assert!(help.contains("Examples:"), "{command:?}");
    }
}

#[test]
fn each_service_is_a_program_of_its_own() {
    let programs =
        [env!("CARGO_BIN_EXE_offpeak-producer"), env!("CARGO_BIN_EXE_offpeak-worker"), env!("CARGO_BIN_EXE_offpeak-aggregator")];
    for program in programs {
        let run = |argument: &str| Command::new(program).arg(argument).stdin(Stdio::null()).output().unwrap();
        let help = text(&run("--help").stdout);
        assert!(help.contains("Examples:") && help.contains("--config <FILE>") && !help.contains("COMMAND"), "{help}");
        assert!(text(&run("--version").stdout).ends_with(&format!(" {}\n", env!("CARGO_PKG_VERSION"))));
        let wrong = run("--config=gone.toml");
        assert!(wrong.status.code() == Some(2) && text(&wrong.stderr).contains("gone.toml"), "{wrong:?}");
    }
}

#[test]
fn a_bad_job_file_is_exit_code_2_with_every_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("job.toml");
    std::fs::write(&file, "app = \"gone.wasm\"\nqorum = 2\n[input]\nrange = [3, 1]\n").unwrap();
    for command in ["run", "submit"] {
        let output = output(&[command, &file.display().to_string()]);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        for part in
            ["3 mistakes", "job.toml:1:7: ", "job.toml:2:1: unknown key `qorum`; did you mean `quorum`?", "job.toml:4:9: "]
        {
            assert!(told.contains(part), "{part} in {told}");
        }
        assert_eq!(output.stdout, b"");
    }
    let gone = output(&["run", "/nonexistent/job.toml"]);
    assert_eq!(gone.status.code(), Some(2));
    assert!(text(&gone.stderr).contains("cannot read the job file"), "{}", text(&gone.stderr));
}

#[test]
fn fewer_workers_than_the_quorum_are_refused_before_anything_begins() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("app.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let file = folder.path().join("job.toml");
    std::fs::write(&file, "app = \"app.wasm\"\nquorum = 3\n[input]\nrange = [0, 1]\n").unwrap();
    let data = folder.path().join("data").display().to_string();
    let output = output(&["run", &file.display().to_string(), "--workers", "2", "--data", &data]);
    let told = text(&output.stderr);
    assert!(output.status.code() == Some(2) && told.contains("--workers 3 or more"), "{told}");
}

#[test]
fn bad_usage_is_exit_code_2() {
    let no_database = "no database is named";
    let cases: [(&[&str], &str); 11] = [
        (&["runn"], "tip: a similar subcommand exists: 'run'"),
        (&["run"], "required arguments were not provided"),
        (&["run", "x.toml", "--workers", "0"], "whole number from 1"),
        (&["status", "not-a-job"], "a UUID, as the reply"),
        (&["usage", "--period", "2026-13", "--database", "sqlite:///x"], "write a month as 2026-07"),
        (&["usage", "--customer", "A"], "customer name"),
        (&["usage"], no_database),
        (&["status", "--data", "/nonexistent"], "there is no data folder /nonexistent"),
        (&["run", "x.toml", "--amqp", "ann:s3cret@rabbit"], "--amqp <URL> or OFFPEAK__AMQP__URL cannot be used: broker URL"),
        (&["usage", "--database", "mysql://ann:s3cret@db/grid"], "neither sqlite://PATH nor postgres://"),
        (&["dead", "list", "--amqp", ""], "no broker is named"),
    ];
    for (arguments, part) in cases {
        let output = output(arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(told.contains(part) && !told.contains("s3cret"), "{arguments:?}: {told}");
    }
    // A variable is read like the flag; one that is set to nothing is none.
    for (url, part) in [("ann:s3cret@db", "OFFPEAK__DATABASE__URL cannot be used"), ("", no_database)] {
        let output = offpeak(&["usage"]).env("OFFPEAK__DATABASE__URL", url).output().unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(part) && !told.contains("s3cret"), "{told}");
    }
}

#[test]
fn a_database_that_is_not_there_is_refused_and_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().display().to_string();
    let url = format!("sqlite://{data}/grid.db");
    let cases: [(&[&str], &str); 3] = [
        (&["status", "--data", &data], "there is no grid.db in the folder"),
        (&["usage", "--database", &url], "there is no file"),
        (&["pause", "01980f3c-7b1e-7c55-8d42-0123456789ab", "--data", &data], "there is no grid.db in the folder"),
    ];
    for (arguments, part) in cases {
        let output = output(arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(told.contains(part), "{arguments:?}: {told}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is made");
}

#[test]
fn outputs_that_would_replace_what_the_job_reads_are_refused_before_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let job = "app = \"app.wasm\"\nreduce = true\ninput.lines = \"outputs.jsonl\"\n";
    for (name, bytes) in [("app.wasm", &b"\0asm"[..]), ("outputs.jsonl", b"my own\n"), ("job.toml", job.as_bytes())] {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    for arguments in [&["run", "job.toml", "--out", "."][..], &["submit", "job.toml", "--wait", "--out", "."]] {
        let output = offpeak(arguments).current_dir(folder.path()).output().unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("outputs.jsonl, which the job needs: name another folder with --out DIR"), "{told}");
    }
    assert_eq!(std::fs::read(folder.path().join("outputs.jsonl")).unwrap(), b"my own\n");
}

#[test]
fn a_database_that_is_away_is_named_without_its_password() {
    let url = "postgres://me:secret@127.0.0.1:1/grid";
    let output = output(&["status", "--database", url]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("cannot use the database postgres://me@127.0.0.1:1/grid: see that it is up"), "{told}");
    assert!(!told.contains("secret"), "{told}");
}

#[test]
fn a_database_without_tables_is_named_and_migrating_helps() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("grid.db").display());
    std::fs::File::create(folder.path().join("grid.db")).unwrap();
    let before = output(&["usage", "--database", &url]);
    assert_eq!(before.status.code(), Some(3));
    assert!(text(&before.stderr).contains("offpeak migrate"), "{}", text(&before.stderr));
    for _ in 0..2 {
        assert_eq!(output(&["migrate", "--database", &url]).status.code(), Some(0));
    }
    let after = output(&["usage", "--data", &folder.path().display().to_string(), "--format", "csv"]);
    assert_eq!((after.status.code(), text(&after.stdout).as_str()), (Some(0), "customer,pool,meter,units,fuel,bytes\n"));
    let json = output(&["usage", "--database", &url, "--period", "2026-07", "--format", "json"]);
    assert_eq!(text(&json.stdout), "{\"period\":\"2026-07\",\"usage\":[]}\n");
    let unknown = output(&["status", "01980f3c-7b1e-7c55-8d42-0123456789ab", "--database", &url]);
    assert!(text(&unknown.stderr).contains("is not in the database"), "{}", text(&unknown.stderr));
    assert_eq!(unknown.status.code(), Some(2));
    // A folder that is named outweighs the variable of a shell in which services run.
    let data = folder.path().display().to_string();
    let beside =
        offpeak(&["status", "--data", &data]).env("OFFPEAK__DATABASE__URL", "postgres://nobody@127.0.0.1:1/none").output();
    assert_eq!(beside.unwrap().status.code(), Some(0));
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("grid.db").display());
    assert!(output(&["migrate", "--database", &url]).status.success());
    for arguments in [
        &["usage", "--log", "error", "--database", &url][..],
        &["--help"],
        &["status", "--log", "error", "--json", "--database", &url],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = offpeak(arguments).stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        let told = text(&output.stderr);
        assert!(output.status.success() && told.is_empty(), "{arguments:?}: {told}");
    }
}
