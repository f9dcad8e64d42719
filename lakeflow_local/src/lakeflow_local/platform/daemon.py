"""A server that outlives the command that started it, and is found again by the next one."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from lakeflow_local.errors import LakeflowError
from lakeflow_local.files import replace
from lakeflow_local.home import Home

SETTLE_SECONDS = 0.5
START_SECONDS = 60
STOP_SECONDS = 30


@dataclass(frozen=True)
class Daemon:
    """One server of one home. The caller holds the home's lock.

    Attributes:
        name: as shown to people.
        home: where its state and its log are.
        port_variable: the environment variable that fixes its port.
        command: from the port to the command line, which must name something of this home, so that it is told
            from other processes.
        ready: whether the server on a port answers.
    """

    name: str
    home: Home
    port_variable: str
    command: Callable[[int], Sequence[str]]
    ready: Callable[[int], bool]

    @property
    def _state_file(self) -> Path:
        return self.home.run / f"{self.name}.json"

    @property
    def log(self) -> Path:
        return self.home.logs / f"{self.name}.log"

    def port(self) -> int | None:
        """The port of the running server, or None."""
        return self._state()["port"] if self._process() else None

    def pid(self) -> int | None:
        process = self._process()
        return process.pid if process else None

    def launch(self) -> bool:
        """Starts it unless it runs, without waiting for it; returns whether it was started.

        Raises:
            LakeflowError: the port that the user fixed is taken.
        """
        fixed = self._fixed_port()
        if self._process():
            if fixed in (None, self._state()["port"]):
                return False
            self.stop()
        port = fixed or self._free_port()
        command = [str(part) for part in self.command(port)]
        self.home.logs.mkdir(parents=True, exist_ok=True)
        with open(self.log, "w") as log:
            started = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home.run,
                start_new_session=True,  # out of reach of the terminal's Ctrl-C
            )
        try:
            self._save({"pid": started.pid, "port": port, "command": command})
        except BaseException:
            started.kill()
            raise
        return True

    def wait(self) -> int:
        """Waits until it answers; returns its port.

        Raises:
            LakeflowError: it ended, or does not answer in time.
        """
        port = self._state()["port"]
        give_up = time.monotonic() + START_SECONDS
        while not self.ready(port):
            if self._settled() is None:
                raise LakeflowError(f"the {self.name} server ended at its start: {last_words(self.log)}")
            if time.monotonic() > give_up:
                raise LakeflowError(f"the {self.name} server does not answer after {START_SECONDS} s; see {self.log}")
            time.sleep(0.02)
        return port

    def stop(self) -> bool:
        """Ends it and waits; returns whether it ran. The next start takes the same port, where that is free."""
        process = self._settled()
        if process:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait()
            self._save({"port": self._state()["port"]})
        return process is not None

    def _process(self) -> psutil.Process | None:
        """The running server: the pid alone could by now be someone else's, the command line tells.

        Its first word is left out: Java's wrapper is a shell at first and then Java.
        """
        state = self._state()
        try:
            process = psutil.Process(state["pid"])
            arguments = state["command"][1:]
            if process.cmdline()[-len(arguments) :] == arguments:
                return process
        except (KeyError, psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            pass
        return None

    def _settled(self) -> psutil.Process | None:
        """As `_process`, also in the moment in which it becomes another program and has no command line to read."""
        process = self._process()
        if process is None and psutil.pid_exists(self._state().get("pid", -1)):
            time.sleep(SETTLE_SECONDS)
            process = self._process()
        return process

    def _state(self) -> dict:
        try:
            return json.loads(self._state_file.read_text())
        except (OSError, ValueError):
            return {}

    def _save(self, state: dict) -> None:
        replace(self._state_file, json.dumps(state), mode=0o600)

    def _fixed_port(self) -> int | None:
        text = os.environ.get(self.port_variable)
        if not text:
            return None
        if not text.isdecimal() or not 0 < int(text) < 65536:
            raise LakeflowError(f"{self.port_variable}={text} is not a port: give a number from 1 to 65535")
        port = int(text)
        if port != self.port() and not _is_free(port):
            raise LakeflowError(
                f"port {port} is taken by another program: give {self.port_variable} another, or unset it for any"
            )
        return port

    def _free_port(self) -> int:
        """The former port, so that addresses people wrote down stay right, else any."""
        former = self._state().get("port")
        if former and _is_free(former):
            return former
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]


def last_words(log: Path) -> str:
    """The line of a log that most likely says why its process ended."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\berror\b|Exception|cannot", line, re.I)]
    return f"{(errors or lines or ['it said nothing'])[-1][:300]} (log: {log})"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # as the servers do; connections of a former run in TIME_WAIT are no obstacle
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def speaks_first(port: int) -> bool:
    """Whether a server on this port greets whoever connects, as MySQL's does once it takes logins."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            return bool(connection.recv(1))
    except OSError:
        return False


def accepts(port: int) -> bool:
    """Whether something listens on this port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
