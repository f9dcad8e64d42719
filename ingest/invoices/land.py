"""`land-invoices`: puts invoice documents into the landing zone, one JSON document a line."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from ingest import cli
from ingest.errors import IngestError, explained
from ingest.invoices import contract, generator
from ingest.invoices.contract import Document


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
    lines = [json.dumps(document, ensure_ascii=False, separators=(",", ":")) for document in documents]
    if not lines:
        raise IngestError("there is no document to land; give a larger number or a file")
    content = "".join(f"{line}\n" for line in lines).encode()
    folder = f"{landing_url.rstrip('/')}/invoices/ingest_date={day}"
    file = f"{folder}/{name}-{hashlib.sha256(content).hexdigest()[:16]}.json"
    try:
        _write_once(spark, content, file)
    except (Py4JJavaError, PySparkException) as error:
        raise explained(error, landing=landing_url) from None
    return Landed(file, len(lines))


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
    if problems := contract.problems(document):
        raise IngestError(f"{file} does not follow the landing contract: {'; '.join(problems)}; correct the file")
    return document


def run(argv: Sequence[str], spark: SparkSession | None = None) -> list[Landed]:
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
    """The entry point; exit code 0, or 1 with one line on stderr, or 2 after a wrong option."""
    options = _parse(sys.argv[1:])
    cli.command(lambda: "\n".join(map(str, _run(options))), run_id=uuid.uuid4().hex, show_traceback=options.traceback)


def _run(options: argparse.Namespace, spark: SparkSession | None = None) -> list[Landed]:
    batches = [(file.stem, [read(file)]) for file in options.fixture]
    if options.generate:
        try:
            documents = list(generator.documents(options.generate, seed=options.seed, as_of=options.as_of))
        except ValueError as error:
            raise IngestError(str(error)) from None
        batches.append((f"generated-{options.seed}", documents))
    spark = spark or SparkSession.builder.getOrCreate()
    return [land(spark, documents, options.landing_url, name=name, day=options.as_of) for name, documents in batches]


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="land-invoices",
        description="Lands invoice documents as JSON lines; the same documents on the same day land once.",
    )
    parser.add_argument("--landing-url", required=True, help="folder that files land in, such as s3://bucket/prefix")
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
    if not (options.fixture or options.generate):
        parser.error("nothing to land: give --fixture FILE or --generate N")
    return options
