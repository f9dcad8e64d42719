"""The embedded MySQL-compatible server: MariaDB out of a jar, run as the current user on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote
from zipfile import ZipFile

from lakeflow_local.errors import LakeflowError
from lakeflow_local.files import replace
from lakeflow_local.home import Home
from lakeflow_local.platform import certificates, credentials, jars
from lakeflow_local.platform.daemon import Daemon, speaks_first

DATABASE = "lakehouse"
USER = "lakehouse"


def is_ready(home: Home) -> bool:
    """Whether the server is unpacked and has its data folder."""
    return home.mysql.is_dir() and _unpacked(home).is_dir()


def make_ready(home: Home) -> Path:
    """Unpacks the server and makes its data folder, once; returns the folder with `bin/mariadbd`.

    Raises:
        LakeflowError: there is none for this machine, or its own installer failed.
    """
    base = _unpack(home)
    _make_data(home, base)
    return base


def _jar(home: Home) -> Path:
    (jar,) = jars.folder(home, jars.MYSQL).glob("*.jar")
    return jar


def _unpacked(home: Home) -> Path:
    return home.path / "mariadb" / _jar(home).stem


def _unpack(home: Home) -> Path:
    jar, unpacked = _jar(home), _unpacked(home)
    if not unpacked.is_dir():
        unpacked.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=unpacked.parent) as temporary, ZipFile(jar) as archive:
            names = [name for name in archive.namelist() if name.startswith("ch/")]
            archive.extractall(temporary, names)
            (scripts,) = Path(temporary).rglob("mariadb-install-db")
            for program in (scripts, *(scripts.parents[1] / "bin").iterdir()):
                program.chmod(0o755)  # zip files made by Java keep no permissions
            scripts.parents[1].rename(unpacked)
    return unpacked


def server(home: Home) -> Daemon:
    """The server, listening once its accounts are in order."""

    def command(port: int) -> list[str]:
        base = make_ready(home)
        authority, certificate, key = certificates.server_certificate(home.run / "tls")
        return [
            str(base / "bin" / "mariadbd"),
            "--no-defaults",
            f"--basedir={base}",
            f"--datadir={home.mysql}",
            f"--lc-messages-dir={base / 'share'}",
            f"--init-file={_accounts(home)}",
            f"--tmpdir={_scratch(home)}",
            *_as_current_user(),
            "--bind-address=127.0.0.1",
            f"--port={port}",
            "--socket=",  # paths of sockets end at 107 characters; TCP serves everyone
            "--skip-name-resolve",
            f"--ssl-ca={authority}",
            f"--ssl-cert={certificate}",
            f"--ssl-key={key}",
            "--default-time-zone=+00:00",
            "--character-set-server=utf8mb4",
            # a collation that MySQL and its drivers know too
            "--collation-server=utf8mb4_unicode_ci",
            "--character-set-collations=utf8mb4=utf8mb4_unicode_ci",
            "--innodb-buffer-pool-size=128M",
            "--innodb-log-file-size=64M",
            # a crash of the server loses nothing, one of the whole machine up to a second
            "--innodb-flush-log-at-trx-commit=2",
            "--key-buffer-size=1M",
            "--aria-pagecache-buffer-size=8M",
            "--max-connections=100",
        ]

    return Daemon("mysql", home, "LAKEHOUSE_MYSQL_PORT", command, speaks_first)


def _scratch(home: Home) -> Path:
    """A folder for temporary tables. A server that starts empties it of what looks like another server's leavings."""
    folder = home.run / "mysql-tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _make_data(home: Home, base: Path) -> None:
    if home.mysql.is_dir():
        return
    with tempfile.TemporaryDirectory(dir=home.path) as temporary:
        data = Path(temporary) / "data"
        command = [
            "/bin/sh",
            str(base / "scripts" / "mariadb-install-db"),
            "--no-defaults",
            f"--basedir={base}",
            f"--datadir={data}",
            f"--tmpdir={temporary}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
            *_as_current_user(),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            words = [line.strip() for line in (done.stdout + done.stderr).splitlines() if "rror" in line]
            raise LakeflowError(f"the MySQL server's data folder could not be made: {(words or ['no message'])[0]}")
        shutil.move(data, home.mysql)


def url(home: Home, port: int) -> str:
    """`mysql://user:password@127.0.0.1:port/database`, with the authority that signs the server's certificate."""
    password = credentials.load(home).mysql_password
    authority = quote(str(home.run / "tls" / "ca.pem"))
    return f"mysql://{USER}:{password}@127.0.0.1:{port}/{DATABASE}?ssl_ca={authority}"


def _accounts(home: Home) -> Path:
    """SQL that each start runs, so that the accounts always have the passwords of `credentials`."""
    kept = credentials.load(home)
    path = home.run / "mysql-accounts.sql"
    replace(
        path,
        f"""\
CREATE DATABASE IF NOT EXISTS {DATABASE};
CREATE OR REPLACE USER root@'127.0.0.1' IDENTIFIED BY '{kept.mysql_root_password}';
GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;
DROP USER IF EXISTS root@localhost;
CREATE OR REPLACE USER {USER}@'127.0.0.1' IDENTIFIED BY '{kept.mysql_password}';
GRANT ALL ON {DATABASE}.* TO {USER}@'127.0.0.1';
GRANT ALL ON `{DATABASE}\\_%`.* TO {USER}@'127.0.0.1';
""",
        mode=0o600,
    )
    return path


def _as_current_user() -> list[str]:
    """Where the current user is root, as in most containers, the server insists on being told so."""
    return ["--user=root"] if os.geteuid() == 0 else []
