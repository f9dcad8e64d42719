"""Where a MySQL database is and how to speak to it: by JDBC from Spark's tasks, by mysql-connector for the rest."""

from __future__ import annotations

import hashlib
import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import mysql.connector
from mysql.connector import OperationalError, errorcode
from mysql.connector.abstracts import MySQLConnectionAbstract

from ingest.errors import IngestError, TransientError, retry

DEFAULT_REFERENCE = "env:LAKEHOUSE_MYSQL_URL"
FORM = "mysql://user:password@host:port/database?ssl_ca=PATH"
SSL_MODES = ("DISABLED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
STREAM_ROWS = -(2**31)
"""The fetch size that makes Connector/J stream a result; with any other it buffers all of it."""

# MariaDB's, which the connector does not name
_CONNECTION_KILLED, _ACCOUNT_LOCKED = 1927, 4151
_CUT = frozenset(
    {
        errorcode.CR_SERVER_GONE_ERROR,
        errorcode.CR_SERVER_LOST,
        errorcode.CR_SERVER_LOST_EXTENDED,
        errorcode.ER_SERVER_SHUTDOWN,
        _CONNECTION_KILLED,
    }
)
_TRANSIENT = _CUT | {
    errorcode.ER_CON_COUNT_ERROR,
    errorcode.ER_LOCK_WAIT_TIMEOUT,
    errorcode.ER_LOCK_DEADLOCK,
    errorcode.CR_CONNECTION_ERROR,
    errorcode.CR_CONN_HOST_ERROR,
}
_SHARED_FOLDERS = ("/Volumes/", "/dbfs/", "/Workspace/")


@dataclass(frozen=True)
class Source:
    """One MySQL database. Its text form holds no password.

    Attributes:
        reference: where the URL came from, for messages: `env:NAME`, `secret:SCOPE/KEY` or `file:PATH`.
        ssl_mode: one of `SSL_MODES`, as Connector/J means them.
        ssl_ca: PEM file of the authorities that may have signed the server's certificate; None is the system's own.
    """

    reference: str
    host: str
    port: int
    database: str
    user: str = field(repr=False)
    password: str = field(repr=False)
    ssl_mode: str = "VERIFY_IDENTITY"
    ssl_ca: str | None = None

    def __str__(self) -> str:
        return f"MySQL at {self.host}:{self.port}/{self.database}"

    @classmethod
    def of(cls, reference: str = DEFAULT_REFERENCE) -> Source:
        """The source that a reference names.

        Args:
            reference: `env:NAME` (environment variable), `secret:SCOPE/KEY` (Databricks secret) or `file:PATH`, each
                holding a URL of the form `FORM`. User and password are percent-encoded in it. `ssl_mode` is
                VERIFY_IDENTITY where it is not given.

        Raises:
            IngestError: the reference names nothing, or not such a URL.
        """
        return cls._parsed(reference, _looked_up(reference).strip())

    @classmethod
    def _parsed(cls, reference: str, url: str) -> Source:
        try:
            parts = urlsplit(url)
            port = parts.port or 3306
        except ValueError:
            raise IngestError(f"{reference} is not a URL of the form {FORM}") from None
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        database = unquote(parts.path.lstrip("/"))
        if parts.scheme != "mysql" or not parts.hostname or not parts.username or not database:
            raise IngestError(f"{reference} is not a URL of the form {FORM}")
        ssl_ca = query.pop("ssl_ca", None)
        ssl_mode = query.pop("ssl_mode", "VERIFY_IDENTITY").upper()
        if query:
            raise IngestError(
                f"{reference} has the unknown setting {sorted(query)[0]!r}; known are ssl_mode and ssl_ca"
            )
        if ssl_mode not in SSL_MODES:
            raise IngestError(f"{reference} has an unknown ssl_mode; use one of {', '.join(SSL_MODES)}")
        if ssl_ca and not Path(ssl_ca).is_file():
            raise IngestError(f"{reference} names the ssl_ca file {ssl_ca}, which is not there")
        return cls(
            reference=reference,
            host=parts.hostname,
            port=port,
            database=database,
            user=unquote(parts.username),
            password=unquote(parts.password or ""),
            ssl_mode=ssl_mode,
            ssl_ca=ssl_ca,
        )

    def jdbc_options(self) -> dict[str, str]:
        """Options of Spark's JDBC source and sink, with the URL; timestamps are read and written as UTC."""
        settings = {
            "sslMode": self.ssl_mode,
            "connectionTimeZone": "UTC",
            "sessionVariables": "time_zone='+00:00'",
            "connectTimeout": "10000",
            "rewriteBatchedStatements": "true",
        }
        if self.ssl_ca:
            settings["trustCertificateKeyStoreUrl"] = trust_store(Path(self.ssl_ca)).as_uri()
            settings["trustCertificateKeyStoreType"] = "PKCS12"
            settings["trustCertificateKeyStorePassword"] = _TRUST_STORE_PASSWORD
            # The authority that is named, and not those of Java besides, which are read anew for each connection.
            settings["fallbackToSystemTrustStore"] = "false"
        query = urlencode(settings, quote_via=quote)
        return {
            # In the URL and not as properties: `spark.read.jdbc` writes those in small letters, and Connector/J then
            # passes over them without a word, sslMode as well. With `jdbc:mariadb:` Spark has no dialect and returns
            # the column's name as every value.
            "url": f"jdbc:mysql://{self.host}:{self.port}/{quote(self.database)}?{query}",
            "driver": "com.mysql.cj.jdbc.Driver",
            "user": self.user,
            "password": self.password,
            "fetchsize": str(STREAM_ROWS),
        }

    def connect(self, attempts: int = 4) -> MySQLConnectionAbstract:
        """An open connection in UTC, without autocommit; the caller closes it.

        Raises:
            IngestError: wrong password, unknown database, TLS refused.
            TransientError: unreachable, after so many attempts.
        """
        return retry(self._connect, attempts=attempts)

    def _connect(self) -> MySQLConnectionAbstract:
        settings: dict[str, object] = {"ssl_disabled": True} if self.ssl_mode == "DISABLED" else {}
        if self.ssl_mode.startswith("VERIFY"):
            settings = {
                "ssl_verify_cert": True,
                "ssl_verify_identity": self.ssl_mode == "VERIFY_IDENTITY",
                "ssl_ca": self.ssl_ca or ssl.get_default_verify_paths().cafile,
            }
        with self.readable_errors():
            connection = mysql.connector.connect(
                host=self.host,
                port=self.port,
                database=self.database,
                user=self.user,
                password=self.password,
                # The default collation of the connector is MySQL's alone; this one MariaDB knows too.
                charset="utf8mb4",
                collation="utf8mb4_bin",
                time_zone="+00:00",
                connection_timeout=10,
                **settings,
            )
            if self.ssl_mode == "REQUIRED":
                self._require_tls(connection)
            return connection

    def _require_tls(self, connection: MySQLConnectionAbstract) -> None:
        """Refuses a connection that fell back to plain text, as the connector does where a server has no TLS."""
        with connection.cursor() as cursor:
            cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
            row = cursor.fetchone()
        if not row or not row[1]:
            connection.close()
            raise IngestError(
                f"{self} does not offer TLS; set it up there, or add ssl_mode=DISABLED to {self.reference} if the "
                "network is trusted"
            )

    @property
    def tls_refused(self) -> str:
        """What to say where the server's certificate is not accepted."""
        return (
            f"{self}: TLS with ssl_mode={self.ssl_mode} failed; check ssl_ca and the server's certificate and "
            f"name, or add ssl_mode=REQUIRED to {self.reference} if its identity need not be verified"
        )

    @contextmanager
    def readable_errors(self) -> Iterator[None]:
        """Turns the errors of mysql-connector into `IngestError` and `TransientError`, without values and secrets."""
        try:
            yield
        except mysql.connector.Error as error:
            # `from None`: the connector's own text may quote values.
            raise self._explained(error) from None

    def _explained(self, error: mysql.connector.Error) -> IngestError:
        number = error.errno
        # Of a connection that is gone the connector says -1, or the number of what ended it.
        cut = isinstance(error, OperationalError) and number == -1
        refused = number == errorcode.CR_SSL_CONNECTION_ERROR or "certificate" in str(error).lower()
        if refused:
            message = self.tls_refused
        elif number in (errorcode.CR_CONN_HOST_ERROR, errorcode.CR_CONNECTION_ERROR, errorcode.CR_UNKNOWN_HOST):
            message = f"{self} cannot be reached; check host and port in {self.reference} and that the server runs"
        elif number == errorcode.ER_ACCESS_DENIED_ERROR:
            message = f"{self} refused the user {self.user!r}; check user and password in {self.reference}"
        elif number in (errorcode.ER_ACCOUNT_HAS_BEEN_LOCKED, _ACCOUNT_LOCKED):
            message = f"{self}: the user {self.user!r} is locked; unlock it with ALTER USER"
        elif number == errorcode.ER_BAD_DB_ERROR:
            message = f"{self}: there is no database {self.database!r}; create it or correct {self.reference}"
        elif number in (errorcode.ER_DBACCESS_DENIED_ERROR, errorcode.ER_TABLEACCESS_DENIED_ERROR):
            message = f"{self}: the user {self.user!r} lacks a right for this; grant it"
        elif number == errorcode.ER_NO_SUCH_TABLE:
            message = f"{self}: a table is missing; load it first or correct the database in {self.reference}"
        elif cut or number in _CUT:
            message = f"{self}: the connection was cut; check that the server runs"
        else:
            message = f"{self}: error {number} ({error.sqlstate}); look it up in the server's manual"
        transient = not refused and (cut or number in _TRANSIENT)
        return (TransientError if transient else IngestError)(message)


_TRUST_STORE_PASSWORD = "authorities"
"""Java wants one; the file holds public certificates only."""


def trust_store(pem: Path) -> Path:
    """The PKCS12 form of a PEM file of authorities, which is the one Java reads; made once for each content.

    It lies beside a PEM file on storage that all machines of a cluster share, else in the temporary folder.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12

    content = pem.read_bytes()
    shared = str(pem).startswith(_SHARED_FOLDERS)
    folder = pem.parent if shared else Path(tempfile.gettempdir(), f"ingest-{os.getuid()}")
    path = folder / f"authorities-{hashlib.sha256(content).hexdigest()[:16]}.p12"
    if path.is_file():
        return path
    try:
        certificates = x509.load_pem_x509_certificates(content)
    except ValueError:
        raise IngestError(f"{pem} holds no PEM certificate; correct ssl_ca") from None
    # One round of key derivation in the place of thousands, since a client decrypts it for each connection.
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(1)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(SHA256())
        .build(_TRUST_STORE_PASSWORD.encode())
    )
    store = pkcs12.serialize_java_truststore(
        [pkcs12.PKCS12Certificate(c, f"authority-{n}".encode()) for n, c in enumerate(certificates)],
        encryption,
    )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_bytes(store)
    partial.replace(path)
    return path


def _looked_up(reference: str) -> str:
    kind, _, name = reference.partition(":")
    if kind == "env" and name:
        if not os.environ.get(name):
            raise IngestError(f"the environment variable {name} is not set; set it to {FORM}")
        return os.environ[name]
    if kind == "file" and name:
        try:
            return Path(name).read_text()
        except (OSError, UnicodeDecodeError):
            raise IngestError(f"{name} cannot be read; it must hold {FORM}") from None
    if kind == "secret" and name.count("/") == 1:
        return _secret(*name.split("/"))
    raise IngestError("--source must be env:NAME, secret:SCOPE/KEY or file:PATH; a URL itself would show its password")


def _secret(scope: str, key: str) -> str:
    try:
        from databricks.sdk.runtime import dbutils

        return dbutils.secrets.get(scope=scope, key=key)
    except Exception:
        raise IngestError(
            f"the Databricks secret {scope}/{key} cannot be read; it needs a workspace, that scope and key, "
            "and READ on it"
        ) from None
