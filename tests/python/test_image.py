"""deploy/Dockerfile: its form, what it leaves out, and what it copies; building it needs images from the network."""

import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib
import unittest

from rabbitmq import ROOT

DOCKERFILE = ROOT / "deploy/Dockerfile"


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **options)


def instructions():
    """The instructions as pairs of word and rest, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def runtime():
    """The instructions of the last stage: all that is in the image."""
    all_of_them = instructions()
    last = max(number for number, (word, _rest) in enumerate(all_of_them) if word == "FROM")
    return all_of_them[last:]


class Form(unittest.TestCase):
    def hadolint(self, text):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "Dockerfile")
            file.write_text(text)
            return run(pathlib.Path(sys.prefix, "bin/hadolint"), "--no-color", file)

    def test_hadolint_finds_nothing(self):
        done = self.hadolint(DOCKERFILE.read_text())
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_hadolint_can_find_something(self):
        done = self.hadolint(DOCKERFILE.read_text() + "RUN cd /tmp && sudo true\nMAINTAINER nobody\n")
        self.assertNotEqual(done.returncode, 0)

    def test_docker_buildah_and_podman_understand_each_instruction(self):
        text = DOCKERFILE.read_text()
        # What only BuildKit has: mounts, heredocs, COPY --link, a frontend of its own.
        for only_buildkit in ("--mount", "<<", "--link", "# syntax"):
            self.assertNotIn(only_buildkit, text)


class Runtime(unittest.TestCase):
    def test_it_runs_as_a_numbered_user_without_a_shell(self):
        last = dict(runtime())
        self.assertEqual(last["USER"], "65532:65532")
        self.assertEqual(last["ENTRYPOINT"], '["/usr/local/bin/offpeak"]')
        self.assertIn('CMD ["/usr/local/bin/offpeak", "health"]', last["HEALTHCHECK"])
        self.assertNotIn("RUN", [word for word, _rest in runtime()], "there is nothing to run it with")

    def test_all_programs_are_in_it_and_those_of_workers_without_the_compiler(self):
        manifest = tomllib.loads((ROOT / "services/offpeak/Cargo.toml").read_text())
        build = " ".join(rest for word, rest in instructions() if word == "RUN")
        for program in manifest["bin"]:
            name = program["name"]
            self.assertIn(f"target/release/{name} ", build + " ")
            compiler = "compiler" in program.get("required-features", [])
            commands = re.findall(r"cargo build[^&]*", build)
            having = [command for command in commands if re.search(rf"--bin {name}(\s|$)", command)]
            self.assertEqual(len(having), 2, f"{name}: once for the libraries, once for itself")
            for command in having:
                self.assertEqual("--no-default-features" in command, not compiler, name)
                self.assertIn("--locked", command)

    def test_labels_are_those_of_the_open_container_initiative(self):
        labels = dict(runtime())["LABEL"]
        for name in ("title", "description", "licenses", "version", "revision", "created", "source"):
            self.assertIn(f"org.opencontainers.image.{name}=", labels)
        package = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
        arguments = dict(rest.split("=", 1) for word, rest in runtime() if word == "ARG")
        self.assertEqual(arguments["VERSION"], package["version"])
        self.assertIn(f'licenses="{package["license"]}"', labels)

    def test_toolchain_is_the_one_that_the_workspace_asks_for(self):
        image = dict(rest.split("=", 1) for word, rest in instructions() if word == "ARG")["BUILD_IMAGE"]
        package = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
        self.assertRegex(image, rf"/rust:{re.escape(package['rust-version'])}-bookworm$")

    def test_examples_are_whole(self):
        for rest in (rest for word, rest in runtime() if word == "COPY" and rest.startswith("examples/")):
            *files, folder = rest.split()
            name = pathlib.PurePosixPath(folder).name
            self.assertEqual(folder, f"/usr/share/offpeak/examples/{name}/")
            job = tomllib.loads((ROOT / f"examples/{name}/job.toml").read_text())
            needed = {"job.toml", job["app"], *(value for value in job["input"].values() if isinstance(value, str))}
            self.assertEqual({pathlib.PurePosixPath(file).name for file in files}, needed)


class Manifests(unittest.TestCase):
    """The stage that keeps the libraries cached: Cargo must accept what it leaves."""

    def stage(self, folder):
        """Does to a copy what the stage does, and returns the folder."""
        script = next(rest for word, rest in instructions() if word == "RUN" and rest.startswith("find . -type f"))
        for name in ("Cargo.toml", "Cargo.lock", "crates", "services", "tests"):
            subprocess.run(["cp", "-r", ROOT / name, folder], check=True)
        for name in ("node", "python"):
            subprocess.run(["rm", "-rf", folder / "tests" / name], check=True)
        subprocess.run(["sh", "-c", script], cwd=folder, check=True)
        return folder

    def test_cargo_finds_every_crate_feature_and_target(self):
        with tempfile.TemporaryDirectory() as folder:
            stage = self.stage(pathlib.Path(folder))
            kept = {path.name for path in stage.rglob("*") if path.is_file() and path.suffix not in (".rs",)}
            self.assertEqual(kept, {"Cargo.toml", "Cargo.lock"})
            for file in stage.rglob("*.rs"):
                self.assertEqual(file.read_text(), "fn main() { }\n", file)
            self.assertTrue(all(path.stat().st_mtime == 0 for path in stage.rglob("*")))
            command = ["cargo", "metadata", "--locked", "--offline", "--format-version", "1", "--no-deps"]
            ours, theirs = (run(*command, cwd=place) for place in (ROOT, stage))
            self.assertEqual(theirs.returncode, 0, theirs.stderr)
            self.assertEqual(theirs.stdout.replace(str(stage), str(ROOT)), ours.stdout)

    def test_a_change_of_a_source_leaves_it_as_it_was(self):
        with tempfile.TemporaryDirectory() as before, tempfile.TemporaryDirectory() as after:
            stages = [self.stage(pathlib.Path(folder)) for folder in (before, after)]
            (stages[1] / "crates/rules/src/lib.rs").write_text("//! Changed.\n")
            script = next(rest for word, rest in instructions() if word == "RUN")
            subprocess.run(["sh", "-c", script], cwd=stages[1], check=True)
            done = run("diff", "-r", *stages)
            self.assertEqual(done.returncode, 0, done.stdout)


class Context(unittest.TestCase):
    def test_what_the_build_copies_is_sent_and_nothing_large_beside_it(self):
        lines = (ROOT / ".dockerignore").read_text().splitlines()
        rules = [line for line in lines if line and not line.startswith("#")]
        self.assertEqual(rules[0], "*", "nothing but what is named")
        sent = {rule[1:] for rule in rules if rule.startswith("!")}
        copied = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and "--from" not in rest]
        for path in (path for paths in copied for path in paths):
            self.assertTrue(any(path == one or path.startswith(one + "/") for one in sent), path)
            self.assertTrue((ROOT / path).exists(), path)
        self.assertIn("**/target", rules)


if __name__ == "__main__":
    unittest.main()
