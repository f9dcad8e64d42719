"""Members into MySQL: a staging table, then one transaction, so that a repeat or a retried task changes nothing."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from ingest.errors import explained
from ingest.members.table import DDL, MEMBERS
from ingest.source import Source

log = logging.getLogger("ingest")


@dataclass(frozen=True)
class Loaded:
    """Rows that the table gained, changed, lost and has."""

    inserted: int
    updated: int
    deleted: int
    total: int


def load(frame: DataFrame, source: Source) -> Loaded:
    """Writes the rows into the table `members`, which is made if it is missing.

    A row that says nothing new keeps its `updated_at`. Tasks write to a staging table of this call's own, where a row
    that a retried task wrote twice does no harm.

    Args:
        frame: the nine columns and, for deletes, `_op`: `U` writes a row, `D` deletes the one of its `member_id`.

    Raises:
        IngestError: the database cannot be reached or refuses; it is then as it was before.
    """
    staging = f"members_staging_{uuid.uuid4().hex[:12]}"
    names = [*MEMBERS.columns]
    listed = ", ".join(names)
    with_op = "_op" in frame.columns
    connection = source.connect()
    try:
        with source.readable_errors(), connection.cursor() as cursor:
            cursor.execute(DDL)
            op = ", 'U' AS _op" if with_op else ""
            cursor.execute(f"CREATE TABLE {staging} AS SELECT {listed}{op} FROM members LIMIT 0")
        try:
            _stage(frame, source, staging)
            with source.readable_errors(), connection.cursor() as cursor:
                return _merge(connection, cursor, staging, names, with_op)
        finally:
            with source.readable_errors(), connection.cursor() as cursor:
                connection.rollback()
                cursor.execute(f"DROP TABLE IF EXISTS {staging}")
    finally:
        connection.close()


def _stage(frame: DataFrame, source: Source, staging: str) -> None:
    options = source.jdbc_options() | {"dbtable": staging, "batchsize": "5000"}
    try:
        frame.write.format("jdbc").options(**options).mode("append").save()
    except Exception as error:
        if not isinstance(error, PySparkException) and "Py4J" not in type(error).__name__:
            raise
        raise explained(error, source=source) from None


def _merge(connection, cursor, staging: str, names: list[str], with_op: bool) -> Loaded:
    same = " AND ".join(f"m.{name} <=> s.{name}" for name in names)
    upserts = "WHERE s._op = 'U'" if with_op else ""
    assignments = ", ".join(f"{name} = s.{name}" for name in names[1:])
    cursor.execute(
        f"SELECT COUNT(DISTINCT m.member_id) FROM members m JOIN {staging} s ON s.member_id = m.member_id "
        f"{upserts or 'WHERE TRUE'} AND NOT ({same})"
    )
    (updated,) = cursor.fetchone()
    cursor.execute("SELECT COUNT(*) FROM members")
    (before,) = cursor.fetchone()
    cursor.execute(
        f"INSERT INTO members ({', '.join(names)}) SELECT {', '.join(f's.{n}' for n in names)} FROM {staging} s {upserts} "
        f"ON DUPLICATE KEY UPDATE {assignments}"
    )
    deleted = 0
    cursor.execute("SELECT COUNT(*) FROM members")
    (after,) = cursor.fetchone()
    if with_op:
        cursor.execute(
            f"DELETE m FROM members m JOIN {staging} s ON s.member_id = m.member_id WHERE s._op = 'D'"
        )
        deleted = cursor.rowcount
    connection.commit()
    return Loaded(inserted=after - before, updated=updated, deleted=deleted, total=after - deleted)
