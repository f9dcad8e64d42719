"""The catalog: Derby as a network server, which lets several processes use one Hive metastore at once."""

from __future__ import annotations

from pathlib import Path

from lakeflow_local.files import replace
from lakeflow_local.home import Home
from lakeflow_local.platform import credentials, jars, java
from lakeflow_local.platform.daemon import Daemon, accepts

USER = "lakehouse"


def server(home: Home) -> Daemon:
    """The server; a database is made by the first connection to it."""

    def command(port: int) -> list[str]:
        folder = home.path / "catalog"
        folder.mkdir(parents=True, exist_ok=True)
        # Whoever may log in may run Java code as this user, so a password is wanted on loopback too.
        replace(
            folder / "derby.properties",
            f"""\
derby.connection.requireAuthentication=true
derby.authentication.provider=BUILTIN
derby.user.{USER}={credentials.load(home).catalog_password}
derby.stream.error.file={home.logs / "derby.log"}
""",
            mode=0o600,
        )
        class_path = [
            *sorted(jars.folder(home, "catalog").glob("*.jar")),
            *sorted(jars.spark_jars().glob("derby*.jar")),
        ]
        return [
            str(java.find(home).executable),
            "-Xmx96m",
            *jars.QUICK_START,
            f"-Dderby.system.home={folder}",
            "-cp",
            ":".join(map(str, class_path)),
            "org.apache.derby.drda.NetworkServerControl",
            "start",
            *("-h", "127.0.0.1"),
            *("-p", str(port)),
            "-noSecurityManager",  # Java 17 and newer deprecate it, Java 24 and newer have none
        ]

    return Daemon("catalog", home, "LAKEHOUSE_CATALOG_PORT", command, accepts)


def url(port: int, database: str = "metastore") -> str:
    """The JDBC URL of a metastore; user and password are given apart from it."""
    return f"jdbc:derby://127.0.0.1:{port}/{Path(database).name};create=true"
