"""Pure functions of the members pipeline: DataFrame in, DataFrame out, the same for streams and batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial, reduce

import contacts
from columns import ARRIVAL, CHANGE, NORMALISED, SOURCE
from pyspark import cloudpickle
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from rules import CHECKS

# Workers do not have the folder of the pipeline on their path.
cloudpickle.register_pickle_by_value(contacts)


def normalised(changes: DataFrame, key: str) -> DataFrame:
    """What was written, as it is, and beside it what is compared and searched.

    A column that the source no longer writes is NULL, so that the rule of that column refuses the rows by its name.

    Args:
        changes: rows of bronze.
        key: the secret that pseudonyms are made with.

    Returns:
        the columns `SOURCE`, `CHANGE`, `ARRIVAL` and `NORMALISED`, and nothing else of `changes`.
    """
    present = {name.lower() for name in changes.columns}
    expected = {**SOURCE, **CHANGE, **ARRIVAL}
    columns = [
        F.col(name) if name.lower() in present else F.lit(None).cast(kind).alias(name)
        for name, kind in expected.items()
    ]
    read = changes.select(*columns).withColumn("_contact", contacts.contact(key))
    return read.select(*expected, *(F.col(f"_contact.{name}") for name in NORMALISED))


def failed_rules(rules: Mapping[str, str]) -> Column:
    """Names of the rules that a row breaks, as ARRAY<STRING>; a rule that is NULL counts as broken."""
    broken = [F.when(~F.coalesce(F.expr(predicate), F.lit(False)), F.lit(name)) for name, predicate in rules.items()]
    return F.array_compact(F.array(*broken))


def refused(changes: DataFrame, rules: Mapping[str, str]) -> DataFrame:
    """The rows that break a rule, with the names of the rules in `failed_rules`: exactly those not let through."""
    return changes.withColumn("failed_rules", failed_rules(rules)).where(F.size("failed_rules") > 0)


def not_total(frame: DataFrame, rules: Mapping[str, str]) -> list[str]:
    """Names of the rules that may be NULL for some row, as Spark's analyser derives from the predicates alone.

    Args:
        frame: has the columns of the predicates; its rows are not read.
    """
    nullable = frame.sparkSession.createDataFrame([], frame.schema.simpleString())
    judged = nullable.select(*(F.expr(predicate).alias(name) for name, predicate in rules.items()))
    return [field.name for field in judged.schema if field.nullable]


# Of the changes, those that came last are looked at, up to one in so many. The keys of all others have their turn on
# one day in so many, a prime, so that daily and weekly ingests both come to all of them.
LATEST, TURNS = 10, 13
_WORDS = 2**16
_BIT = "CAST(place & 63 AS INT)"


def checks(
    bronze: DataFrame, changes: DataFrame, quarantine: DataFrame, members: DataFrame, history: DataFrame
) -> DataFrame:
    """What no rule sees, since a rule sees one row: one row for each of `CHECKS`.

    Rows are counted in full. Grouping every key of every table would cost each update as much as there is, so keys and
    addresses are looked at that the last run of the ingest brought, and those before it up to a tenth of all changes
    (`LATEST`), and of the others those whose turn it is.

    Returns:
        `name`, `failed` and `evaluated`: how many rows or keys are at fault, of how many that were looked at.
    """
    looked = looked_at(changes, "member_id", "email_normalised")
    figures = _values(looked, changes, members, history).agg(
        *(F.expr(f"count_if({fault})").alias(name) for name, fault in _FIGURES.items()), F.sum("members").alias("rows")
    )
    for name, frame in {"arrived": bronze, "passed": changes, "refused": quarantine}.items():
        figures = figures.crossJoin(frame.agg(F.count(F.lit(1)).alias(name)))
    figures = figures.withColumn("nothing_lost", F.expr("abs(arrived - passed - refused)"))
    stacked = ", ".join(f"'{check.name}', coalesce({check.name}, 0L), coalesce({check.of}, 0L)" for check in CHECKS)
    return figures.selectExpr(f"stack({len(CHECKS)}, {stacked}) AS (name, failed, evaluated)")


# Which of `_values` count, in a check or as those that it looked at.
_FIGURES = {
    "known": "versions > 0",
    "addresses": "of_members > 0",
    "members_unique": "members > 1",
    "one_open_version": "open_versions > 1",
    "versions_in_order": "disordered",
    "current_is_open_version": "(members > 0) <> (open_versions > 0)",
    "no_orphans": "changes = 0 AND of_members = 0",
    "email_not_shared": "of_members > 1",
}


def looked_at(changes: DataFrame, *names: str) -> DataFrame:
    """Which values of some columns are looked at, as one set of bits of their hashes: `_word` and its 64 `_bits`.

    A set of bits, so that it can be broadcast however many values have arrived; who shares a bit is looked at too.
    """
    runs = changes.groupBy("_run_id").agg(F.count(F.lit(1)).alias("rows"), F.max("_source_file_time").alias("at"))
    last_first = Window.orderBy(F.desc("at"), "_run_id")
    run = F.coalesce("_run_id", F.lit("")).alias("run")
    runs = runs.select(
        run,
        F.unix_date(F.to_date("at")).alias("day"),
        F.row_number().over(last_first).alias("nth"),
        (F.sum("rows").over(last_first) * LATEST <= F.sum("rows").over(Window.partitionBy())).alias("few"),
    )
    latest = runs.agg(
        F.expr("collect_list(run) FILTER (WHERE nth = 1 OR few)").alias("runs"),
        F.expr("max(day) FILTER (WHERE nth = 1)").alias("day"),
    )
    # Whole words and rows of changes in one frame, so that the runs are worked out once for both.
    words = changes.sparkSession.range(_WORDS).select("id", *(F.lit(None).alias(name) for name in ("run", *names)))
    every = changes.select(F.lit(None).cast("bigint").alias("id"), run, *names).unionAll(words)
    taken = every.crossJoin(F.broadcast(latest)).where(f"array_contains(runs, run) OR id % {TURNS} = day % {TURNS}")
    hashes = F.when(F.col("id").isNull(), F.array(*map(F.xxhash64, names))).otherwise(F.array(F.col("id") * 64))
    places = taken.select("id", F.explode(hashes).alias("place"))
    bits = F.expr(f"if(id IS NULL, shiftleft(1L, {_BIT}), -1L)")
    return (
        places.select(_word("place").alias("_word"), bits.alias("_bit"))
        .groupBy("_word")
        .agg(F.expr("bit_or(_bit)").alias("_bits"))
    )


def among(looked: DataFrame, hashes: DataFrame) -> DataFrame:
    """The rows of a frame whose `place`, the hash of a value, is in such a set."""
    placed = hashes.withColumn("_word", _word("place"))
    return placed.join(F.broadcast(looked), "_word").where(f"getbit(_bits, {_BIT}) = 1")


def _word(place: str) -> Column:
    return F.pmod(F.shiftrightunsigned(place, 6), F.lit(_WORDS))


def _values(looked: DataFrame, changes: DataFrame, members: DataFrame, history: DataFrame) -> DataFrame:
    """One row for each key and each address: how often it is in each table, and whether its versions are in disorder.

    They stand in one frame, since for little data it is the number of frames that costs.
    """

    def of(frame: DataFrame, name: str, **columns: str) -> DataFrame:
        # 96 bits of a hash are grouped at a fraction of the cost of 36 characters, and no two values have the same.
        hashes = F.xxhash64(name).alias("place"), F.hash(name).alias("place_2")
        return frame.select(*hashes, *(F.expr(value).alias(column) for column, value in columns.items()))

    # A delete that follows a delete is a row with an end alone.
    versions = history.where("__START_AT IS NOT NULL")
    rows = [
        of(members, "member_id", members="1"),
        of(members, "email_normalised", of_members="1"),
        of(changes, "member_id", changes="1"),
        of(versions, "member_id", versions="1", start="__START_AT", end="__END_AT"),
    ]
    every = among(looked, _together(rows)).withColumn("open_from", F.expr("if(end IS NULL, start, NULL)"))
    # Nearly all versions are the open one of their key, which has only to come last: the others alone are sorted.
    follows = F.lead("start").over(Window.partitionBy("place", "place_2").orderBy("start"))
    closed = every.where("end IS NOT NULL").withColumn("follows", follows)
    disordered = closed.selectExpr("place", "place_2", "if(end <= start OR end > follows, 1, 0) AS disordered")
    counted = ("members", "of_members", "changes", "versions")
    return (
        _together([every, disordered])
        .groupBy("place", "place_2")
        .agg(
            *(F.count(name).alias(name) for name in counted),
            F.count("open_from").alias("open_versions"),
            F.expr(
                "coalesce(max(disordered), 0) > 0 OR count(open_from) > 1 OR coalesce(max(end) > max(open_from), false)"
            ).alias("disordered"),
        )
    )


def _together(frames: Iterable[DataFrame]) -> DataFrame:
    return reduce(partial(DataFrame.unionByName, allowMissingColumns=True), frames)


def memberships(members: DataFrame, history: DataFrame) -> DataFrame:
    """Members there are or were, counted by what gold asks of them, so that their tables are read once for all of it.

    A member registers on the registration date, as it was written last, and leaves when the row is deleted in the
    source. Current members are taken as they are, without looking for their last version among all.

    Returns:
        `registered_in` and `left_in`, DATE, the first days of months, `left_in` NULL if not yet; `country_code` and
        `country_name`; `members` BIGINT; `first_registration_date` and `last_registration_date`.
    """
    registration = ("registration_date", "country_code", "country_name")
    ended = history.where("__START_AT IS NOT NULL AND __END_AT IS NOT NULL")
    stayed = members.join(ended, "member_id", "left_semi").select("member_id")
    last = F.max_by(F.struct(*registration, F.to_date("__END_AT").alias("left_at")), "__START_AT").alias("last")
    gone = ended.join(stayed, "member_id", "left_anti").groupBy("member_id").agg(last).select("last.*")
    every = members.select(*registration, F.lit(None).cast("date").alias("left_at")).unionAll(gone)
    months = (
        F.trunc("registration_date", "month").alias("registered_in"),
        F.trunc("left_at", "month").alias("left_in"),
    )
    return every.groupBy(*months, "country_code", "country_name").agg(
        F.count(F.lit(1)).alias("members"),
        F.min("registration_date").alias("first_registration_date"),
        F.max("registration_date").alias("last_registration_date"),
    )


def by_country(memberships: DataFrame) -> DataFrame:
    """Current members of each country, and when the first and the last of them registered."""
    current = memberships.where("left_in IS NULL").groupBy("country_code", F.col("country_name").alias("country"))
    return current.agg(
        F.sum("members").alias("members"),
        F.min("first_registration_date").alias("first_registration_date"),
        F.max("last_registration_date").alias("last_registration_date"),
    )


def registrations_by_month(memberships: DataFrame) -> DataFrame:
    """Registrations of each month and country, of members who left as well."""
    every = memberships.groupBy(F.col("registered_in").alias("month"), "country_code", "country_name")
    return every.agg(F.sum("members").alias("registrations"))


def churn_by_month(memberships: DataFrame) -> DataFrame:
    """Members at the start of each month, and those who joined and left in it, from the first registration on.

    Returns:
        `month` DATE, `members_at_start`, `joined`, `left` BIGINT and `churn_rate` DECIMAL(9,6), which is NULL where
        there were no members.
    """
    nobody = F.lit(0).cast("bigint")
    joined = memberships.select("registered_in", "members", nobody)
    left = memberships.where("left_in IS NOT NULL").select("left_in", nobody, "members")
    months = (
        joined.toDF("month", "joined", "left")
        .unionAll(left)
        .groupBy("month")
        .agg(F.sum("joined").alias("joined"), F.sum("left").alias("left"))
    )
    before = Window.orderBy("month").rowsBetween(Window.unboundedPreceding, -1)
    at_start = F.coalesce(F.sum(F.col("joined") - F.col("left")).over(before), F.lit(0))
    return months.select(
        "month",
        at_start.alias("members_at_start"),
        "joined",
        "left",
        F.when(at_start > 0, F.col("left") / at_start).cast("decimal(9,6)").alias("churn_rate"),
    )
