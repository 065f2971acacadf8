"""`offpeak top` on a real pseudo-terminal: what it shows, what keys do, and that the terminal is given back."""

import fcntl
import os
import pathlib
import pty
import select
import signal
import struct
import subprocess
import tempfile
import termios
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
OFFPEAK = TARGET / "debug" / "offpeak"
# A crowded machine takes its time; nothing depends on how long.
PATIENCE_S = 60
# What a program that took the terminal over writes when it gives it back.
LEAVES = b"\x1b[?1049l"
SHOWS_CURSOR = b"\x1b[?25h"


class Terminal:
    """A terminal of 80 by 24 on which a command runs."""

    def __init__(self, *arguments):
        self.written = b""
        self.master, self.slave = pty.openpty()
        self.resize(24, 80)
        self.before = termios.tcgetattr(self.slave)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OFFPEAK_")} | {"TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            [OFFPEAK, *arguments],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, lines, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read(self):
        ready, _, _ = select.select([self.master], [], [], 0.05)
        if ready:
            self.written += os.read(self.master, 65536)
        return bool(ready)

    def wait_for(self, text, begin=0):
        end = time.monotonic() + PATIENCE_S
        while text not in self.written[begin:]:
            if time.monotonic() > end or self.process.poll() is not None:
                raise AssertionError(f"{text!r} did not come: {self.written[begin:][-2000:]!r}")
            self.read()

    def type(self, keys):
        os.write(self.master, keys)

    def end(self):
        """Waits for the command's end; its exit code."""
        end = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            if time.monotonic() > end:
                self.process.kill()
                raise AssertionError(f"it did not end: {self.written!r}")
            self.read()
        # What it wrote last may come in pieces.
        while self.read():
            pass
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


class Top(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.database = f"sqlite://{self.folder}/grid.db"

    def migrate(self):
        subprocess.run([OFFPEAK, "migrate", "--database", self.database], check=True, capture_output=True)

    def top(self, *arguments):
        terminal = Terminal("top", "--database", self.database, "--interval", "1s", *arguments)
        self.addCleanup(terminal.close)
        return terminal

    def assert_given_back(self, terminal):
        self.assertIn(LEAVES, terminal.written)
        self.assertGreater(terminal.written.rfind(SHOWS_CURSOR), terminal.written.rfind(b"\x1b[?25l"))
        self.assertEqual(termios.tcgetattr(terminal.slave), terminal.before, "raw mode is left")

    def test_a_key_ends_it(self):
        self.migrate()
        terminal = self.top()
        for text in (b"offpeak top", b"database up", b"--amqp", b"q ends"):
            terminal.wait_for(text)
        terminal.type(b"\x1b[B>r ")
        terminal.wait_for(b"STOPPED")
        terminal.type(b" q")
        self.assertEqual(terminal.end(), 0)
        self.assert_given_back(terminal)

    def test_signals_end_it_and_it_says_which(self):
        self.migrate()
        for end, code in (
            (lambda terminal: terminal.type(b"\x03"), 130),
            (lambda terminal: terminal.process.send_signal(signal.SIGINT), 130),
            (lambda terminal: terminal.process.send_signal(signal.SIGTERM), 143),
        ):
            terminal = self.top()
            terminal.wait_for(b"database up")
            end(terminal)
            self.assertEqual(terminal.end(), code)
            self.assert_given_back(terminal)

    def test_it_follows_the_size_of_the_terminal(self):
        self.migrate()
        terminal = self.top()
        terminal.wait_for(b"database up")
        for lines, columns in ((12, 40), (1, 1), (50, 160)):
            begin = len(terminal.written)
            terminal.resize(lines, columns)
        terminal.wait_for(b"q ends", begin)
        terminal.type(b"q")
        self.assertEqual(terminal.end(), 0)
        self.assert_given_back(terminal)

    def test_what_is_away_is_named_and_comes_back(self):
        terminal = self.top("--amqp", "amqp://ann:s3cret@127.0.0.1:1/%2f")
        terminal.wait_for(b"database AWAY")
        terminal.wait_for(b"broker AWAY")
        terminal.wait_for(b"refused")
        terminal.wait_for(b"away")
        self.migrate()
        terminal.wait_for(b"database up")
        terminal.type(b"q")
        self.assertEqual(terminal.end(), 0)
        self.assert_given_back(terminal)
        self.assertNotIn(b"s3cret", terminal.written)

    def test_without_a_terminal_it_prints_one_frame(self):
        self.migrate()
        arguments = [OFFPEAK, "top", "--database", self.database]
        frame = subprocess.run(arguments, capture_output=True, text=True, check=True)
        self.assertIn("database up", frame.stdout)
        self.assertNotIn("\x1b", frame.stdout)


if __name__ == "__main__":
    unittest.main()
