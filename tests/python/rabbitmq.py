"""A private RabbitMQ with the settings and definitions of deploy/rabbitmq, on free ports of loopback."""

import base64
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

import scrape

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy/rabbitmq"

# The scripts behind the wrappers in sbin, which change the user and the folders.
SCRIPTS = [pathlib.Path("/usr/lib/rabbitmq/bin"), pathlib.Path("/opt/rabbitmq/sbin")]

# A port that was free may be another's a moment later.
START_TRIES = 3

# A node starts in about 5 s on an idle machine; a crowded one takes its time.
PATIENCE_S = 300

# Only what must differ on a machine that runs several nodes: addresses, where the definitions are, and the disk, which may be small.
OVERRIDES = """\
listeners.tcp.1 = 127.0.0.1:{amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = {prometheus}
definitions.local.path = {definitions}
disk_free_limit.absolute = 50MB
"""


def free_ports(count):
    """Ports that were free a moment ago."""
    ports = set()
    while len(ports) < count:
        ports.add(scrape.free_port())
    return list(ports)


def stop(process, how=signal.SIGTERM, patience_s=120):
    """Ends a process that this test started, and returns its exit code."""
    if process.poll() is None:
        process.send_signal(how)
    try:
        return process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def wait_for(what, condition, patience_s=PATIENCE_S):
    """Waits until the condition gives something true, and returns that."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {patience_s} s")


class Node:
    """A node; `definitions` is called with the folder to write them into."""

    def __init__(self, definitions):
        scripts = [folder for folder in SCRIPTS if (folder / "rabbitmq-server").exists()]
        if not scripts:
            raise AssertionError("RabbitMQ is not installed: run `make setup`")
        self.scripts, self.definitions = scripts[0], definitions

    def prepare(self):
        """A folder with all that a node reads, and ports."""
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="offpeak-rabbitmq-"))
        self.processes = []
        self.amqp, self.management, self.prometheus, distribution, self.epmd = free_ports(5)
        read = self.folder / "definitions.d"
        read.mkdir()
        self.definitions(read)
        shutil.copy(DEPLOY / "rabbitmq.conf", self.folder / "rabbitmq.conf")
        shutil.copy(DEPLOY / "enabled_plugins", self.folder / "enabled_plugins")
        conf_d = self.folder / "conf.d"
        conf_d.mkdir()
        (conf_d / "90-test.conf").write_text(
            OVERRIDES.format(
                amqp=self.amqp, management=self.management, prometheus=self.prometheus, definitions=read
            )
        )
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self.epmd),
            "RABBITMQ_NODENAME": "offpeak-python@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "no-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(conf_d),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            # The script becomes the node, so that the process known is the node's.
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"
            ),
            "RABBITMQ_CTL_ERL_ARGS": "-start_epmd false",
        }

    def __enter__(self):
        for left in reversed(range(START_TRIES)):
            self.prepare()
            try:
                self.start("epmd", ["epmd", "-address", "127.0.0.1"])
                wait_for("epmd", lambda: accepts(self.epmd))
                node = self.start("rabbitmq-server", [str(self.scripts / "rabbitmq-server")])
                wait_for("RabbitMQ", lambda: node.poll() is not None or self.serves())
                if node.poll() is None:
                    return self
                if not left:
                    raise AssertionError(f"RabbitMQ did not start:\n{self.console()[-3000:]}")
            except BaseException:
                self.close()
                raise
            self.close()

    def __exit__(self, *_error):
        self.close()

    def close(self):
        """Ends the node and forgets all that it had."""
        for process in reversed(self.processes):
            stop(process, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, name, command):
        with open(self.folder / f"{name}.log", "ab") as log:
            # Dies with the test, whichever way that ends.
            command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
            process = subprocess.Popen(
                command, env=self.env, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    def console(self):
        return (self.folder / "rabbitmq-server.log").read_text(errors="replace")

    def serves(self):
        return "Server startup complete" in self.console() and accepts(self.amqp) and accepts(self.management)

    def ctl(self, *arguments):
        """Runs rabbitmqctl, and returns what it printed."""
        command = [str(self.scripts / "rabbitmqctl"), "--quiet", *arguments]
        done = subprocess.run(command, env=self.env, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise AssertionError(f"rabbitmqctl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def url(self, user, password):
        return f"amqp://{user}:{password}@127.0.0.1:{self.amqp}/%2f"

    def get(self, port, path, login=None):
        """What one of its HTTP sides answers."""
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
        if login:
            basic = base64.b64encode(":".join(login).encode()).decode()
            request.add_header("Authorization", f"Basic {basic}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read().decode()


def accepts(port):
    """Whether something accepts connections on a port of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
