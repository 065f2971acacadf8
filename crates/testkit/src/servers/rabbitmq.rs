//! A private RabbitMQ node, or a cluster of them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::address::RabbitAddress;
use super::supervisor::{Recipe, Supervised, accepts, free_port, installed, output, scratch, search_path};
use super::tls::Tls;

/// Where packages put the broker's own scripts; the wrappers in `sbin` change the user and the folders.
const SCRIPTS: [&str; 2] = ["/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin"];

const EPMD: [&str; 3] = ["/usr/bin/epmd", "/usr/local/bin/epmd", "/opt/erlang/bin/epmd"];

const MISSING: &str = "it is not installed: run `make setup`, or name a running one in OFFPEAK_TEST_AMQP_URL";

/// A node starts in about 5 s on an idle machine; a crowded one takes its time.
const START_PATIENCE: Duration = Duration::from_mins(2);

/// A port found free may be taken by someone else before the node binds it.
const START_TRIES: usize = 3;

/// How often an alarm is looked for; each look takes about a second by itself.
const ALARM_LOOKS: usize = 30;

/// What the nodes of one cluster share: the daemon that knows their names, and the folder with their secret.
#[derive(Debug)]
struct Names {
    epmd: Supervised,
    port: u16,
    home: String,
}

impl Names {
    fn start() -> Result<Self, String> {
        let epmd = installed(&EPMD).ok_or(MISSING)?;
        let (home, port) = (scratch("epmd")?, free_port()?);
        let names = Self {
            home: text(&home),
            port,
            epmd: Supervised::new(Recipe {
                name: "epmd",
                scratch: home,
                stop: "KILL",
                command: vec![text(&epmd), "-address".into(), "127.0.0.1".into()],
                env: vec![("PATH", search_path()), ("ERL_EPMD_PORT", port.to_string())],
            })?,
        };
        names.epmd.start(START_PATIENCE, || accepts(port))?;
        Ok(names)
    }
}

/// A RabbitMQ node of one's own, with the plugins of management and Prometheus; it ends when dropped or when the process ends.
#[derive(Debug)]
pub struct RabbitMq {
    name: String,
    address: RabbitAddress,
    // Dropped in this order: the node before the daemon that knows its name.
    node: Supervised,
    names: Arc<Names>,
    scripts: PathBuf,
    env: Vec<(&'static str, String)>,
    tls: Option<Tls>,
}

impl RabbitMq {
    /// Starts a node and waits until it serves.
    ///
    /// # Panics
    /// When RabbitMQ is not installed or does not start.
    pub fn start() -> Self {
        Self::started(|| Self::try_start(0, Arc::new(Names::start()?), false))
    }

    /// Starts a node that listens for TLS as well, with a certificate by an authority that nobody knows.
    ///
    /// # Panics
    /// When RabbitMQ or openssl is not installed or does not start.
    pub fn start_with_tls() -> Self {
        Self::started(|| Self::try_start(0, Arc::new(Names::start()?), true))
    }

    fn started<T>(start: impl Fn() -> Result<T, String>) -> T {
        let mut problem = String::new();
        for _ in 0..START_TRIES {
            match start() {
                Ok(started) => return started,
                Err(failed) => problem = failed,
            }
        }
        panic!("no RabbitMQ for the tests: {problem}")
    }

    /// Starts a cluster of so many nodes, `offpeak-test-0@localhost` and on, each with every right and duty.
    ///
    /// # Panics
    /// When RabbitMQ is not installed or does not start.
    pub fn cluster(nodes: usize) -> Vec<Self> {
        Self::started(|| {
            let names = Arc::new(Names::start()?);
            (0..nodes).map(|number| Self::try_start(number, Arc::clone(&names), false)).collect()
        })
    }

