"""Members into MySQL: a staging table, then one transaction, so that a repeat or a retried task changes nothing."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from mysql.connector.abstracts import MySQLConnectionAbstract, MySQLCursorAbstract
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ingest.errors import explained
from ingest.members.table import DDL, MEMBERS
from ingest.source import Source


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
    if "_op" not in frame.columns:
        frame = frame.withColumn("_op", F.lit("U"))
    connection = source.connect()
    try:
        with source.readable_errors(), connection.cursor() as cursor:
            cursor.execute(DDL)
            columns = ", ".join(MEMBERS.columns)
            cursor.execute(f"CREATE TABLE {staging} AS SELECT {columns}, 'U' AS _op FROM members LIMIT 0")
        try:
            _stage(frame, source, staging)
            with source.readable_errors(), connection.cursor() as cursor:
                return _merge(connection, cursor, staging)
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
        raise explained(error, source=source) from error


def _merge(connection: MySQLConnectionAbstract, cursor: MySQLCursorAbstract, staging: str) -> Loaded:
    def number(query: str) -> int:
        cursor.execute(query)
        return cursor.fetchone()[0]

    names = [*MEMBERS.columns]
    joined = f"members m JOIN {staging} s ON s.member_id = m.member_id"
    same = " AND ".join(f"m.{name} <=> s.{name}" for name in names)
    updated = number(f"SELECT COUNT(DISTINCT m.member_id) FROM {joined} WHERE s._op = 'U' AND NOT ({same})")
    before = number("SELECT COUNT(*) FROM members")
    cursor.execute(
        f"INSERT INTO members ({', '.join(names)}) SELECT {', '.join(f's.{name}' for name in names)} "
        f"FROM {staging} s WHERE s._op = 'U' "
        f"ON DUPLICATE KEY UPDATE {', '.join(f'{name} = s.{name}' for name in names[1:])}"
    )
    after = number("SELECT COUNT(*) FROM members")
    cursor.execute(f"DELETE m FROM {joined} WHERE s._op = 'D'")
    deleted = cursor.rowcount
    connection.commit()
    return Loaded(inserted=after - before, updated=updated, deleted=deleted, total=after - deleted)
