"""docker-compose.yml as data: read as Compose reads it, with variables put in, and services in the order they start."""

import pathlib
import re
import subprocess

import yaml

from rabbitmq import ROOT

VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+)(?::-(?P<default>[^}]*))?\}")


def variables():
    """The variables of the file, each with its default; None where there is none."""
    text = (ROOT / "docker-compose.yml").read_text()
    return {found["name"]: found["default"] for found in VARIABLE.finditer(text)}


def read(env):
    """The file with these variables over its defaults."""
    text = (ROOT / "docker-compose.yml").read_text()
    return yaml.safe_load(VARIABLE.sub(lambda found: env.get(found["name"]) or found["default"] or "", text))


def of_host():
    """What `.env.example` sets, as the shell of the README reads it."""
    script = "set -a; . ./.env.example; env"
    env = {"PATH": "/usr/bin:/bin"}
    printed = subprocess.run(["sh", "-c", script], env=env, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    pairs = (line.split("=", 1) for line in printed.splitlines())
    return {key: value for key, value in pairs if key not in ("PATH", "PWD", "OLDPWD", "SHLVL", "_")}


def in_order(services):
    """The names, each after those it depends on; a circle is an error."""
    done, doing = [], set()

    def visit(name):
        if name in done:
            return
        if name in doing:
            raise AssertionError(f"{name} waits for itself")
        doing.add(name)
        for before in services[name].get("depends_on", {}):
            visit(before)
        done.append(name)

    for name in services:
        visit(name)
    return done


def seconds(duration):
    """Compose's durations, as far as the file has them."""
    number, unit = re.fullmatch(r"(\d+)(s|m)", duration).groups()
    return int(number) * {"s": 1, "m": 60}[unit]


def binds(service):
    """What is mounted from the repository: pairs of the path there and the path in the container."""
    for volume in service.get("volumes", []):
        source, target, *_mode = volume.split(":")
        if source.startswith("./"):
            yield pathlib.PurePosixPath(source), target
