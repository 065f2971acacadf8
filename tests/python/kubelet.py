"""Runs what the chart renders as processes of this machine: environment, command, files and probes as a kubelet takes them.

Other than in a cluster: paths of the image are those of this repository, folders of volumes are temporary ones, and the
admin side takes a free port of loopback.
"""

import base64
import os
import pathlib
import re
import subprocess
import urllib.error
import urllib.request

import chart
import scrape

# Where the image has what this repository has elsewhere.
EXAMPLES = "/usr/share/offpeak/examples"


def binary():
    """The program `offpeak`; its siblings lie beside it."""
    given = os.environ.get("OFFPEAK_TEST_BINARY")
    return pathlib.Path(given) if given else pathlib.Path(scrape.program())


def status(url):
    """The status of an HTTP answer; 0 if there is none."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


class Cluster:
    """What is needed of one: Secrets, the rendered objects, and a folder."""

    def __init__(self, folder, found, secrets):
        self.folder = pathlib.Path(folder)
        self.found = found
        self.secrets = dict(secrets)
        for secret in chart.of_kind(found, "Secret"):
            data = {key: base64.b64decode(value).decode() for key, value in secret.get("data", {}).items()}
            self.secrets[secret["metadata"]["name"]] = data | secret.get("stringData", {})

    def environment(self, document):
        """The variables of an object's container, and nothing of this process but its path."""
        known = chart.settings(self.found, document)
        for variable in chart.container(document)["env"]:
            if "value" in variable:
                value = re.sub(r"\$\((\w+)\)", lambda part: known.get(part[1], part[0]), variable["value"])
            else:
                reference = variable["valueFrom"]["secretKeyRef"]
                value = self.secrets[reference["name"]][reference["key"]]
            known[variable["name"]] = value
        return {"PATH": os.environ["PATH"]} | known

    def local(self, document, number=0):
        """The same, where this machine is not a pod: a free port, a folder for the cache and temporary files."""
        name = f"{document['metadata']['name']}-{number}"
        env = self.environment(document)
        if "OFFPEAK__ADMIN__ADDRESS" in env:
            env["OFFPEAK__ADMIN__ADDRESS"] = "127.0.0.1:0"
        if "OFFPEAK__WORKER__CACHE_DIR" in env:
            env["OFFPEAK__WORKER__CACHE_DIR"] = str(self.folder / f"{name}-cache")
        return env | {"TMPDIR": str(self.folder)}

    def command(self, document):
        """The command of an object's container, with the paths of this machine."""
        volumes = {each["name"]: each for each in chart.pod_of(document)[1]["volumes"]}
        paths = {"/usr/local/bin/": f"{binary().parent}/"}
        for mount in chart.container(document)["volumeMounts"]:
            paths[f"{mount['mountPath']}/"] = f"{self._volume(document, volumes[mount['name']])}/"

        def local(word):
            found = [here + word.removeprefix(there) for there, here in paths.items() if word.startswith(there)]
            return found[0] if found else word
        return [local(word) for word in chart.container(document)["command"]]

    def _volume(self, document, volume):
        """The folder of a volume."""
        folder = self.folder / f"{document['metadata']['name']}-{volume['name']}"
        folder.mkdir(exist_ok=True)
        if "configMap" in volume:
            for config in chart.of_kind(self.found, "ConfigMap"):
                if config["metadata"]["name"] == volume["configMap"]["name"]:
                    for name, text in config["data"].items():
                        (folder / name).write_text(text.replace(EXAMPLES, str(chart.ROOT / "examples")))
        return folder

    def run(self, document, words=None):
        """Runs an object's container to its end, or other words with its environment."""
        return subprocess.run(
            words or self.command(document), cwd=self.folder, env=self.local(document), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=scrape.PATIENCE_S,
        )

    def start(self, document, number=0):
        """Starts a Deployment's container."""
        return Container(self, document, number)


class Container(scrape.Process):
    """A running container of a Deployment."""

    def __init__(self, cluster, document, number):
        name = f"{document['metadata']['name']}-{number}"
        self.spec = chart.container(document)
        self.grace_s = chart.pod_of(document)[1]["terminationGracePeriodSeconds"]
        super().__init__(name, cluster.command(document), cluster.folder, cluster.local(document, number))
        self.address = scrape.wait_for(f"the admin side of {name}", self._address)

    def _address(self):
        self.check()
        # The log is JSON or for people, as the settings say.
        found = re.search(r"admin http listens on ([0-9.:]+)", self.output())
        return found and found[1]

    def probe(self, name):
        """What one of its probes is answered."""
        return status(f"http://{self.address}{self.spec[f'{name}Probe']['httpGet']['path']}")

    def ready(self):
        def look():
            self.check()
            return self.probe("readiness") == 200
        scrape.wait_for(f"{self.name} to be ready", look)

    def terminate(self):
        """SIGTERM; its exit code, which it has to give within the grace period."""
        self.child.terminate()
        return self.child.wait(self.grace_s)
