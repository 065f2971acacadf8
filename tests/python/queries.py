"""What the rules, their tests, the runbooks and the dashboards of this repository say, for the tests that check them."""

import functools
import json
import pathlib
import re

import promql_parser
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RUNBOOKS = ROOT / "deploy" / "runbooks"
GRAFANA = ROOT / "deploy" / "grafana"

RULE_FILES = sorted(PROMETHEUS.glob("*.yaml"))
UNIT_TESTS = sorted((PROMETHEUS / "tests").glob("*.yaml"))
DASHBOARD_FILES = sorted(GRAFANA.glob("*.json"))

# What Grafana puts in before a query is sent; a name that is none of these is a dashboard's own variable.
INTERVALS = {"$__rate_interval": "1m", "$__interval": "1m", "$__range": "1h"}
# The parser's names of how a label is compared.
OPERATORS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}

# What the RabbitMQ of every supported version has: read in the sources of 3.10.8, 3.11.28, 3.12.14, 3.13.7, 4.0.9, 4.1.4,
# 4.2.0 and 4.3.5. Names that come and go (raft_*, alarms_file_descriptor_limit, *_dead_lettered_*) must not be used.
RABBITMQ = {
    "rabbitmq_alarms_free_disk_space_watermark", "rabbitmq_alarms_memory_used_watermark",
    "rabbitmq_auth_attempts_failed_total", "rabbitmq_build_info", "rabbitmq_connections",
    "rabbitmq_connections_closed_total", "rabbitmq_connections_opened_total",
    "rabbitmq_detailed_queue_consumers", "rabbitmq_detailed_queue_messages", "rabbitmq_detailed_queue_messages_ready",
    "rabbitmq_detailed_queue_messages_unacked", "rabbitmq_disk_space_available_bytes",
    "rabbitmq_disk_space_available_limit_bytes", "rabbitmq_erlang_scheduler_run_queue",
    "rabbitmq_erlang_uptime_seconds", "rabbitmq_global_messages_acknowledged_total",
    "rabbitmq_global_messages_confirmed_total", "rabbitmq_global_messages_delivered_total",
    "rabbitmq_global_messages_received_total", "rabbitmq_global_messages_redelivered_total",
    "rabbitmq_global_messages_routed_total", "rabbitmq_global_messages_unroutable_dropped_total",
    "rabbitmq_global_messages_unroutable_returned_total", "rabbitmq_identity_info", "rabbitmq_process_max_fds",
    "rabbitmq_process_open_fds", "rabbitmq_process_resident_memory_bytes", "rabbitmq_queues",
    "rabbitmq_resident_memory_limit_bytes",
}


def load(file):
    """A YAML file, by the fast parser where there is one."""
    return yaml.load(file.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@functools.cache
def rules():
    """Every rule."""
    return [rule for file in RULE_FILES for group in load(file)["groups"] for rule in group["rules"]]


def alerts():
    """The alerts by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recorded():
    """The names of what recording rules record."""
    return {rule["record"] for rule in rules() if "record" in rule}


@functools.cache
def dashboards():
    """The dashboards by file name."""
    return {file.name: json.loads(file.read_text()) for file in DASHBOARD_FILES}


def panels(dashboard):
    """Its panels that show something."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def targets():
    """Every query of a dashboard as (where it stands, query, legend)."""
    for name, dashboard in dashboards().items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                yield f"{name}, {panel['title']}", target["expr"], target["legendFormat"]
        for annotation in dashboard["annotations"]["list"]:
            if "expr" in annotation:
                yield f"{name}, annotation {annotation['name']}", annotation["expr"], annotation["titleFormat"]
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                selector = re.fullmatch(r"label_values\((.*), \w+\)", variable["definition"])[1]
                yield f"{name}, variable {variable['name']}", selector, ""


def resolved(query):
    """A query as Grafana would send it, with every variable at All."""
    for name, value in INTERVALS.items():
        query = query.replace(name, value)
    return re.sub(r"\$\w+", ".*", query)


def selectors(query):
    """The selectors in an expression, each as (name, [(label, operator, value)]); raises what is wrong with it."""
    found = []

    def walk(node):
        if isinstance(node, promql_parser.VectorSelector):
            matchers = [(m.name, OPERATORS[str(m.op)], m.value) for m in node.matchers.matchers]
            found.append((node.name, matchers))
        for part in ("expr", "lhs", "rhs", "vector_selector", "param"):
            child = getattr(node, part, None)
            if child is not None:
                walk(child)
        for child in getattr(node, "args", None) or []:
            walk(child)

    walk(promql_parser.parse(query))
    return found


def pages():
    """The runbooks by the alert's name."""
    return {file.stem: file.read_text() for file in RUNBOOKS.glob("*.md") if file.stem != "README"}


def commands(page):
    """The command lines of a page: those in blocks, and those in the text that begin with a program."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    text = re.sub(r"^```sh\n.*?^```", "", page, flags=re.M | re.S)
    programs = r"(?:offpeak|kubectl|rabbitmqctl|rabbitmq-\w+|psql) "
    return lines + [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text) if re.match(programs, code)]
