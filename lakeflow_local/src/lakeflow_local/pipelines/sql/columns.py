"""The list between a dataset's name and its clauses: columns, expectations, keys."""

from __future__ import annotations

import dataclasses

from lakeflow_local.pipelines.graph import Action, Column, Dataset, Expectation, ForeignKey, PrimaryKey
from lakeflow_local.pipelines.sql.cursor import Cursor

_COLUMN_CLAUSES = (
    "NOT", "NULL", "COMMENT", "GENERATED", "DEFAULT", "MASK", "CONSTRAINT", "PRIMARY", "FOREIGN", "REFERENCES",
    "UNIQUE", ",", ")",
)  # fmt: skip
_AFTER_TYPE = ("", ",", ")", "(", "<", "NOT", "COMMENT", "GENERATED", "DEFAULT", "MASK")
# Informational, like the keys themselves: they change nothing here.
_KEY_OPTIONS = (
    ("NOT", "ENFORCED"), ("NORELY",), ("DEFERRABLE",), ("NOT", "DEFERRABLE"), ("INITIALLY", "DEFERRED"),
    ("INITIALLY", "IMMEDIATE"), ("MATCH", "FULL"), ("ON", "UPDATE", "NO", "ACTION"), ("ON", "DELETE", "NO", "ACTION"),
    ("ENABLE",), ("DISABLE",), ("VALIDATE",), ("NOVALIDATE",),
)  # fmt: skip


def read_columns(cursor: Cursor, dataset: Dataset, what: str) -> Dataset:
    """The dataset with its columns, expectations and keys. `what` names its kind, for errors."""
    columns: list[Column] = []
    expectations: dict[str, Expectation] = {}
    primary_keys: list[PrimaryKey] = []
    foreign_keys: list[ForeignKey] = []
    # Databricks' grammar has no comma before CONSTRAINT … EXPECT.
    for _ in cursor.items(what, also="CONSTRAINT"):
        # CONSTRAINT may also be a column's name.
        named = cursor.word() == "CONSTRAINT" and cursor.word(2) not in _AFTER_TYPE
        if named:
            cursor.index += 1
            constraint: str | None = cursor.identifier(after="CONSTRAINT")
        else:
            constraint = None
        if named and cursor.word() == "EXPECT":
            expectation = _expectation(cursor, str(constraint))
            if expectation.name in expectations:
                cursor.fail(f"the expectation {expectation.name} is declared twice")
            expectations[expectation.name] = expectation
        elif cursor.at_words("PRIMARY", "KEY", "(") or (named and cursor.at_words("PRIMARY", "KEY")):
            primary_keys.append(_primary_key(cursor, constraint))
        elif cursor.at_words("FOREIGN", "KEY", "(") or (named and cursor.at_words("FOREIGN", "KEY")):
            foreign_keys.append(_foreign_key(cursor, constraint))
        elif cursor.at_words("UNIQUE", "("):
            cursor.index += 1
            cursor.columns("UNIQUE")
            _key_options(cursor)
        elif named:
            cursor.fail(
                f"expected EXPECT after CONSTRAINT {constraint}; found {cursor.shown()} "
                "(only EXPECT, PRIMARY KEY, FOREIGN KEY and UNIQUE constraints exist in pipelines)"
            )
        elif cursor.at_words("EXPECT", "("):
            cursor.fail("expected CONSTRAINT name before EXPECT")
        else:
            column = _column_definition(cursor, primary_keys, foreign_keys)
            if any(column.name.lower() == other.name.lower() for other in columns):
                cursor.fail(f"the column {column.name} is declared twice")
            columns.append(column)
    if len(primary_keys) > 1:
        cursor.fail(f"{dataset.name} has two primary keys")
    return dataclasses.replace(
        dataset,
        columns=tuple(columns),
        expectations=tuple(expectations.values()),
        primary_key=primary_keys[0] if primary_keys else None,
        foreign_keys=tuple(foreign_keys),
    )


def _expectation(cursor: Cursor, name: str) -> Expectation:
    cursor.expect("EXPECT", after=f"CONSTRAINT {name}")
    predicate = cursor.group(after="EXPECT")
    action = Action.WARN
    if cursor.accept("ON", "VIOLATION"):
        if cursor.accept("DROP", "ROW"):
            action = Action.DROP
        elif cursor.accept("FAIL", "UPDATE"):
            action = Action.FAIL
        else:
            cursor.fail(f"expected DROP ROW or FAIL UPDATE after ON VIOLATION; found {cursor.shown()}")
    return Expectation(name, predicate, action)


