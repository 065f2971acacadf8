//! A private RabbitMQ node, and the address of any.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use super::http::Endpoint;
use super::supervisor::{Recipe, Supervised, accepts, free_port, installed, output, scratch, search_path};

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

/// Makes the vhosts of one process differ.
static NEXT_VHOST: AtomicU32 = AtomicU32::new(0);

/// Where a RabbitMQ is: enough to connect and to make vhosts.
#[derive(Debug, Clone)]
pub struct RabbitAddress {
    /// `amqp://user:password@host:port`, without a vhost.
    base: String,
    /// What the URL had after the host: the encoded name of the default vhost, or nothing.
    default_vhost: String,
    management: Endpoint,
}

impl RabbitAddress {
    /// Takes a URL apart; without a `management` URL it is port 15672 of the same host and login.
    pub fn new(url: &str, management: Option<&str>) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("amqp", url));
        let (authority, vhost) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, host) = authority.rsplit_once('@').unwrap_or(("guest:guest", authority));
        let host_only = host.rsplit_once(':').map_or(host, |(host, _port)| host);
        let by_default = format!("http://{login}@{host_only}:15672");
        Self {
            base: format!("{scheme}://{login}@{host}"),
            default_vhost: vhost.to_owned(),
            management: Endpoint::parse(management.unwrap_or(&by_default)),
        }
    }

    /// The URL of the default vhost.
    pub fn url(&self) -> String {
        if self.default_vhost.is_empty() {
            return self.base.clone();
        }
        format!("{}/{}", self.base, self.default_vhost)
    }

    /// The port of AMQP.
    pub fn port(&self) -> u16 {
        self.base.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(5672)
    }

    /// The URL of the management HTTP side.
    pub fn management_url(&self) -> String {
        self.management.url()
    }

    /// Makes a fresh vhost, in whose name `name` stands, and returns its URL.
    ///
    /// # Panics
    /// When the management side refuses or is not there.
    pub fn vhost(&self, name: &str) -> String {
        self.try_vhost(name)
            .unwrap_or_else(|problem| panic!("cannot make a vhost, is {} right? {problem}", super::MANAGEMENT_URL))
    }

    fn try_vhost(&self, name: &str) -> Result<String, String> {
        let number = NEXT_VHOST.fetch_add(1, Ordering::Relaxed);
        let vhost = format!("{}-{}-{number}", plain(name), unique());
        // A cluster that has just formed may take longer than one question waits; asking again is harmless.
        let mut made = self.make_vhost(&vhost);
        for _again in 0..4 {
            if made.is_ok() {
                break;
            }
            made = self.make_vhost(&vhost);
        }
        made?;
        Ok(format!("{}/{vhost}", self.base))
    }

    /// Sets a policy, as JSON, in the vhost of a URL.
    ///
    /// # Panics
    /// When the management side refuses or is not there.
    pub fn set_policy(&self, url: &str, name: &str, policy: &str) {
        let vhost = url.rsplit('/').next().unwrap_or_default();
        self.api("PUT", &format!("/api/policies/{vhost}/{name}"), policy).unwrap_or_else(|problem| panic!("{problem}"));
    }

    /// Makes a vhost of exactly that name, empty, with every right for the login of this address.
    pub fn make_vhost(&self, vhost: &str) -> Result<(), String> {
        self.api("PUT", &format!("/api/vhosts/{vhost}"), "{}")?;
        let login = self.base.split_once("://").map_or("", |(_, rest)| rest);
        let user = login.split(':').next().unwrap_or("guest");
        let everything = r#"{"configure":".*","write":".*","read":".*"}"#;
        self.api("PUT", &format!("/api/permissions/{vhost}/{user}"), everything).map(drop)
    }

    /// Asks the management side, and returns the text of its answer.
    pub fn api(&self, method: &str, path: &str, body: &str) -> Result<String, String> {
        match self.management.request(method, path, body)? {
            (200..=299, text) => Ok(text),
            (status, text) => Err(format!("{method} {path} answered {status}: {text}")),
        }
    }

    fn is_up(&self) -> bool {
        let api = self.management.request("GET", "/api/overview", "");
        matches!(api, Ok((200, _))) && self.speaks_amqp()
    }

    /// Whether the broker answers a protocol header with its `connection.start`.
    fn speaks_amqp(&self) -> bool {
        use std::io::{Read, Write};
        let host = self.base.rsplit_once('@').map_or("", |(_, host)| host);
        let Ok(mut stream) = TcpStream::connect(host) else {
            return false;
        };
        let mut first = [0; 1];
        stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok()
            && stream.write_all(b"AMQP\x00\x00\x09\x01").is_ok()
            && stream.read_exact(&mut first).is_ok()
            && first == [1]
    }
}

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
    address: RabbitAddress,
    // Dropped in this order: the node before the daemon that knows its name.
    node: Supervised,
    names: Arc<Names>,
    scripts: PathBuf,
    env: Vec<(&'static str, String)>,
}

