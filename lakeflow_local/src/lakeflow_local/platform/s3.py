"""The embedded S3 server: S3Proxy on a folder."""

from __future__ import annotations

from lakeflow_local.files import replace
from lakeflow_local.home import Home
from lakeflow_local.platform import credentials, jars, java
from lakeflow_local.platform.daemon import Daemon, accepts

# A request that is signed with its content is held twice while that is checked, and may have 128 MiB.
HEAP = "-Xmx512m"


def server(home: Home) -> Daemon:
    """The server; its buckets are the folders of `home.s3`."""

    def command(port: int) -> list[str]:
        (jar,) = jars.folder(home, "s3").glob("*.jar")
        kept = credentials.load(home)
        properties = home.run / "s3.properties"
        home.s3.mkdir(parents=True, exist_ok=True)
        replace(
            properties,
            f"""\
s3proxy.endpoint=http://127.0.0.1:{port}
s3proxy.authorization=aws-v2-or-v4
s3proxy.identity={kept.s3_access_key}
s3proxy.credential={kept.s3_secret_key}
jclouds.provider=filesystem-nio2
jclouds.filesystem.basedir={home.s3}
""",
            mode=0o600,
        )
        return [
            str(java.find(home).executable),
            HEAP,
            "-DLOG_LEVEL=warn",
            *jars.QUICK_START,
            "-jar",
            str(jar),
            "--properties",
            str(properties),
        ]

    return Daemon("s3", home, "LAKEHOUSE_S3_PORT", command, accepts)
