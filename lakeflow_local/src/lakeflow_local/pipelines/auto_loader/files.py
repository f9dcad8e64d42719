"""Which files there are, which of them Spark's stream has taken, and the log by which it is handed the others.

Spark's file stream can read a log of files in place of a folder, as it does where the folder was written by a stream
of its own (`FileStreamSink`). The log written here holds the files that were found and looked at, and no others: what
arrives between the look and the start of the stream waits for the next one, and neither the stream's listing nor its
memory grows with the folder. Which files were taken is read from the stream's own checkpoint.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines.auto_loader.options import Options
from lakeflow_local.pipelines.paths import absent
from lakeflow_local.pipelines.storage import Storage

# What a URL's path may hold as it is by Java's rule, which Spark's file_path follows; so is all that is not ASCII.
_PLAIN_IN_URLS = "/:=@!$&'()*+,;~"
_GLOB = re.compile(r"[*?\[\]{}]")
# What Hadoop writes of a file's status; it is asked for all files in one call, since each call to the JVM counts.
_STATUS = re.compile(r"path=(.*?); isDirectory=false; length=(\d+);.*?modification_time=(\d+);", re.DOTALL)
_HEAD = 1 << 16


@dataclass(frozen=True, order=True)
class File:
    """One file.

    Attributes:
        path: its URL without escapes, `file:/…` with one slash.
        modified: milliseconds since 1970.
        size: bytes.
    """

    path: str
    modified: int
    size: int

    @property
    def url(self) -> str:
        return url(self.path)


def url(path: str) -> str:
    return "".join(c if ord(c) > 127 else quote(c, safe=_PLAIN_IN_URLS) for c in path)


def plain(path: str) -> str:
    """One spelling for a file's URL: Spark writes some with escapes and three slashes, some without."""
    return re.sub(r"^file:/+", "file:/", unquote(path))


def find(spark: SparkSession, paths: Sequence[str], options: Options) -> list[File]:
    """The files under folders, files or globs, the oldest first; those whose names begin with `_` or `.` are none.

    Raises:
        LakeflowError: a path that does not exist or cannot be listed.
    """
    reader = spark.read.format("binaryFile").option("recursiveFileLookup", "true").options(**options.listing)
    found: set[File] = set()
    for path in paths:
        try:
            frame = reader.load(path)
            relation = frame._jdf.queryExecution().optimizedPlan().collectLeaves().head().relation()
            statuses = relation.location().allFiles().mkString("\n")
        except (PySparkException, Py4JJavaError) as error:
            if _GLOB.search(path) and "PATH_NOT_FOUND" in str(error):
                continue
            raise LakeflowError(_unreachable(path, str(error))) from error
        here = [File(plain(url(m[1])), int(m[3]), int(m[2])) for m in _STATUS.finditer(statuses)]
        if options.strict and _GLOB.search(path):
            here = [f for f in here if _strictly_in(f.path, path)]
        found.update(here)
    return sorted(found, key=lambda f: (f.modified, f.path))


def base(path: str) -> str:
    """The part of a path before its first glob."""
    match = _GLOB.search(path)
    return path[: path.rindex("/", 0, match.start()) + 1] if match and "/" in path[: match.start()] else path


def _strictly_in(file: str, pattern: str) -> bool:
    """Whether the file matches the pattern, or lies in a folder that does, directly or by hive-style partitions."""
    steps = plain(pattern).split(":", 1)[-1].strip("/").split("/")
    own = file.split(":", 1)[-1].strip("/").split("/")
    if "://" in pattern:
        own, steps = [p for p in own if p], [p for p in steps if p]
    beyond = own[len(steps) :]
    return all("=" in part for part in beyond[:-1])


def _unreachable(path: str, message: str) -> str:
    if "UnknownStoreException" in message or "NoSuchBucket" in message:
        return f"the bucket of {path} does not exist; create it, or mend the URL"
    if "AccessDenied" in message or "403" in message or "InvalidAccessKeyId" in message:
        return f"access to {path} was refused; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if re.search("PATH_NOT_FOUND|FileNotFoundException|UnsupportedFileSystem|ClassNotFoundException", message):
        return absent(path)
    return f"cannot list {path}: {message.strip().splitlines()[0]}"


