"""A table to ingest, and the two forms, MySQL's and Spark's, of the hash and the checksum that compare them.

Every value leaves MySQL as text, in one form for each type that both sides write alike, and is cast in Spark. So a
value is hashed by MySQL as it is stored and by Spark as it lands, and no driver guesses at a type.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import ClassVar, cast

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

HASH = "_row_hash"
NUMBER = "_number"
"""What is summed of a row that was read: 60 bits of its hash and the cursor in microseconds."""
# Neither occurs in text that people write: the unit separator between columns, the record separator for NULL.
SEPARATOR, NULL = 31, 30

WHOLE = ("TINYINT", "SMALLINT", "INT", "BIGINT")
INEXACT = ("FLOAT", "DOUBLE")
"""Types whose text the two sides write differently: rows are checked as they arrive, and not once more in files."""

_TYPE = re.compile(rf"{'|'.join((*WHOLE, *INEXACT))}|STRING|BINARY|DATE|TIMESTAMP|TIMESTAMP_NTZ|DECIMAL\(\d+,\d+\)")
_MICROS = "TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00', `{}`)"


@dataclass(frozen=True)
class Totals:
    """What two sides must agree on: the number of rows and a sum over them that does not depend on their order.

    Attributes:
        checksum: None where only rows were counted.
        first, last: the least and greatest value of the first key column where it is a number, to split the read.
    """

    rows: int
    checksum: Decimal | None
    first: int | None = field(default=None, compare=False)
    last: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Window:
    """The rows with `low < cursor <= high`, UTC; None for `low` is from the beginning, for `high` without an end."""

    low: datetime | None = None
    high: datetime | None = None

    def __str__(self) -> str:
        return f"({self.low or 'beginning'}, {self.high or 'now'}]"


@dataclass(frozen=True)
class Drift:
    """What is done where the source differs from the declaration.

    Attributes:
        added: a column that is not declared: `fail`, `add` (it lands as well) or `ignore`.
        dropped: a declared column that is gone: `fail` or `ignore` (it lands as NULL).
        retyped: a column whose values the declared type may not hold: `fail` or `ignore` (a value that does not fit
            fails the run).
    """

    added: str = "ignore"
    dropped: str = "fail"
    retyped: str = "fail"

    ANSWERS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "added": ("fail", "add", "ignore"),
        "dropped": ("fail", "ignore"),
        "retyped": ("fail", "ignore"),
    }

    def __post_init__(self) -> None:
        for change, answers in self.ANSWERS.items():
            if getattr(self, change) not in answers:
                raise ValueError(f"drift.{change} must be one of {', '.join(answers)}")


@dataclass(frozen=True)
class Table:
    """A table of the source.

    Attributes:
        name: in the database.
        key: the columns of the primary key or of another unique one. Reads are split by the first: by its numbers, or
            by its first hexadecimal digits, which suits UUIDs.
        columns: name → Spark type of what is landed, with the key, without the cursor.
        cursor: the column that the server sets to its clock at every change; None where there is no such column.
        landing: the table's folder in the landing zone; its name if empty.
        drift: what is done where the source differs.
        absent: declared columns that the source does not have, which land as NULL.
        utf8: columns of text that MySQL stores as UTF-8, which it need not convert to hash them.
        cursor_nullable: whether rows may be without a cursor; those belong to the window that has no beginning.

    Raises:
        ValueError: a name that is no plain identifier, a type that cannot be landed, a key that is not declared.
    """

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, str]
    cursor: str | None = "updated_at"
    landing: str = ""
    drift: Drift = Drift()
    absent: frozenset[str] = frozenset()
    utf8: frozenset[str] = field(default=frozenset(), compare=False)
    cursor_nullable: bool = False

    def __post_init__(self) -> None:
        for name in (self.name, self.folder, *self.names):
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$]*", name):
                raise ValueError(f"{name!r} is not a plain identifier")
        for name, kind in self.columns.items():
            if not _TYPE.fullmatch(kind):
                raise ValueError(f"column {name} has the type {kind!r}, which cannot be landed")
        for name in self.key:
            if name not in self.columns:
                raise ValueError(f"the key {name!r} is not among the columns")
        if not self.key:
            raise ValueError("the key is empty")
        if self.cursor in self.columns:
            raise ValueError(f"the cursor {self.cursor!r} is landed anyway; leave it out of the columns")

    @property
    def spark_ddl(self) -> str:
        """The declared columns as Spark takes a schema in text."""
        return ", ".join(f"{name} {kind}" for name, kind in self.columns.items())

    @property
    def folder(self) -> str:
        """The table's folder in the landing zone."""
        return self.landing or self.name

    @property
    def names(self) -> tuple[str, ...]:
        """Every declared column, the cursor last."""
        return (*self.columns, self.cursor) if self.cursor else tuple(self.columns)

    @property
    def schema(self) -> T.StructType:
        """What is read: the columns, the cursor, the hash."""
        cursor = f", `{self.cursor}` TIMESTAMP" if self.cursor else ""
        columns = ", ".join(f"`{name}` {kind}" for name, kind in self.columns.items())
        return cast(T.StructType, T.StructType.fromDDL(f"{columns}{cursor}, {HASH} STRING"))

    @property
    def inexact(self) -> tuple[str, ...]:
        """Columns of the types `INEXACT`."""
        return tuple(name for name, kind in self.columns.items() if kind in INEXACT)

    @property
    def numbered(self) -> bool:
        """Whether the first key column is a whole number."""
        return self.columns[self.key[0]] in (*WHOLE, "DECIMAL(20,0)")

    def mysql_text(self, name: str, *, bare: bool = False) -> str:
        """A column's value as MySQL writes it; NULL for a date that no calendar has, such as 0000-00-00.

        Args:
            bare: leave text that is stored as UTF-8 as it is, which costs the server less than a cast.
        """
        if name in self.absent:
            return "NULL"
        if bare and name in self.utf8 and self.columns[name] == "STRING":
            # of a collation that is not binary, since DuckDB takes text of such a one for bytes
            return f"`{name}` COLLATE utf8mb4_general_ci"
        column, kind = f"`{name}`", self.columns[name]
        text = "CAST({} AS CHAR CHARACTER SET utf8mb4)"
        if kind in WHOLE or kind == "DECIMAL(20,0)":
            return text.format(f"{column} + 0")  # a number also of BIT, and without the zeros of ZEROFILL
        if kind in INEXACT:
            return text.format(f"{column} + 0e0")  # MySQL rounds the text of a FLOAT to six digits
        if kind == "BINARY":
            return f"HEX({column})"
        in_calendar = f"IF(MONTH({column}) = 0 OR DAY({column}) = 0, NULL, {{}})"
        if kind == "DATE":
            return in_calendar.format(text.format(column))
        if kind == "TIMESTAMP":
            return in_calendar.format(text.format(_MICROS.format(name)))
        if kind == "TIMESTAMP_NTZ":
            # %S and not %s, which mysql-connector would take for a parameter
            return in_calendar.format(f"DATE_FORMAT({column}, '%Y-%m-%d %H:%i:%S.%f')")
        return text.format(column)

    def spark_value(self, name: str) -> Column:
        """The value of the text that MySQL wrote, in the declared type."""
        kind = self.columns[name]
        if kind == "BINARY":
            return F.unhex(name)
        if kind == "TIMESTAMP":
            return F.timestamp_micros(F.col(name).cast("bigint"))
        return F.col(name).cast(kind)

    def _spark_text(self, name: str) -> Column:
        kind = self.columns[name]
        if kind == "BINARY":
            return F.hex(name)
        if kind == "TIMESTAMP":
            return F.unix_micros(name).cast("string")
        if kind == "TIMESTAMP_NTZ":
            return F.date_format(name, "yyyy-MM-dd HH:mm:ss.SSSSSS")
        if kind in INEXACT:
            return F.col(as_text(name))
        return F.col(name).cast("string")

    def mysql_cursor(self) -> str:
        """Microseconds since 1970, UTC; NULL without a cursor."""
        return _MICROS.format(self.cursor) if self.cursor else "NULL"

    def mysql_hash(self) -> str:
        """MD5 over the columns in their order, as text, as MySQL computes it."""
        # literals, since MariaDB computes CHAR(30) again for every row
        separator, null = (f"_utf8mb4 0x{code:02X}" for code in (SEPARATOR, NULL))
        texts = (
            f"`{name}`" if name in self.utf8 and self.columns[name] == "STRING" else self.mysql_text(name)
            for name in self.columns
        )
        parts = ", ".join(f"IFNULL({text}, {null})" for text in texts)
        return f"MD5(CONCAT_WS({separator}, {parts}))"

    def spark_hash(self) -> Column:
        """The same, computed again from what Spark has made of it, and from `as_text` of inexact columns."""
        parts = [F.coalesce(self._spark_text(name), F.lit(chr(NULL))) for name in self.columns]
        return F.md5(F.concat_ws(chr(SEPARATOR), *parts))

    def mysql_totals(self) -> str:
        """Select list of a `Totals` in MySQL; 60 bits of each hash, and the cursor in microseconds so that a shifted
        time zone is seen too."""
        cursor = f" + COALESCE({self.mysql_cursor()}, 0)" if self.cursor else ""
        hashed = f"CAST(CONV(LEFT({self.mysql_hash()}, 15), 16, 10) AS UNSIGNED)"
        return f"COUNT(*), COALESCE(SUM({hashed}{cursor}), 0), {self._ends()}"

    def mysql_count(self) -> str:
        """Select list of a `Totals` in MySQL without its checksum."""
        return f"COUNT(*), {self._ends()}"

    def _ends(self) -> str:
        first = f"`{self.key[0]}`" if self.numbered else "NULL"
        return f"MIN({first}), MAX({first})"

    def spark_number(self, hash_column: Column) -> Column:
        """`NUMBER` of a row; a delete, which has no hash, counts by its key."""
        keys = F.md5(F.concat_ws(chr(SEPARATOR), *(F.col(name).cast("string") for name in self.key)))
        number = F.conv(F.substring(F.coalesce(hash_column, keys), 1, 15), 16, 10).cast("bigint")
        return number + F.coalesce(F.unix_micros(self.cursor), F.lit(0)) if self.cursor else number

    def spark_totals(self, number: Column) -> list[Column]:
        """A `Totals` in Spark, named `rows` and `checksum`, of `spark_number` or `NUMBER`."""
        total = F.sum(number.cast("decimal(20,0)"))
        return [F.count(F.lit(1)).alias("rows"), F.coalesce(total, F.lit(0)).alias("checksum")]

    def condition(self, window: Window) -> str:
        """The window as a condition in MySQL."""
        bounds = [(">", window.low), ("<=", window.high)]
        condition = " AND ".join(
            f"`{self.cursor}` {sign} '{t:%Y-%m-%d %H:%M:%S.%f}'" for sign, t in bounds if t is not None
        )
        if condition and window.low is None and self.cursor_nullable:
            return f"({condition} OR `{self.cursor}` IS NULL)"
        return condition or "TRUE"


def as_text(name: str) -> str:
    """Where the text of an inexact column stands beside its value, until the row is written."""
    return f"_text_of_{name}"
