"""What the client tests share: servers on free ports in temporary folders, psql, and the closing line."""

import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = os.environ.get("HEADWATER_BIN", str(TARGET / "debug" / "headwater"))
# The real data set lies beside the project; where it is absent, tests that need it are skipped aloud.
FLIGHTS = (ROOT.parent / "shared" / "data" / "nycflights13").resolve()


def free_port():
    """A port below those that the system gives to outgoing connections, which might take it before its server does."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


class Headwater:
    """One server with its own data directory; `with` ends it."""

    def __init__(self, *arguments):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="headwater-test-"))
        self.port, self.http_port = free_port(), free_port()
        self.arguments = arguments
        self.process = None
        self.start()

    def start(self):
        command = [
            BINARY, "--data-dir", str(self.folder / "data"), "--listen", f"127.0.0.1:{self.port}",
            "--http-listen", f"127.0.0.1:{self.http_port}", *self.arguments,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=self.folder)
        wait_for_port(self.port, self.process)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def psql(self, sql, *arguments):
        """What psql prints for the statements; raises with its error text if one fails."""
        command = ["psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "headwater", "-d", "dev",
                   "-X", "-v", "ON_ERROR_STOP=1", *arguments]
        done = subprocess.run(command, input=sql, capture_output=True, text=True, cwd=self.folder)
        if done.returncode != 0:
            raise AssertionError(f"psql: {done.stderr.strip()}")
        return done.stdout

    def rows(self, sql):
        """The rows of one query as lists of text; NULL is None."""
        out = self.psql(sql, "--csv", "-t", "-P", "null=\\N")
        import csv
        import io
        return [[None if cell == "\\N" else cell for cell in row] for row in csv.reader(io.StringIO(out))]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def wait_for_port(port, process, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise AssertionError(f"the server ended with code {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"nothing listens on port {port} after {seconds} s")


class Skip(Exception):
    """Something outside is missing; under HEADWATER_REQUIRE_SERVERS=1 that is a failure."""


def need(condition, what):
    if not condition:
        raise Skip(what)


def main(*tests):
    """Runs the tests and prints the closing line; the exit code says whether all passed."""
    passed, failed, skipped = 0, 0, 0
    for test in tests:
        name = f"{pathlib.Path(sys.argv[0]).stem}::{test.__name__}"
        try:
            test()
            print(f"{name} ok")
            passed += 1
        except Skip as reason:
            print(f"{name} SKIPPED: {reason}")
            skipped += 1
        except Exception:
            print(f"{name} FAILED")
            traceback.print_exc(file=sys.stdout)
            failed += 1
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    sys.exit(1 if failed else 0)