class Log:
    """The files that one source of one flow is handed.

    A path in the log carries the number of its source and, where files may be overwritten, the version of the file,
    as a query (`a.json?1.1700000000000`). Spark keeps it in the checkpoint and opens the file without it, so sources
    of one flow over the same folder, and versions of one file, are told apart.
    """

    def __init__(self, storage: Storage, parts: Sequence[str], number: int, *, versions: bool):
        """Args:
        parts: of the log's folder.
        number: of the source in its flow.
        versions: a file that was changed is another one.
        """
        self._storage = storage
        self._parts = parts
        self._number = number
        self._versions = versions

    @property
    def folder(self) -> str:
        return self._storage.path(*self._parts)

    def mark(self, file: File) -> str:
        return f"{self._number}.{file.modified}" if self._versions else str(self._number)

    def write(self, files: Iterable[File]) -> None:
        """Replaces the files of the log, in the format of Spark's `FileStreamSinkLog`."""
        # All have the time of their discovery: Spark passes over files that are a week older than the newest.
        now = int(time.time() * 1000)
        entries = (
            {
                "path": f"{f.url}?{self.mark(f)}",
                "size": f.size,
                "isDir": False,
                "modificationTime": now,
                "blockReplication": 1,
                "blockSize": 1,
                "action": "add",
            }
            for f in files
        )
        text = "\n".join(["v1", *(json.dumps(e) for e in entries)])
        self._storage.write_text(text, *self._parts, "_spark_metadata", "0")


def taken(storage: Storage, flow: str) -> dict[tuple[str, str], bool]:
    """The files that the stream of a flow has taken into batches: (path, mark) -> whether that batch has ended.

    The files of a batch that was begun and not ended will be read again by Spark, which keeps them itself.
    """
    checkpoint = ("checkpoints", flow)
    ended = max((int(n) for n in storage.names(*checkpoint, "commits") if n.isdigit()), default=None)
    done: list[int] = []
    if ended is not None:
        # A version, the batch's settings, then one offset a source.
        offsets = (storage.read_text(*checkpoint, "offsets", str(ended)) or "").splitlines()[2:]
        done = [json.loads(o).get("logOffset", -1) if o.startswith("{") else -1 for o in offsets]
    files: dict[tuple[str, str], bool] = {}
    for source in storage.names(*checkpoint, "sources"):
        last = done[int(source)] if source.isdigit() and int(source) < len(done) else -1
        for entry in _entries(storage, (*checkpoint, "sources", source)):
            path, _, mark = entry["path"].partition("?")
            # two sources of one flow may share a log; what one of them has not ended is not ended
            files[plain(path), mark] = files.get((plain(path), mark), True) and entry["batchId"] <= last
    return files


def _entries(storage: Storage, folder: Sequence[str]) -> Iterable[Mapping[str, Any]]:
    """The lines of Spark's log of a file source: its last compaction and what came after."""
    names = [n for n in storage.names(*folder) if n.removesuffix(".compact").isdigit()]
    compacted = max((int(n.removesuffix(".compact")) for n in names if n.endswith(".compact")), default=-1)
    for name in names:
        number = int(name.removesuffix(".compact"))
        if number > compacted or (number == compacted and name.endswith(".compact")):
            for line in (storage.read_text(*folder, name) or "").splitlines():
                if line.startswith("{"):
                    yield json.loads(line)


class Heads:
    """Reads the beginnings of files, several at once, whatever file system and compression they have."""

    def __init__(self, spark: SparkSession):
        self._jvm = spark._jvm
        self._configuration = spark._jsparkSession.sessionState().newHadoopConf()

    def read(self, files: Collection[File], parse: Callable[[bytes], Any]) -> dict[str, Any]:
        """What `parse` makes of the first bytes of each file, None where the file cannot be opened."""
        with ThreadPoolExecutor(max_workers=8) as pool:
            heads = pool.map(lambda file: self._head(file.url, parse), files)
            return dict(zip((f.path for f in files), heads, strict=True))

    def _head(self, of: str, parse: Callable[[bytes], Any]) -> Any:
        path = self._jvm.org.apache.hadoop.fs.Path(self._jvm.java.net.URI(of))
        codecs = self._jvm.org.apache.hadoop.io.compress.CompressionCodecFactory(self._configuration)
        try:
            stream = path.getFileSystem(self._configuration).open(path)
            try:
                codec = codecs.getCodec(path)
                opened = stream if codec is None else codec.createInputStream(stream)
                return parse(bytes(opened.readNBytes(_HEAD)))
            finally:
                stream.close()
        except Py4JJavaError:
            return None
