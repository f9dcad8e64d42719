"""Parquet objects that Spark's tasks write themselves, and that nobody sees until the driver commits them.

S3 keeps a multipart upload invisible until it is completed: tasks send the parts, the driver completes the uploads, as
Hadoop's magic committer does. On a disk an object has a hidden name until then.
docs/decisions/0011-tasks-that-write.md says why, and what a death leaves.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import os
import uuid
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from py4j.java_gateway import is_instance_of
from pyspark.sql import SparkSession

ROWS_PER_GROUP = 256 * 1024
"""Of a Parquet row group, the unit that readers skip by its statistics, and what a writer holds in memory."""

_PART = 16 * 2**20
# Of a column's dictionary in a row group, beyond which its values are written as they are. The default of 1 MiB costs
# a column of distinct values a third of its encoding, and a quarter of a row group then refers to what is no saving.
_DICTIONARY = 256 * 1024
_COMMITS_AT_ONCE = 8
# What S3A does on request and this module does not: encryption that is not the bucket's own, and ways to the store.
_UNKNOWN = ("encryption.algorithm", "server-side-encryption-algorithm", "proxy.host", "requester.pays.enabled")
_TEMPORARY = "software.amazon.awssdk.auth.credentials.AwsSessionCredentials"
log = logging.getLogger("ingest")


class Sink(Protocol):
    """A file that pyarrow writes."""

    closed: bool

    def write(self, data: bytes) -> int: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def pending(self) -> str:
        """What commits it, once it is closed."""

    def abort(self) -> None:
        """Leaves nothing of it; called in place of `close`."""


class Folder(Protocol):
    """A folder of the landing zone, as tasks write to it and the driver commits; it travels between them."""

    def create(self, name: str) -> Sink: ...

    def commit(self, pending: Iterable[str]) -> None:
        """Makes objects visible, each at once and whole."""

    def abort(self, pending: Iterable[str]) -> None:
        """Leaves nothing of objects that were not committed; of one that cannot be removed, it says so."""

    def clear(self) -> None:
        """Leaves nothing of any object that was begun here and not committed, by whomever; or it says so."""


def folder(spark: SparkSession, url: str) -> Folder | None:
    """The folder of a URL with the access that the session has; None where Spark alone can write there.

    Where those credentials are temporary, they are of the moment of this call.
    """
    where = spark._jvm.org.apache.hadoop.fs.Path(url)
    conf = spark._jsparkSession.sessionState().newHadoopConf()
    files = where.getFileSystem(conf)
    if is_instance_of(spark.sparkContext._gateway, files, "org.apache.hadoop.fs.LocalFileSystem"):
        return DiskFolder(where.toUri().getPath())
    if files.getClass().getSimpleName() == "S3AFileSystem" and find_spec("boto3"):
        return _s3_folder(spark, url, conf)
    log.info("Spark writes: its tasks have no access of their own to %s", url)
    return None


def _s3_folder(spark: SparkSession, url: str, conf: Any) -> S3Folder | None:
    s3a, parts = spark._jvm.org.apache.hadoop.fs.s3a, urlsplit(url)
    conf = s3a.S3AUtils.propagateBucketOptions(conf, parts.netloc)
    asked = [name for name in _UNKNOWN if (conf.get(f"fs.s3a.{name}") or "false") != "false"]
    if asked:
        log.info("Spark writes, since fs.s3a.%s is set", asked[0])
        return None
    provider = s3a.auth.CredentialProviderListFactory.createAWSCredentialProviderList(
        spark._jvm.java.net.URI(url), conf
    )
    keys = provider.resolveCredentials()
    temporary = is_instance_of(spark.sparkContext._gateway, keys, _TEMPORARY)
    endpoint = conf.get("fs.s3a.endpoint") or None
    if endpoint and "://" not in endpoint:
        scheme = "https" if conf.get("fs.s3a.connection.ssl.enabled") != "false" else "http"
        endpoint = f"{scheme}://{endpoint}"
    return S3Folder(
        bucket=parts.netloc,
        prefix=parts.path.strip("/"),
        endpoint=endpoint,
        region=conf.get("fs.s3a.endpoint.region") or None,
        path_style=conf.get("fs.s3a.path.style.access") == "true",
        keys=(keys.accessKeyId(), keys.secretAccessKey(), keys.sessionToken() if temporary else None),
    )


class Writer:
    """Rows as Parquet objects of a folder, as many as their number wants; a context that aborts them on an error.

    Args:
        name: what their names begin with; the rest is never the same twice, since readers pass over a path that they
            have read.
        spark_version: of the Spark that calls this, which it looks for before it reads days of 1582 and earlier.
    """

    def __init__(self, folder: Folder, name: str, rows_per_file: int, spark_version: str):
        self._folder, self._rows_per_file = folder, rows_per_file
        self._name, self._files = f"{name}-{uuid.uuid4()}", 0
        self._metadata = {"org.apache.spark.version": spark_version}
        self._held: list[pa.Table] = []
        self._rows = self._rows_of_file = 0
        self._sink: Sink | None = None
        self._parquet: pq.ParquetWriter | None = None
        self._pending: list[str] = []

    def write(self, rows: pa.Table) -> None:
        while rows.num_rows:
            room = min(ROWS_PER_GROUP, self._rows_per_file - self._rows_of_file) - self._rows
            taken, rows = rows.slice(0, room), rows.slice(room)
            self._held.append(taken)
            self._rows += taken.num_rows
            if taken.num_rows == room:
                self._flush()

    def close(self) -> list[str]:
        """What commits each object."""
        if self._held:
            self._flush()
        self._end()
        return self._pending

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind:
            if self._sink:
                self._sink.abort()
            self._folder.abort(self._pending)

    def _flush(self) -> None:
        group = pa.concat_tables(self._held)
        self._held, self._rows = [], 0
        if self._parquet is None:
            self._sink = self._folder.create(f"{self._name}-c{self._files:03}.zstd.parquet")
            self._parquet = pq.ParquetWriter(
                self._sink,
                group.schema,
                compression="zstd",
                dictionary_pagesize_limit=_DICTIONARY,
                store_decimal_as_integer=True,
                store_schema=False,
            )
            self._parquet.add_key_value_metadata(self._metadata)
            self._files += 1
        self._parquet.write_table(group, row_group_size=ROWS_PER_GROUP)
        self._rows_of_file += group.num_rows
        if self._rows_of_file == self._rows_per_file:
            self._end()

    def _end(self) -> None:
        if self._parquet:
            self._parquet.close()
            self._sink.close()
            self._pending.append(self._sink.pending())
        self._parquet = self._sink = None
        self._rows_of_file = 0


@dataclass(frozen=True)
class DiskFolder:
    """A folder that this machine mounts."""

    path: str

    def create(self, name: str) -> Sink:
        os.makedirs(self.path, exist_ok=True)
        return _HiddenFile(self.path, name)

    def commit(self, pending: Iterable[str]) -> None:
        for name in pending:
            Path(self.path, f".{name}").rename(Path(self.path, name))

    def abort(self, pending: Iterable[str]) -> None:
        for name in pending:
            Path(self.path, f".{name}").unlink(missing_ok=True)

    def clear(self) -> None:
        for hidden in Path(self.path).glob(".*.parquet"):
            hidden.unlink(missing_ok=True)


class _HiddenFile:
    """A file whose name begins with a dot, which no reader of Parquet folders looks at."""

    def __init__(self, folder: str, name: str):
        self._name = name
        self._file = open(Path(folder, f".{name}"), "wb")  # noqa: SIM115
        self.closed = False
        self.write, self.flush = self._file.write, self._file.flush

    def close(self) -> None:
        self._file.close()
        self.closed = True

    def pending(self) -> str:
        return self._name

    def abort(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()  # which writes once more
        os.unlink(self._file.name)


@dataclass(frozen=True)
class S3Folder:
    """A prefix of a bucket.

    Attributes:
        endpoint, region: None is what boto3 finds.
        keys: access key, secret key and session token.
    """

    bucket: str
    prefix: str
    endpoint: str | None
    region: str | None
    path_style: bool
    keys: tuple[str, str, str | None] = field(repr=False)

    def client(self, **settings: Any) -> Any:
        """Of boto3.

        Args:
            settings: of its `s3`, such as `payload_signing_enabled`.
        """
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.keys[0],
            aws_secret_access_key=self.keys[1],
            aws_session_token=self.keys[2],
            config=Config(
                s3={"addressing_style": "path" if self.path_style else "auto", **settings},
                retries={"mode": "standard", "total_max_attempts": 3},
                connect_timeout=10,
                # Parts have their ETags compared at the end, and not every store knows the newer checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                max_pool_connections=_COMMITS_AT_ONCE,
            ),
        )

    def create(self, name: str) -> Sink:
        # A part's MD5 is among what is signed; its SHA-256 besides would cost both ends more CPU than all the rest.
        return _Upload(self.client(payload_signing_enabled=False), self.bucket, f"{self.prefix}/{name}")

    def commit(self, pending: Iterable[str]) -> None:
        client = self.client()
        with ThreadPoolExecutor(_COMMITS_AT_ONCE) as pool:
            list(pool.map(lambda upload: client.complete_multipart_upload(**json.loads(upload)), pending))

    def abort(self, pending: Iterable[str]) -> None:
        client = self.client()
        for upload in map(json.loads, pending):
            del upload["MultipartUpload"]
            _abort(client, upload)

    def clear(self) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        client, within = self.client(), f"{self.prefix}/"
        try:
            pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=within)
            left = [upload for page in pages for upload in page.get("Uploads", ())]
        except (BotoCoreError, ClientError) as error:
            log.warning("uploads of attempts that failed are left for the bucket's lifecycle rule: %s", _told(error))
            return
        for upload in left:
            # Not every store limits its answer to the prefix.
            if upload["Key"].startswith(within):
                _abort(client, {"Bucket": self.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]})


class _Upload:
    """A multipart upload: one part is on its way while the next is filled."""

    def __init__(self, client: Any, bucket: str, key: str):
        self._client = client
        self._named = {"Bucket": bucket, "Key": key}
        self._named["UploadId"] = client.create_multipart_upload(**self._named)["UploadId"]
        self._buffer = bytearray()
        self._pool = ThreadPoolExecutor(1)
        self._parts: list[Future[str]] = []
        self.closed = False

    def write(self, data: bytes) -> int:
        self._buffer += data
        while len(self._buffer) >= _PART:
            self._send(_PART)
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._send(len(self._buffer))
            self._pool.shutdown()

    def pending(self) -> str:
        parts = [{"PartNumber": number, "ETag": sent.result()} for number, sent in enumerate(self._parts, 1)]
        return json.dumps({**self._named, "MultipartUpload": {"Parts": parts}})

    def abort(self) -> None:
        self.closed = True
        self._pool.shutdown(cancel_futures=True)
        _abort(self._client, self._named)

    def _send(self, size: int) -> None:
        if self._parts:
            self._parts[-1].result()  # raises what failed, and bounds what is held
        part = self._buffer[:size]
        del self._buffer[:size]
        self._parts.append(self._pool.submit(self._upload, len(self._parts) + 1, part))

    def _upload(self, number: int, part: bytearray) -> str:
        digest = base64.b64encode(hashlib.md5(part, usedforsecurity=False).digest()).decode()
        return self._client.upload_part(**self._named, PartNumber=number, Body=part, ContentMD5=digest)["ETag"]


def _told(error: Exception) -> str:
    """What a store refused, without what it was asked: its code where it gave one, else the kind of the error."""
    answer = getattr(error, "response", {})
    return answer.get("Error", {}).get("Code") or type(error).__name__


def _abort(client: Any, named: dict[str, str]) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client.abort_multipart_upload(**named)
    except (BotoCoreError, ClientError) as error:
        log.warning("an upload is left for the bucket's lifecycle rule to end: %s", _told(error))
