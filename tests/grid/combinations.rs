//! The same job gives the same bytes and the same fuel, whatever it runs on and however it is cut.

use serde_json::Value;
use testkit::servers;

use crate::offpeak::{MONTE_CARLO, ONE_SLOT, Running, Services, job, monte_carlo, offpeak, root};
use crate::services::billed_units;

/// Jobs small enough to run many times; each with a reduction.
const JOBS: [(&str, &str); 3] = [
    ("monte-carlo", "reduce = true\n[input]\nrange = [0, 24]\n[params]\npaths_per_item = 512\nseed = 7\nMONTE_CARLO"),
    (
        "drift-search",
        "reduce = true\n[input]\ngrid = { block = [-1, 0, 1, 2, 3, 4, 5, 6, 7] }\nshared = \"EXAMPLE/spectrum.f32\"\n\
         [params]\nchannels = 4096\nfch1_mhz = 8419.5\nfoff_mhz = -2.7939677238464355e-6\ntsamp_s = 18.253611008\nsnr = 10.0\n",
    ),
    (
        "signal-search",
        "reduce = true\n[input]\nrange = [478, 487]\nshared = \"EXAMPLE/recording.c64\"\n\
         [params]\nsample_rate_hz = 4096.0\nfft_lengths = [4096, 65536]\nthreshold = 32.0\n\
         drift_start_hz_per_s = -2.0\ndrift_step_hz_per_s = 0.005\n",
    ),
];

type Sums = (String, String, String, Option<u64>);

fn sums(summary: &Value) -> Sums {
    let text = |name: &str| summary[name].as_str().unwrap_or_else(|| panic!("no {name} in {summary}")).to_owned();
    (text("output_digest"), text("items_digest"), text("fuel"), summary["bytes"].as_u64())
}

#[test]
fn workers_unit_sizes_broker_and_database_do_not_show() {
    let folder = tempfile::tempdir().expect("a folder");
    for (app, body) in JOBS {
        let body = body.replace("MONTE_CARLO", MONTE_CARLO);
        let body = body.replace("EXAMPLE", &root().join("examples").join(app).display().to_string());
        let mut seen: Vec<(String, Sums)> = Vec::new();
        for (workers, max_items, servers) in
            [("1", 1, [false, false]), ("4", 3, [false, true]), ("4", 1_000, [true, false]), ("2", 5, [true, true])]
        {
            let file = job(folder.path(), app, app, &format!("{body}[unit]\nmax_items = {max_items}\n"));
            let mut args = vec!["run".to_owned(), file.display().to_string(), "--json".to_owned()];
            args.extend(["--workers".to_owned(), workers.to_owned(), "--out".to_owned(), "out".to_owned()]);
            if servers[0] {
                args.extend(["--amqp".to_owned(), servers::rabbitmq().vhost(app)]);
            }
            if servers[1] {
                args.extend(["--database".to_owned(), servers::postgres().fresh_database()]);
            }
            let done = offpeak(folder.path(), &args);
            assert_eq!(done.code, Some(0), "{app}, {args:?}: {done:?}");
            seen.push((
                format!("{workers} workers, units of {max_items}, RabbitMQ and PostgreSQL: {servers:?}"),
                sums(&done.json()),
            ));
        }
        for (how, sums) in &seen {
            assert_eq!(sums, &seen[0].1, "{app}: {how} differs from {}", seen[0].0);
        }
    }
}

#[test]
fn a_quorum_of_two_computes_twice_and_bills_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = monte_carlo(folder.path(), 12, 3, "quorum = 2\n");
    let args = ["run", &file.display().to_string(), "--json", "--workers", "2", "--data", "data"].map(str::to_owned);
    let done = offpeak(folder.path(), &args);
    assert_eq!(done.code, Some(0), "{done:?}");
    let summary = done.json();
    // More only if the machine is so busy that one is given up for lost.
    assert!(summary["replicas"].as_u64() >= summary["units"].as_u64().map(|units| units * 2), "{summary}");
    let usage = offpeak(folder.path(), ["usage", "--data", "data", "--format", "csv"]);
    assert_eq!(usage.code, Some(0), "{usage:?}");
    assert_eq!(Some(billed_units(&usage.stdout)), summary["units"].as_u64(), "{}", usage.stdout);
}

#[test]
fn services_in_processes_of_their_own_agree_with_one_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = monte_carlo(folder.path(), 24, 3, "");
    let alone = offpeak(folder.path(), ["run".as_ref(), file.as_os_str(), "--json".as_ref()]).json();
    let services = Services::new(folder.path(), "together");
    let running = ["producer", "aggregator", "worker", "worker"].map(|kind| services.start(kind, &ONE_SLOT));
    running.iter().for_each(Running::ready);
    let done = services.offpeak(&["submit", &file.display().to_string(), "--wait", "--json", "--out", "out"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(sums(&done.json()), sums(&alone));
}
