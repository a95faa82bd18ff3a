"""A PostgreSQL server of the tests' own: on loopback, in a temporary folder, gone with the process that started it."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest

# Where Debian and others put the server's programs, the newest version last.
FOLDERS = [shutil.which("postgres"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))]
PROGRAMS = next((Path(found).parent for found in reversed(FOLDERS) if found), None)

needed = pytest.mark.skipif(PROGRAMS is None, reason="PostgreSQL is not installed")


class Server:
    """A server that can be stopped and started again."""

    def __init__(self) -> None:
        # Not in pytest's folders, which only their owner may enter.
        self.folder = Path(tempfile.mkdtemp(prefix="tch-mnist-postgres-"))
        self._as_user = ["setpriv", "--pdeathsig=INT"]
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root; its package made this user.
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as_user += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._run("initdb", "--username=postgres", "--auth=trust", "--no-sync", f"--pgdata={self.folder / 'data'}")
        self.start()

    def _run(self, program: str, *args: str) -> None:
        line = [*self._as_user, PROGRAMS / program, *args]
        done = subprocess.run(line, cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Returns when the server answers."""
        log = (self.folder / "log").open("a")
        options = [f"--port={self.port}", "--listen_addresses=127.0.0.1", f"--unix_socket_directories={self.folder}"]
        line = [*self._as_user, PROGRAMS / "postgres", "-D", self.folder / "data", *options, "--fsync=off"]
        with log:
            self._process = subprocess.Popen(line, cwd=self.folder, stdout=log, stderr=log)
        while not self.answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()

    def answers(self) -> bool:
        """Whether a connection can be made."""
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Breaks all connections and returns when the server has ended."""
        self._process.send_signal(signal.SIGINT)
        assert self._process.wait() == 0

    def remove(self) -> None:
        """Ends the server for good."""
        if self._process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder)
