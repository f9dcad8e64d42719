"""A table to ingest, and the two forms, MySQL's and Spark's, of the hash and the checksum that compare them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

HASH = "_row_hash"
# Neither occurs in text that people write: the unit separator between columns, the record separator for NULL.
_SEPARATOR, _NULL = 31, 30


@dataclass(frozen=True)
class Totals:
    """What two sides must agree on: the number of rows and a sum over them that does not depend on their order."""

    rows: int
    checksum: Decimal


@dataclass(frozen=True)
class Window:
    """The rows with `low < cursor <= high`, UTC; None for `low` is from the beginning, for `high` without an end."""

    low: datetime | None = None
    high: datetime | None = None


@dataclass(frozen=True)
class Table:
    """A table of the source.

    Attributes:
        name: in the database, and of its folder in the landing zone.
        key: the primary key, hexadecimal text that is evenly spread, such as a UUID.
        columns: name → Spark type of what is landed, with the key, without the cursor.
        cursor: the column that the server sets to its clock at every change; None where there is no such column.
    """

    name: str
    key: str
    columns: Mapping[str, str]
    cursor: str | None = "updated_at"

    def __post_init__(self) -> None:
        for name in (self.name, *self.names):
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"{name!r} is not a plain identifier")

    @property
    def names(self) -> tuple[str, ...]:
        """Every column that must be there."""
        return (*self.columns, self.cursor) if self.cursor else tuple(self.columns)

    @property
    def schema(self) -> T.StructType:
        """What is read: the columns, the cursor, the hash."""
        cursor = f", {self.cursor} TIMESTAMP" if self.cursor else ""
        columns = ", ".join(f"{name} {kind}" for name, kind in self.columns.items())
        return T.StructType.fromDDL(f"{columns}{cursor}, {HASH} STRING")

    def mysql_hash(self) -> str:
        """MD5 over the columns in their order, as text, as MySQL computes it."""
        null = f"CHAR({_NULL} USING utf8mb4)"
        parts = ", ".join(f"IFNULL(CAST(`{name}` AS CHAR CHARACTER SET utf8mb4), {null})" for name in self.columns)
        return f"MD5(CONCAT_WS(CHAR({_SEPARATOR} USING utf8mb4), {parts}))"

    def spark_hash(self) -> Column:
        """The same, computed again from what Spark has read."""
        parts = [F.coalesce(F.col(name).cast("string"), F.lit(chr(_NULL))) for name in self.columns]
        return F.md5(F.concat_ws(chr(_SEPARATOR), *parts))

    def mysql_totals(self) -> str:
        """Select list of a `Totals` in MySQL; 60 bits of each hash, and the cursor in microseconds so that a shifted
        time zone is seen too."""
        cursor = f" + TIMESTAMPDIFF(MICROSECOND, '1970-01-01', `{self.cursor}`)" if self.cursor else ""
        hashed = f"CAST(CONV(LEFT({self.mysql_hash()}, 15), 16, 10) AS UNSIGNED)"
        return f"COUNT(*), COALESCE(SUM({hashed}{cursor}), 0)"

    def spark_totals(self, hash_column: Column) -> list[Column]:
        """The same in Spark, named `rows` and `checksum`."""
        number = F.conv(F.substring(hash_column, 1, 15), 16, 10).cast("decimal(20,0)")
        if self.cursor:
            number = number + F.unix_micros(self.cursor)
        return [F.count(F.lit(1)).alias("rows"), F.coalesce(F.sum(number), F.lit(0)).alias("checksum")]

    def condition(self, window: Window) -> str:
        """The window as a condition in MySQL."""
        bounds = [(">", window.low), ("<=", window.high)]
        return " AND ".join(f"`{self.cursor}` {sign} '{t:%Y-%m-%d %H:%M:%S.%f}'" for sign, t in bounds if t) or "TRUE"
