"""The servers of a home: started together, found again by every command, ended by `down`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

from lakeflow_local.files import locked
from lakeflow_local.home import Home
from lakeflow_local.platform import catalog, credentials, mariadb
from lakeflow_local.platform import s3 as s3_server
from lakeflow_local.platform.daemon import Daemon

S3_REGION = "us-east-1"


@dataclass(frozen=True)
class Endpoints:
    """Where the servers are and how to log in.

    Attributes:
        mysql_url: `mysql://user:password@host:port/database?ssl_ca=PATH`, the user's own where
            `LAKEHOUSE_MYSQL_URL` is set; None if not started.
        s3_endpoint: `http://127.0.0.1:PORT`; None if not started.
        s3_access_key: of the embedded S3 server.
        s3_secret_key: of the embedded S3 server.
        buckets: those that the embedded S3 server serves; every other bucket is the user's own.
        catalog_url: JDBC URL of the Hive metastore's database.
        catalog_user: its user.
        catalog_password: its password.
    """

    mysql_url: str | None = field(repr=False)
    s3_endpoint: str | None
    s3_access_key: str | None = field(repr=False)
    s3_secret_key: str | None = field(repr=False)
    buckets: tuple[str, ...]
    catalog_url: str
    catalog_user: str
    catalog_password: str = field(repr=False)
    secret_key: str = field(repr=False)

    def environment(self) -> dict[str, str]:
        """What tasks see; nothing of it replaces what the user set himself."""
        environment = {}
        if self.mysql_url and "LAKEHOUSE_MYSQL_URL" not in os.environ:
            environment["LAKEHOUSE_MYSQL_URL"] = self.mysql_url
        own = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
        if self.s3_endpoint and not any(name in os.environ for name in own):
            environment |= {
                "AWS_ACCESS_KEY_ID": self.s3_access_key,
                "AWS_SECRET_ACCESS_KEY": self.s3_secret_key,
                "AWS_ENDPOINT_URL": self.s3_endpoint,
                "AWS_REGION": S3_REGION,
            }
        if "LAKEHOUSE_SECRET_KEY" not in os.environ:
            environment["LAKEHOUSE_SECRET_KEY"] = self.secret_key
        return environment


@dataclass(frozen=True)
class Status:
    """One server: its name, and its process id and port if it runs."""

    name: str
    pid: int | None
    port: int | None


def up(home: Home, mysql: bool = True, s3: bool = True, buckets: Iterable[str] = ("landing",)) -> Endpoints:
    """Starts what does not run yet: the catalog always, the others if asked for.

    No MySQL server is started where `LAKEHOUSE_MYSQL_URL` names the user's own. Two calls at once start one server.

    Raises:
        LakeflowError: set-up is missing, a server does not start, or a port that the user fixed is taken.
    """
    own_mysql = os.environ.get("LAKEHOUSE_MYSQL_URL")
    buckets = tuple(buckets)
    with _held(home), ExitStack() as undo:
        kept = credentials.load(home)
        for bucket in buckets:
            (home.s3 / bucket).mkdir(parents=True, exist_ok=True)
        wanted = {"catalog": True, "mysql": mysql and not own_mysql, "s3": s3}
        servers = [server for server in _servers(home) if wanted[server.name]]
        for server in servers:
            if server.launch():
                undo.callback(server.stop)
        ports = {server.name: server.wait() for server in servers}
        undo.pop_all()
    return Endpoints(
        mysql_url=own_mysql or (mariadb.url(home, ports["mysql"]) if mysql else None),
        s3_endpoint=f"http://127.0.0.1:{ports['s3']}" if s3 else None,
        s3_access_key=kept.s3_access_key if s3 else None,
        s3_secret_key=kept.s3_secret_key if s3 else None,
        buckets=buckets if s3 else (),
        catalog_url=catalog.url(ports["catalog"]),
        catalog_user=catalog.USER,
        catalog_password=kept.catalog_password,
        secret_key=kept.secret_key,
    )


def down(home: Home) -> list[str]:
    """Ends every server of the home and waits for it; returns the names of those that ran."""
    if not home.run.is_dir():
        return []
    with _held(home):
        return [server.name for server in _servers(home) if server.stop()]


def status(home: Home) -> list[Status]:
    """Every server of the home, running or not."""
    return [Status(server.name, server.pid(), server.port()) for server in _servers(home)]


def _servers(home: Home) -> tuple[Daemon, ...]:
    return catalog.server(home), s3_server.server(home), mariadb.server(home)


def _held(home: Home) -> AbstractContextManager[None]:
    home.run.mkdir(parents=True, exist_ok=True)
    home.run.chmod(0o700)
    return locked(home.run / "lock")
