"""The Helm chart for tests: what it renders for the default values, values-ha.yaml and every ci/*-values.yaml.

As a program it writes what is derived from other files, to be looked at with git diff before it is committed:

    .venv/bin/python tests/python/chart.py renew

- the golden manifests in tests/python/golden/chart
- the table of values in charts/offpeak/README.md, from the comments of values.yaml
- the chart's copies of RabbitMQ's definitions and configuration, Prometheus' rules and Grafana's dashboards, from deploy/
"""

import difflib
import functools
import json
import pathlib
import re
import sys
import tomllib

import helm_python
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "offpeak"
GOLDEN = ROOT / "tests" / "python" / "golden" / "chart"
RELEASE = "demo"
NAMESPACE = "grid"

# All that a grid needs.
SECRETS = {"broker": {"existingSecret": "rabbitmq"}, "database": {"existingSecret": "postgresql"}}

# What only carries copies of files in deploy/: golden manifests leave it out, or each new alert would change them.
CARRIERS = {"templates/prometheusrule.yaml", "templates/dashboards.yaml"}

# What begins and ends the table in README.md.
TABLE = ("<!-- values -->\n", "<!-- end of values -->\n")


# The C library's is ten times as fast.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(text):
    """A YAML document."""
    return yaml.load(text, LOADER)


def scenarios():
    """The values of every scenario, by its name."""
    named = {"default": SECRETS, "ha": SECRETS | load((CHART / "values-ha.yaml").read_text())}
    for path in sorted((CHART / "ci").glob("*-values.yaml")):
        named[path.name.removesuffix("-values.yaml")] = load(path.read_text())
    return named


@functools.cache
def _render(values, revision):
    with helm_python.Chart.load(str(CHART)) as chart:
        return chart.render(
            json.loads(values), name=RELEASE, namespace=NAMESPACE, is_install=revision == 1, is_upgrade=revision > 1,
            revision=revision,
        )


def files(values, revision=1):
    """The rendered files by their path in the chart, those with nothing in them left out."""
    rendered = _render(json.dumps(values, sort_keys=True), revision)
    return {path.removeprefix("offpeak/"): text for path, text in sorted(rendered.items()) if text.strip()}


def objects(values, revision=1):
    """The rendered objects."""
    manifests = [text for path, text in files(values, revision).items() if path.endswith(".yaml")]
    return [document for text in manifests for document in yaml.load_all(text, LOADER) if document]


def refused(values):
    """What the chart says against these values: the schema or its own checks; fails if it says nothing."""
    try:
        files(values)
    except helm_python.HelmError as error:
        return str(error)
    raise AssertionError(f"the chart takes {values}")


def with_secrets(**values):
    """The default values with these over them."""
    return SECRETS | values


def of_kind(found, *kinds):
    return [document for document in found if document["kind"] in kinds]


def component(document):
    return document["metadata"]["labels"]["app.kubernetes.io/component"]


def pod_of(document):
    """The metadata and the spec of the pod that an object makes; None if it makes none."""
    match document["kind"]:
        case "Pod":
            return document["metadata"], document["spec"]
        case "Deployment" | "Job":
            return document["spec"]["template"]["metadata"], document["spec"]["template"]["spec"]
    return None


def pods(found):
    """Every object that makes a pod, with the pod's metadata and spec."""
    made = [(document, pod_of(document)) for document in found]
    return [(document, *pod) for document, pod in made if pod]


def container(document):
    """The one container of an object's pod."""
    (only,) = pod_of(document)[1]["containers"]
    return only


def settings(found, document):
    """The variables that an object's container has from its ConfigMaps."""
    maps = {config["metadata"]["name"]: config["data"] for config in of_kind(found, "ConfigMap")}
    named = [source["configMapRef"]["name"] for source in container(document).get("envFrom", ())]
    return {name: value for config in named for name, value in maps[config].items()}


def scenes():
    """Every scenario's name, values and objects."""
    return [(name, values, objects(values)) for name, values in scenarios().items()]


def workers(found):
    """The Deployments of pools by the pool's name."""
    deployments = of_kind(found, "Deployment")
    named = {component(document): document for document in deployments}
    return {name.removeprefix("worker-"): document for name, document in named.items() if name.startswith("worker-")}