def _key_options(cursor: Cursor) -> bool:
    """Reads the options of a key; whether RELY is among them."""
    rely = False
    while True:
        if cursor.accept("RELY"):
            rely = True
        elif not any(cursor.accept(*option) for option in _KEY_OPTIONS):
            return rely


def _primary_key(cursor: Cursor, name: str | None) -> PrimaryKey:
    cursor.expect("PRIMARY", "KEY", after="the columns")
    columns: list[str] = []
    for _ in cursor.items("PRIMARY KEY"):
        columns.append(cursor.identifier(after="PRIMARY KEY ("))
        cursor.accept("TIMESERIES")
    return PrimaryKey(tuple(columns), name, _key_options(cursor))


def _foreign_key(cursor: Cursor, name: str | None) -> ForeignKey:
    cursor.expect("FOREIGN", "KEY", after="the columns")
    return _references(cursor, name, cursor.columns("FOREIGN KEY"))


def _references(cursor: Cursor, name: str | None, columns: tuple[str, ...]) -> ForeignKey:
    cursor.expect("REFERENCES", after=f"FOREIGN KEY ({', '.join(columns)})")
    target = cursor.name(after="REFERENCES")
    referenced = cursor.columns("REFERENCES") if cursor.word() == "(" else ()
    return ForeignKey(columns, target, referenced, name, _key_options(cursor))


def _column_definition(cursor: Cursor, primary_keys: list[PrimaryKey], foreign_keys: list[ForeignKey]) -> Column:
    name = cursor.identifier(after="( or ,")
    low = cursor.index
    cursor.skip_until(lambda: cursor.word() in _COLUMN_CLAUSES, angles=True)
    column = Column(name, cursor.line_of(low, cursor.index) or None)
    while cursor.word() not in (",", ")"):
        constraint = None
        if cursor.word() == "CONSTRAINT" and cursor.word(2) == "EXPECT":
            break
        if cursor.accept("CONSTRAINT"):
            constraint = cursor.identifier(after="CONSTRAINT")
        if cursor.accept("NOT", "NULL"):
            column = dataclasses.replace(column, not_null=True)
        elif cursor.accept("NULL"):
            column = dataclasses.replace(column, not_null=False)
        elif cursor.accept("COMMENT"):
            column = dataclasses.replace(column, comment=cursor.string(after="COMMENT"))
        elif cursor.accept("GENERATED"):
            column = dataclasses.replace(column, generated=_generated(cursor))
        elif cursor.accept("DEFAULT"):
            default = cursor.skip_until(lambda: cursor.word() in _COLUMN_CLAUSES and cursor.word() != "NULL")
            column = dataclasses.replace(column, default=default or cursor.fail("expected a value after DEFAULT"))
        elif cursor.accept("MASK"):
            low = cursor.index
            cursor.parts(after="MASK")
            if cursor.accept("USING", "COLUMNS"):
                cursor.group(after="USING COLUMNS")
            column = dataclasses.replace(column, mask=cursor.text(low, cursor.index))
        elif cursor.accept("PRIMARY", "KEY"):
            primary_keys.append(PrimaryKey((name,), constraint, _key_options(cursor)))
        elif cursor.accept("UNIQUE"):
            _key_options(cursor)
        elif cursor.at_words("REFERENCES") or cursor.accept("FOREIGN", "KEY"):
            foreign_keys.append(_references(cursor, constraint, (name,)))
        else:
            cursor.fail(
                f"expected NOT NULL, COMMENT, GENERATED, DEFAULT, MASK, a key, a comma or ) after the column {name}; "
                f"found {cursor.shown()}"
            )
    return column


def _generated(cursor: Cursor) -> str:
    """The expression of GENERATED ALWAYS AS (…); for an identity column the text from `ALWAYS` or `BY DEFAULT` on."""
    low = cursor.index
    if not cursor.accept("BY", "DEFAULT"):
        cursor.expect("ALWAYS", after="GENERATED")
    cursor.expect("AS", after="GENERATED ALWAYS")
    if cursor.accept("IDENTITY"):
        if cursor.word() == "(":
            cursor.group(after="IDENTITY")
        return cursor.text(low, cursor.index)
    return cursor.group(after="GENERATED ALWAYS AS")