    /// Starts a node; one that is not the first joins it.
    fn try_start(number: usize, names: Arc<Names>, with_tls: bool) -> Result<Self, String> {
        let scripts = installed(&SCRIPTS).ok_or(MISSING)?;
        let folder = scratch("rabbitmq")?;
        let [amqp, management, distribution] = [free_port()?, free_port()?, free_port()?];
        let env = environment(&folder, &names, &node_name(number), distribution);
        let tls = if with_tls { Some(Tls::make(&folder, free_port()?)?) } else { None };
        write_settings(&folder, [amqp, management, free_port()?], number, tls.as_ref())?;

        let server = Self {
            name: node_name(number),
            address: RabbitAddress::new(
                &format!("amqp://guest:guest@127.0.0.1:{amqp}"),
                Some(&format!("http://guest:guest@127.0.0.1:{management}")),
            ),
            node: Supervised::new(Recipe {
                name: "rabbitmq-server",
                scratch: folder,
                stop: "KILL",
                command: vec![text(&scripts.join("rabbitmq-server"))],
                env: env.clone(),
            })?,
            names,
            scripts,
            env,
            tls,
        };
        server.begin()?;
        Ok(server)
    }

    /// Starts the node, and waits until it serves and its boot is over.
    fn begin(&self) -> Result<(), String> {
        self.node.start(START_PATIENCE, || self.address.is_up())?;
        self.try_rabbitmqctl(&["await_startup"]).map(drop)
    }

    /// Its name as a node.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub fn address(&self) -> &RabbitAddress {
        &self.address
    }

    /// The URL of its default vhost.
    pub fn url(&self) -> String {
        self.address.url()
    }

    /// Makes a fresh vhost and returns its URL.
    ///
    /// # Panics
    /// When the node refuses.
    pub fn vhost(&self, name: &str) -> String {
        self.address.vhost(name)
    }

    /// A URL of this node for TLS instead, and the file of the authority that clients must be told of; none without TLS.
    pub fn over_tls(&self, url: &str) -> Option<(String, &Path)> {
        let tls = self.tls.as_ref()?;
        let url =
            url.replacen("amqp://", "amqps://", 1).replacen(&format!(":{}", self.address.port()), &format!(":{}", tls.port), 1);
        Some((url, &tls.authority))
    }

    /// The process id of the node, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.node.pid()
    }

    /// Runs `rabbitmqctl` against this node and returns what it printed.
    ///
    /// # Panics
    /// When the command fails.
    pub fn rabbitmqctl(&self, args: &[&str]) -> String {
        self.try_rabbitmqctl(args).unwrap_or_else(|problem| panic!("{problem}"))
    }

    fn try_rabbitmqctl(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new(self.scripts.join("rabbitmqctl"));
        command.env_clear().envs(self.env.clone()).arg("--quiet").args(args);
        let what = format!("rabbitmqctl {}", args.join(" "));
        output(&what, &mut command)
    }

    /// Imports a definitions file.
    ///
    /// # Panics
    /// When the node refuses it.
    pub fn import_definitions(&self, path: &Path) {
        self.rabbitmqctl(&["import_definitions", &text(path)]);
    }

    /// Raises or clears the memory alarm, which blocks publishers, and waits until it is so.
    ///
    /// # Panics
    /// When the alarm does not follow.
    pub fn set_memory_alarm(&self, raised: bool) {
        let watermark = if raised { "0.00001" } else { "0.4" };
        self.rabbitmqctl(&["set_vm_memory_high_watermark", watermark]);
        for _ in 0..ALARM_LOOKS {
            let alarms = self.rabbitmqctl(&["eval", "rabbit_alarm:get_alarms()."]);
            if alarms.contains("memory") == raised {
                return;
            }
        }
        panic!("the memory alarm of RabbitMQ did not become {raised}");
    }

    /// Kills the node with SIGKILL, as a power cut would.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill9(&self) {
        self.node.kill9().unwrap_or_else(|problem| panic!("{problem}"));
    }

    /// Starts the node again on the same ports and data, after [`kill9`](Self::kill9) or out of a running state.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&self) {
        let started = self.epmd_is_up().and_then(|()| {
            self.node.stop()?;
            self.begin()
        });
        started.unwrap_or_else(|problem| panic!("{problem}"));
    }

    fn epmd_is_up(&self) -> Result<(), String> {
        self.names.epmd.pid().map(drop).ok_or_else(|| "epmd is not running".to_owned())
    }
}