impl RabbitMq {
    /// Starts a node and waits until it serves.
    ///
    /// # Panics
    /// When RabbitMQ is not installed or does not start.
    pub fn start() -> Self {
        let mut problem = String::new();
        for _ in 0..START_TRIES {
            match Names::start().and_then(|names| Self::try_start(0, Arc::new(names))) {
                Ok(server) => return server,
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
        let started = Names::start().and_then(|names| {
            let names = Arc::new(names);
            (0..nodes).map(|number| Self::try_start(number, Arc::clone(&names))).collect::<Result<Vec<_>, _>>()
        });
        started.unwrap_or_else(|problem| panic!("no cluster of RabbitMQ for the tests: {problem}"))
    }

    /// Starts a node; one that is not the first joins it.
    fn try_start(number: usize, names: Arc<Names>) -> Result<Self, String> {
        let scripts = installed(&SCRIPTS).ok_or(MISSING)?;
        let folder = scratch("rabbitmq")?;
        let [amqp, management, distribution] = [free_port()?, free_port()?, free_port()?];
        let env = environment(&folder, &names, &node_name(number), distribution);
        write_settings(&folder, [amqp, management, free_port()?], number)?;

        let server = Self {
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
        };
        server.node.start(START_PATIENCE, || server.address.is_up())?;
        Ok(server)
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

    /// The process id of the node, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.node.pid()
    }

    /// Runs `rabbitmqctl` against this node and returns what it printed.
    ///
    /// # Panics
    /// When the command fails.
    pub fn rabbitmqctl(&self, args: &[&str]) -> String {
        let mut command = Command::new(self.scripts.join("rabbitmqctl"));
        command.env_clear().envs(self.env.clone()).arg("--quiet").args(args);
        let what = format!("rabbitmqctl {}", args.join(" "));
        output(&what, &mut command).unwrap_or_else(|problem| panic!("{problem}"))
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
            self.node.start(START_PATIENCE, || self.address.is_up())
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
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}".into()),
        ("RABBITMQ_CTL_ERL_ARGS", "-start_epmd false".into()),
    ]
}

fn node_name(number: usize) -> String {
    format!("offpeak-test-{number}@localhost")
}

fn write_settings(folder: &Path, [amqp, management, prometheus]: [u16; 3], number: usize) -> Result<(), String> {
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

/// The letters, digits and hyphens of a name, which need no encoding in a URL.
fn plain(name: &str) -> String {
    let fits = |sign: char| if sign.is_ascii_alphanumeric() { sign } else { '-' };
    name.chars().take(60).map(fits).collect()
}

/// Tells runs apart on a server that outlives them: process id and start of the epoch in microseconds.
#[expect(clippy::disallowed_methods, reason = "a name for a throw-away vhost or database, no decision")]
pub(super) fn unique() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", std::process::id(), since.as_micros())
}
