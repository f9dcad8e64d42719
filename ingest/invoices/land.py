"""`land-invoices`: reads invoices of any kind and puts them into the landing zone, one JSON document a line."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from ingest import cli
from ingest.errors import IngestError, TransientError, explained
from ingest.invoices import contract, generator, readers
from ingest.invoices.contract import Document

log = logging.getLogger("ingest")

_SECONDS_BETWEEN_REPORTS = 5.0


@dataclass(frozen=True)
class Landed:
    """A file of the landing zone and how many documents it holds."""

    file: str
    documents: int

    def __str__(self) -> str:
        return f"{self.documents} documents in {self.file}"


def land(spark: SparkSession, documents: Iterable[Document], landing_url: str, *, name: str, day: date) -> Landed:
    """Writes one file, `invoices/ingest_date=DAY/NAME-HASH.json`, under `landing_url`.

    The hash is of the content: the same documents make the same file, which is then left as it is, and others make
    another one, since what reads the landing zone takes no second look at a path. Nobody sees half a file.

    Args:
        spark: its file systems are used, so it must be a classic session and know the scheme of the URL.
        documents: by the landing contract; at least one.
        name: what the file's name begins with.

    Raises:
        IngestError: there is no document, or the landing zone cannot be written.
    """
    documents = list(documents)
    if not documents:
        raise IngestError("there is no document to land; give a larger number or a file")
    file, content = _file(documents, landing_url, "invoices", name=name, day=day)
    with _explained(landing_url):
        _write_once(spark, content, file)
    return Landed(file, len(documents))


@dataclass(frozen=True)
class Summary:
    """What became of the files of a folder: `found` is `read` and `refused` together.

    Attributes:
        repeated: files with the content of another one of the folder, or of one that landed before.
        documents: that this run landed.
    """

    found: int
    read: int
    refused: int
    repeated: int
    documents: int

    def __str__(self) -> str:
        return (
            f"{self.found} files found: {self.read} read, {self.refused} refused; {self.repeated} of them repeated; "
            f"{self.documents} documents landed"
        )


def land_folder(spark: SparkSession, folder: str, landing_url: str, *, day: date) -> Summary:
    """Reads every file of a folder and what is below it, and lands what it says.

    The documents of a file land as `invoices/ingest_date=DAY/document-HASH.json`. A file that cannot be read lands
    nothing there but `invoices_refused/ingest_date=DAY/refused-HASH.json`: its path in the folder, the SHA-256 of its
    bytes, which reader gave up and why. The hash is of what is landed, and nothing lands twice, on whichever day. Files
    whose names begin with a dot or an underscore are passed over.

    Args:
        spark: as for `land`; its file systems reach both folders.
        folder: on disk or in an object store.

    Raises:
        IngestError: the folder does not exist or the landing zone cannot be written; or, after all others have landed,
            some files cannot be opened.
    """
    with _explained(folder):
        paths = sorted(_files(spark, folder))
    with _explained(landing_url):
        landed = {
            kind: _landed_names(spark, f"{landing_url.rstrip('/')}/{kind}") for kind in ("invoices", "invoices_refused")
        }
    seen: set[str] = set()
    refused = repeated = documents = 0
    unopened: list[str] = []
    reported = time.monotonic()
    for position, (name, path) in enumerate(paths, start=1):
        try:
            content = _bytes(spark, path)
        except (Py4JJavaError, PySparkException) as error:
            if isinstance(fault := explained(error, landing=folder), TransientError):
                raise fault from None
            unopened.append(name)
            continue
        digest = hashlib.sha256(content).hexdigest()
        try:
            kind, prefix, found = "invoices", "document", readers.read(content, source_file=name)
        except readers.Refused as refusal:
            refused += 1
            reason = {"file": name, "sha256": digest, "reader": refusal.reader, "reason": refusal.reason}
            kind, prefix, found = "invoices_refused", "refused", [reason]
        file, line = _file(found, landing_url, kind, name=prefix, day=day)
        if digest in seen or file.rsplit("/", 1)[1] in landed[kind]:
            repeated += 1
        else:
            with _explained(landing_url):
                _write_once(spark, line, file)
            documents += len(found) if kind == "invoices" else 0
        seen.add(digest)
        if time.monotonic() - reported > _SECONDS_BETWEEN_REPORTS:
            reported = time.monotonic()
            log.info("%d of %d files read, %d of them refused", position, len(paths), refused)
    opened = len(paths) - len(unopened)
    summary = Summary(opened, opened - refused, refused, repeated, documents)
    log.info("%s", summary)
    if unopened:
        raise IngestError(
            f"{len(unopened)} of {len(paths)} files of {folder} cannot be opened, the first is {unopened[0]}; check"
            " that it is whole and that you may read it, and run again: what else there was has landed"
        )
    return summary


def _file(rows: Iterable[dict[str, Any]], landing_url: str, kind: str, *, name: str, day: date) -> tuple[str, bytes]:
    """The path and the content of a file of the landing zone."""
    lines = (json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
    content = "".join(f"{line}\n" for line in lines).encode()
    folder = f"{landing_url.rstrip('/')}/{kind}/ingest_date={day}"
    return f"{folder}/{name}-{hashlib.sha256(content).hexdigest()[:16]}.json", content


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except (Py4JJavaError, PySparkException) as error:
        if "FileNotFoundException" in str(error):
            raise IngestError(f"there is no folder {url}; correct the path") from None
        raise explained(error, landing=url) from None


def _files(spark: SparkSession, folder: str) -> Iterator[tuple[str, Any]]:
    """(path within the folder, Hadoop's path) of each file."""
    root = spark._jvm.org.apache.hadoop.fs.Path(folder)
    files = root.getFileSystem(spark._jsc.hadoopConfiguration())
    base = files.getFileStatus(root).getPath().toString().rstrip("/")
    entries = files.listFiles(root, True)
    while entries.hasNext():
        path = entries.next().getPath()
        name = path.toString().removeprefix(base).lstrip("/") or path.getName()
        if not any(part.startswith((".", "_")) for part in name.split("/")):
            yield name, path


def _bytes(spark: SparkSession, path: Any) -> bytes:
    stream = path.getFileSystem(spark._jsc.hadoopConfiguration()).open(path)
    try:
        # One byte more than is read tells that the file is too large.
        return bytes(stream.readNBytes(readers.MAX_BYTES + 1))
    finally:
        stream.close()


def _landed_names(spark: SparkSession, folder: str) -> set[str]:
    pattern = spark._jvm.org.apache.hadoop.fs.Path(f"{folder}/ingest_date=*/*.json")
    found = pattern.getFileSystem(spark._jsc.hadoopConfiguration()).globStatus(pattern)
    return {status.getPath().getName() for status in found or ()}


def _write_once(spark: SparkSession, content: bytes, file: str) -> None:
    hadoop = spark._jvm.org.apache.hadoop.fs
    target = hadoop.Path(file)
    files = target.getFileSystem(spark._jsc.hadoopConfiguration())
    if files.exists(target):
        return
    # Readers skip names that begin with a dot. On S3 the rename is a copy of one small object.
    unfinished = hadoop.Path(target.getParent(), f".{target.getName()}.{uuid.uuid4().hex}")
    stream = files.create(unfinished, True)
    try:
        stream.write(bytearray(content))
    finally:
        stream.close()
    if not files.rename(unfinished, target):
        files.delete(unfinished, False)
        if not files.exists(target):
            raise IngestError(f"{file} cannot be written; check the rights to write there")


def read(file: Path) -> Document:
    """The document of a JSON file.

    Raises:
        IngestError: the file cannot be read, or its document is not one of the landing contract.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise IngestError(f"{file}: {error.strerror}; give a JSON file with one document") from None
    except ValueError as error:
        raise IngestError(f"{file} is not JSON in UTF-8: {error}; give a file with one document") from None
    except RecursionError:
        raise IngestError(f"{file} is nested too deeply; give a file with one document") from None
    if problems := contract.problems(document):
        raise IngestError(f"{file} does not follow the landing contract: {'; '.join(problems)}; correct the file")
    return document


def run(argv: Sequence[str], spark: SparkSession | None = None) -> list[Landed | Summary]:
    """Lands what the options say.

    Args:
        argv: the options of `land-invoices`.
        spark: None is the active session, or the one that the environment gives.

    Raises:
        IngestError: with one line for the user.
        SystemExit: code 2 after a wrong option.
    """
    return _run(_parse(argv), spark)


def main() -> None:
    """The entry point; exit code 0, 2 after a wrong option, else those of `cli.command`."""
    cli.main(_parse, lambda options: "\n".join(map(str, _run(options))))


def _run(options: argparse.Namespace, spark: SparkSession | None = None) -> list[Landed | Summary]:
    batches = [(file.stem, [read(file)]) for file in options.fixture]
    if options.generate:
        try:
            documents = list(generator.documents(options.generate, seed=options.seed, as_of=options.as_of))
        except ValueError as error:
            raise IngestError(str(error)) from None
        batches.append((f"generated-{options.seed}", documents))
    spark = spark or SparkSession.builder.getOrCreate()
    results: list[Landed | Summary] = [
        land(spark, documents, options.landing_url, name=name, day=options.as_of) for name, documents in batches
    ]
    if options.folder:
        results.append(land_folder(spark, options.folder, options.landing_url, day=options.as_of))
    return results


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="land-invoices",
        description="Lands invoice documents as JSON lines; what has landed does not land again.",
    )
    parser.add_argument("--landing-url", required=True, help="folder that files land in, such as s3://bucket/prefix")
    parser.add_argument(
        "--from",
        dest="folder",
        metavar="FOLDER",
        help="folder on disk or in S3 with invoices of any kind: UBL and CII in XML, PDF, JSON",
    )
    parser.add_argument(
        "--fixture",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="JSON files, one document in each",
    )
    parser.add_argument("--generate", type=cli.at_least(1), metavar="N", help="documents to make up")
    parser.add_argument("--seed", type=int, default=1, help="another one makes up others (%(default)s)")
    parser.add_argument(
        "--as-of",
        type=date.fromisoformat,
        default=datetime.now(UTC).date(),
        help="day of landing, and the last one of made-up documents, YYYY-MM-DD (today in UTC)",
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    options = parser.parse_args(argv)
    if not (options.folder or options.fixture or options.generate):
        parser.error("nothing to land: give --from FOLDER, --fixture FILE or --generate N")
    return options