/// The node's whole environment: nothing of the machine's own RabbitMQ is read or written.
fn environment(folder: &Path, names: &Names, node: &str, distribution: u16) -> Vec<(&'static str, String)> {
    let inside = |name: &str| text(&folder.join(name));
    vec![
        ("PATH", search_path()),
        ("HOME", names.home.clone()),
        ("LANG", "C.UTF-8".into()),
        ("ERL_EPMD_PORT", names.port.to_string()),
        ("RABBITMQ_NODENAME", node.to_owned()),
        ("RABBITMQ_DIST_PORT", distribution.to_string()),
        ("RABBITMQ_MNESIA_BASE", inside("data")),
        ("RABBITMQ_LOG_BASE", inside("log")),
        ("RABBITMQ_CONF_ENV_FILE", inside("no-env.conf")),
        ("RABBITMQ_CONFIG_FILE", inside("rabbitmq.conf")),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", inside("advanced.config")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", inside("enabled_plugins")),
        ("RABBITMQ_PID_FILE", inside("node.pid")),
        // Makes the script replace itself by the node, so that the supervised process id is the node's.
        ("RUNNING_UNDER_SYSTEMD", "true".into()),
        // On a crowded machine nodes and commands take long to meet.
        (
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-start_epmd false -kernel net_setuptime 120 -kernel inet_dist_use_interface {127,0,0,1}".into(),
        ),
        ("RABBITMQ_CTL_ERL_ARGS", "-start_epmd false -kernel net_setuptime 120".into()),
    ]
}

fn node_name(number: usize) -> String {
    format!("offpeak-test-{number}@localhost")
}

fn write_settings(folder: &Path, ports: [u16; 3], number: usize, tls: Option<&Tls>) -> Result<(), String> {
    let [amqp, management, prometheus] = ports;
    let mut settings = String::new();
    let mut values = vec![
        ("listeners.tcp.1", format!("127.0.0.1:{amqp}")),
        ("management.tcp.ip", "127.0.0.1".to_owned()),
        ("management.tcp.port", management.to_string()),
        ("disk_free_limit.absolute", "50MB".to_owned()),
    ];
    if number > 0 {
        values.push(("cluster_formation.peer_discovery_backend", "classic_config".to_owned()));
        values.push(("cluster_formation.classic_config.nodes.1", node_name(0)));
        values.push(("cluster_formation.classic_config.nodes.2", node_name(number)));
    }
    if let Some(tls) = tls {
        values.push(("listeners.ssl.1", format!("127.0.0.1:{}", tls.port)));
        values.push(("ssl_options.cacertfile", text(&tls.authority)));
        values.push(("ssl_options.certfile", text(&tls.certificate)));
        values.push(("ssl_options.keyfile", text(&tls.key)));
    }
    for (key, value) in values {
        writeln!(settings, "{key} = {value}").map_err(|error| error.to_string())?;
    }
    let write =
        |name: &str, text: &str| fs::write(folder.join(name), text).map_err(|error| format!("cannot write {name}: {error}"));
    write("rabbitmq.conf", &settings)?;
    // Consumer timeouts and the counts of quorum queues are looked at every second, so that tests need not wait for them.
    let ticks = "{rabbit, [{channel_tick_interval, 1000}, {quorum_tick_interval, 1000}]}";
    let listener = format!("{{rabbitmq_prometheus, [{{tcp_config, [{{ip, \"127.0.0.1\"}}, {{port, {prometheus}}}]}}]}}");
    write("advanced.config", &format!("[{ticks}, {listener}].\n"))?;
    write("enabled_plugins", "[rabbitmq_management,rabbitmq_prometheus].\n")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
