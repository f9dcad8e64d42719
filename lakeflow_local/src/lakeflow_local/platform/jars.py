"""The jars of the local platform, named by `ivy.xml`, downloaded once by the Apache Ivy that PySpark ships."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree.ElementTree import canonicalize

from lakeflow_local.errors import LakeflowError
from lakeflow_local.files import locked, replace
from lakeflow_local.home import Home
from lakeflow_local.platform.java import Java

IVY = Path(__file__).with_name("ivy.xml")
SETTINGS = Path(__file__).with_name("ivysettings.xml")
MYSQL = f"mysql-{sys.platform}-{platform.machine()}"

SETUP = "lakeflow-local setup (or make setup of the project)"
# Small-machine settings of a JVM that does little and starts often.
QUICK_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def configurations() -> tuple[str, ...]:
    """Those of `ivy.xml` that this machine needs; an embedded MySQL exists for some machines only."""
    wanted = ("spark", "catalog", "s3", MYSQL)
    defined = re.findall(r'<conf name="([^"]+)"', IVY.read_text())
    return tuple(name for name in wanted if name in defined)


def present(home: Home) -> bool:
    """Whether everything that `ivy.xml` names today is there."""
    kept = home.jars / "stamp"
    return kept.is_file() and kept.read_text() == stamp()


def folder(home: Home, configuration: str) -> Path:
    """The folder of one configuration's jars.

    Raises:
        LakeflowError: set-up has not been run, or was for other versions.
    """
    if not present(home):
        raise LakeflowError(f"the jars of the local platform are missing or out of date: run {SETUP}")
    path = home.jars / configuration
    if not path.is_dir():
        raise LakeflowError(f"there is no embedded MySQL server for this machine ({MYSQL}): set LAKEHOUSE_MYSQL_URL")
    return path


def spark_jars() -> Path:
    """The jars inside PySpark's wheel, found without importing it."""
    return Path(find_spec("pyspark").origin).parent / "jars"


def download(home: Home, java: Java) -> None:
    """Downloads what `ivy.xml` names, checksums verified, one process for each configuration.

    An interrupted download leaves nothing that counts: the folders appear in place when all are complete.

    Raises:
        LakeflowError: Maven Central cannot be reached, or an artefact is not there.
    """
    with locked(home.path / "jars.lock"):
        if present(home):
            return
        partial = home.path / "jars.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        runs = []
        try:
            for name in configurations():
                with open(partial / f"{name}.log", "w") as log:
                    runs.append(subprocess.Popen(_command(java, partial, name), stdout=log, stderr=log))
            for name, run in zip(configurations(), runs, strict=True):
                if run.wait():
                    raise _failure((partial / f"{name}.log").read_text())
        except BaseException:
            for run in runs:
                run.kill()
                run.wait()
            shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(partial / "cache")
        replace(partial / "stamp", stamp())
        shutil.rmtree(home.jars, ignore_errors=True)
        partial.rename(home.jars)


def _command(java: Java, partial: Path, configuration: str) -> list[str | Path]:
    (ivy,) = spark_jars().glob("ivy-*.jar")
    return [
        java.executable,
        "-Xmx128m",
        *QUICK_START,
        *java.options,
        *_proxy(),
        # a cache for each, so that the processes do not wait for each other
        f"-Divy.default.ivy.user.dir={partial / 'cache' / configuration}",
        "-jar",
        ivy,
        "-warn",
        *("-settings", SETTINGS),
        *("-ivy", IVY),
        *("-confs", configuration),
        *("-retrieve", f"{partial}/[conf]/[artifact]-[revision].[ext]"),
    ]


def _proxy() -> list[str]:
    """Java does not read the variables that everything else does."""
    url = urlsplit(os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY") or "")
    if not url.hostname:
        return []
    return [f"-Dhttps.proxyHost={url.hostname}", f"-Dhttps.proxyPort={url.port or 443}"]


def _failure(log: str) -> LakeflowError:
    if re.search(
        r"UnknownHost|Connect(ion)? ?(refused|timed out|reset|Exception)|SocketTimeout|unreachable", log, re.I
    ):
        return LakeflowError(
            "cannot reach Maven Central for the jars of the local platform: "
            f"check the network or the proxy (HTTPS_PROXY), then run {SETUP} again"
        )
    if "PKIX" in log or "SSLHandshake" in log:
        return LakeflowError(
            "Maven Central's certificate is not trusted: set SSL_CERT_FILE to the bundle of your company's "
            f"authorities, then run {SETUP} again"
        )
    problems = [line.strip() for line in log.splitlines() if re.search(r"not found|FAILED|ERROR|Invalid sha1", line)]
    return LakeflowError(f"a jar could not be downloaded ({'; '.join(problems[:2])}): run {SETUP} again")


def stamp() -> str:
    """A text that changes when what `ivy.xml` names does; its comments and layout do not matter."""
    return sha256(canonicalize(from_file=IVY, strip_text=True).encode()).hexdigest()
