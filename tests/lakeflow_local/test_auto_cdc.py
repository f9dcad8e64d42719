"""AUTO CDC against a model of what it means, and against what was measured on Databricks."""

from __future__ import annotations

import datetime
import itertools
import random
from collections import defaultdict
from dataclasses import dataclass, field, replace

import pytest
from delta.tables import DeltaMergeBuilder, DeltaTable
from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines import auto_cdc
from lakeflow_local.pipelines.auto_cdc import Counts, apply_batch, target_schema
from lakeflow_local.pipelines.graph import AutoCdc

CHANGES = "k INT, a STRING, b INT, seq INT, op STRING"
KEPT = AutoCdc(source="s", keys=("k",), sequence_by="seq", apply_as_deletes="op = 'D'", except_columns=("op",))
HIDDEN = replace(KEPT, except_columns=("op", "seq"))
HISTORY = replace(HIDDEN, scd_type=2)


@dataclass
class Target:
    """A target and its state, that batches are applied to."""

    spark: object
    cdc: AutoCdc
    name: str
    state: str
    schema: str = CHANGES

    def frame(self, rows):
        return self.spark.createDataFrame(rows, self.schema)

    def apply(self, rows) -> Counts:
        return apply_batch(self.spark, self.frame(rows), target=self.name, state=self.state, cdc=self.cdc)

    def rows(self, *columns: str) -> list[tuple]:
        found = self.spark.table(self.name).select(*columns or "*").collect()
        return sorted((tuple(row) for row in found), key=repr)

    def version(self) -> int:
        return DeltaTable.forName(self.spark, self.name).history(1).first()["version"]


_number = itertools.count()


@pytest.fixture
def make_target(spark, tmp_path):
    spark.sql("CREATE SCHEMA IF NOT EXISTS test_auto_cdc")

    def make(cdc: AutoCdc, schema: str = CHANGES, columns=None, properties=auto_cdc.TARGET_PROPERTIES) -> Target:
        name = f"spark_catalog.test_auto_cdc.t{next(_number)}"
        changes = spark.createDataFrame([], schema).schema
        ddl = columns or target_schema(changes, cdc, spark).toDDL()
        listed = ", ".join(f"'{key}' = '{value}'" for key, value in properties.items())
        spark.sql(f"CREATE TABLE {name} ({ddl}) USING delta" + (f" TBLPROPERTIES ({listed})" if listed else ""))
        made.append(name)
        return Target(spark, cdc, name, str(tmp_path / f"state{next(_number)}"), schema)

    made: list[str] = []
    yield make
    for name in made:
        spark.sql(f"DROP TABLE IF EXISTS {name}")


# The model: what the target of a set of events is, one key at a time.


def genuine(events) -> dict[int, dict[int, tuple | None]]:
    """key → sequence → content, None for a delete; a delete wins where there are both."""
    found: dict[int, dict[int, tuple | None]] = defaultdict(dict)
    for k, a, b, seq, op in events:
        if op == "D" or found[k].get(seq, ()) is None:
            found[k][seq] = None
        else:
            found[k][seq] = (a, b)
    return found


def lives(timeline: dict[int, tuple | None], sparse: bool):
    """The events of one key in order; where NULLs are ignored, with what each found already there."""
    before = (None, None)
    for seq in sorted(timeline):
        content = timeline[seq]
        if content is None:
            before = (None, None)
        elif sparse:
            content = before = tuple(old if new is None else new for new, old in zip(content, before, strict=True))
        yield seq, content


def model_current(events, *, sparse=False, truncated_at=None) -> list[tuple]:
    rows = []
    for key, timeline in genuine(events).items():
        *_, (seq, content) = lives(timeline, sparse)
        if content is not None and (truncated_at is None or seq > truncated_at):
            rows.append((key, *content, seq))
    return sorted(rows, key=repr)


def model_history(events, *, tracked=(0, 1), sparse=False) -> list[tuple]:
    rows = []
    for key, timeline in genuine(events).items():
        open_row, lived, deleted = None, False, False
        for seq, content in lives(timeline, sparse):
            if content is None:
                if open_row:
                    rows.append((key, *open_row[1], open_row[0], seq))
                elif lived and deleted:
                    rows.append((key, None, None, None, seq))
                open_row = None
            elif open_row and all(open_row[1][i] == content[i] for i in tracked):
                open_row = (open_row[0], content)
            else:
                if open_row:
                    rows.append((key, *open_row[1], open_row[0], seq))
                open_row = (seq, content)
            lived, deleted = lived or content is not None, content is None
        if open_row:
            rows.append((key, *open_row[1], open_row[0], None))
    return sorted(rows, key=repr)


def a_feed(rng: random.Random, keys: int = 120) -> list[tuple]:
    """Few values and few sequence numbers, so that runs, duplicates and deletes of every kind occur; one content a number."""
    feed = []
    for key in range(keys):
        for seq in rng.sample(range(1, 10), rng.randint(1, 7)):
            content = (rng.choice([None, "x", "y"]), rng.choice([None, 1]))
            kinds = rng.choice(["U", "U", "U", "U", "D", "UD"])
            feed += [(key, None, None, seq, "D") if kind == "D" else (key, *content, seq, "U") for kind in kinds]
    return feed


def some_batches(rng: random.Random, feed: list[tuple], count: int = 3) -> list[list[tuple]]:
    """The feed in any order, in batches, with duplicates inside and across them, and one batch that comes again."""
    events = feed + rng.choices(feed, k=len(feed) // 5)
    rng.shuffle(events)
    cuts = sorted(rng.sample(range(1, len(events)), count - 1))
    batches = [events[low:high] for low, high in zip([0, *cuts], [*cuts, len(events)], strict=True)]
    return [*batches, batches[0]]


class Killed(Exception):
    pass


def apply_with_kills(monkeypatch, rng: random.Random, target: Target, batches: list[list[tuple]]) -> None:
    """Applies the batches; some die between the write of the state and that of the target, or just after it, and come again."""
    execute = DeltaMergeBuilder.execute

    def dies_before(merge):
        raise Killed

    def dies_after(merge):
        execute(merge)
        raise Killed

    for batch in batches:
        kill = rng.choice([None, dies_before, dies_after])
        if kill:
            with monkeypatch.context() as patch, pytest.raises(Killed):
                patch.setattr(DeltaMergeBuilder, "execute", kill)
                target.apply(batch)
        target.apply(batch)


CASES = {
    "type 1, the target keeps the sequence": (KEPT, lambda feed: model_current(feed)),
    "type 1, the sequence is hidden": (HIDDEN, lambda feed: [row[:3] for row in model_current(feed)]),
    "type 1, NULLs are ignored": (
        replace(HIDDEN, ignore_null_updates=True),
        lambda feed: [row[:3] for row in model_current(feed, sparse=True)],
    ),
    "type 2": (HISTORY, lambda feed: model_history(feed)),
    "type 2, one column tracked": (replace(HISTORY, track_history=("a",)), lambda feed: model_history(feed, tracked=(0,))),
    "type 2, NULLs are ignored": (replace(HISTORY, ignore_null_updates=True), lambda feed: model_history(feed, sparse=True)),
}


@pytest.mark.parametrize("case", CASES)
def test_any_order_any_batches_and_any_kill_give_what_the_events_mean(case, make_target, monkeypatch):
    cdc, model = CASES[case]
    rng = random.Random(case)
    feed = a_feed(rng)
    target = make_target(cdc)
    apply_with_kills(monkeypatch, rng, target, some_batches(rng, feed))
    assert target.rows() == sorted(model(feed), key=repr)