def pools(values):
    """The pools as the chart should see them: `worker` of values.yaml, of the values, and what each says."""
    def overlay(base, over):
        merged = dict(base)
        for key, value in (over or {}).items():
            both = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = overlay(merged[key], value) if both else value
        return merged
    default = load((CHART / "values.yaml").read_text())
    worker = overlay(default["worker"], values.get("worker"))
    named = overlay(default["pools"], values.get("pools"))
    return {name: overlay(worker, own) for name, own in named.items() if own is not None}


def mebibytes(quantity):
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()
    return int(number) * {"Mi": 1, "Gi": 1024}[unit]


def default_settings():
    """The services' settings as default.toml has them: (section, key) to value."""
    text = (ROOT / "services" / "offpeak" / "src" / "grid" / "default.toml").read_text()
    return {(section, key): value for section, keys in tomllib.loads(text).items() for key, value in keys.items()}


def variable_of(section, key):
    return f"OFFPEAK__{section}__{key}".upper()


def copies():
    """The originals in deploy/ whose copies the chart carries, by the copy's path in the chart."""
    deploy = ROOT / "deploy"
    found = {f"files/rabbitmq/{path.name}": path for path in deploy.glob("rabbitmq/definitions-*.json")}
    found["files/rabbitmq/rabbitmq.conf"] = deploy / "rabbitmq" / "rabbitmq.conf"
    found |= {f"files/dashboards/{path.name}": path for path in deploy.glob("grafana/*.json")}
    for path in deploy.glob("prometheus/*.y*ml"):
        # Configurations and unit tests of rules lie there, too.
        if "groups" in (load(path.read_text()) or {}):
            found[f"files/rules/{path.stem}.yaml"] = path
    return found


def carried():
    """The paths of the copies that the chart carries now."""
    folders = ("rabbitmq", "rules", "dashboards")
    return {path.relative_to(CHART).as_posix() for folder in folders for path in (CHART / "files" / folder).glob("*")}


def manifest(values):
    """All that is rendered as one text."""
    parts = []
    for path, text in files(values).items():
        if path in CARRIERS:
            continue
        lines = [line.rstrip() for line in text.strip().splitlines()]
        parts.append("\n".join([f"# {path}", *[line for line in lines if line]]))
    return "\n".join(parts) + "\n"


def goldens():
    """The golden files by name: what the default values render, and how every other scenario differs from that."""
    default = manifest(SECRETS)
    found = {"default.yaml": default}
    for name, values in scenarios().items():
        if name != "default":
            lines = default.splitlines(), manifest(values).splitlines()
            found[f"{name}.diff"] = "\n".join(difflib.unified_diff(*lines, "default", name, n=2, lineterm="")) + "\n"
    return found


def documented():
    """Every value with its default and what values.yaml says of it: (path, default, text)."""
    rows, path, text = [], [], None
    lines = (CHART / "values.yaml").read_text().splitlines()
    for line in lines:
        if match := re.match(r"\s*# -- (.*)", line):
            text = match[1]
        elif match := re.match(r"( *)([A-Za-z]\w*):(.*)", line):
            depth = len(match[1]) // 2
            path = [*path[:depth], match[2]]
            if text is not None:
                rows.append((".".join(path), text))
            text = None
    values = load("\n".join(lines))
    return [(path, functools.reduce(lambda at, key: at[key], path.split("."), values), text) for path, text in rows]


def table():
    """The table of values for README.md."""
    rows = ["| value | default | what it is |", "| --- | --- | --- |"]
    for path, default, text in documented():
        rows.append(f"| `{path}` | `{json.dumps(default)}` | {text} |")
    return "\n".join(rows) + "\n"


def renewed_readme():
    """README.md with the table as it should be."""
    text = (CHART / "README.md").read_text()
    before, _, rest = text.partition(TABLE[0])
    _, _, after = rest.partition(TABLE[1])
    return f"{before}{TABLE[0]}{table()}{TABLE[1]}{after}"


def renew():
    for copy in carried() - copies().keys():
        (CHART / copy).unlink()
    for copy, original in copies().items():
        (CHART / copy).parent.mkdir(exist_ok=True)
        (CHART / copy).write_bytes(original.read_bytes())
    _render.cache_clear()
    (CHART / "README.md").write_text(renewed_readme())
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for path in GOLDEN.glob("*"):
        path.unlink()
    for name, text in goldens().items():
        (GOLDEN / name).write_text(text)


if __name__ == "__main__":
    if sys.argv[1:] != ["renew"]:
        sys.exit("usage: chart.py renew")
    renew()
