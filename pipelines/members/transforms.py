"""Pure functions of the members pipeline: DataFrame in, DataFrame out, the same for streams and batches."""

from __future__ import annotations

from collections.abc import Mapping

import contacts
from columns import ARRIVAL, CHANGE, NORMALISED, SOURCE
from pyspark import cloudpickle
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from rules import CHECKS

# Workers do not have the folder of the pipeline on their path.
cloudpickle.register_pickle_by_value(contacts)

_NEVER = "9999-12-31"


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


def checks(
    bronze: DataFrame, changes: DataFrame, quarantine: DataFrame, members: DataFrame, history: DataFrame
) -> DataFrame:
    """What no rule sees, since a rule sees one row: one row for each of `CHECKS`.

    Returns:
        `name`, `failed` and `evaluated`: how many rows or keys are at fault, of how many.
    """
    keys = _keys(changes, members, history).agg(
        F.expr("count_if(members > 0)").alias("current"),
        F.expr("count_if(versions > 0)").alias("known"),
        F.expr("count_if(members > 1)").alias("members_unique"),
        F.expr("count_if(open_versions > 1)").alias("one_open_version"),
        F.expr("count_if(disordered > 0)").alias("versions_in_order"),
        F.expr("count_if((members > 0) <> (open_versions > 0))").alias("current_is_open_version"),
        F.expr("count_if(changes = 0)").alias("no_orphans"),
        F.sum("members").alias("rows"),
    )
    shared = members.groupBy("email_normalised").count().agg(F.expr("count_if(count > 1)").alias("email_not_shared"))
    figures = keys.crossJoin(shared)
    for name, frame in {"arrived": bronze, "passed": changes, "refused": quarantine}.items():
        figures = figures.crossJoin(frame.agg(F.count(F.lit(1)).alias(name)))
    figures = figures.withColumn("nothing_lost", F.expr("abs(arrived - passed - refused)"))
    stacked = ", ".join(f"'{check.name}', coalesce({check.name}, 0L), coalesce({check.of}, 0L)" for check in CHECKS)
    return figures.selectExpr(f"stack({len(CHECKS)}, {stacked}) AS (name, failed, evaluated)")


def _keys(changes: DataFrame, members: DataFrame, history: DataFrame) -> DataFrame:
    """One row for each key: how often it is in each table, and how many of its versions are out of order."""
    key, start, end = "member_id", "__START_AT", "__END_AT"
    follows = F.lead(start).over(Window.partitionBy(key).orderBy(start))
    # A delete that follows a delete is a row with an end alone.
    versions = history.where(F.col(start).isNotNull()).withColumn("_next", follows)
    zero, one = F.lit(0), F.lit(1)
    disordered = (F.col(end) <= F.col(start)) | (
        F.coalesce(F.col(end), F.lit(_NEVER).cast("timestamp")) > F.col("_next")
    )
    every = (
        members.select(key, one.alias("m"), zero.alias("v"), zero.alias("o"), zero.alias("d"), zero.alias("c"))
        .unionAll(changes.select(key, zero, zero, zero, zero, one))
        .unionAll(
            versions.select(
                key, zero, one, F.col(end).isNull().cast("int"), F.coalesce(disordered, F.lit(False)).cast("int"), zero
            )
        )
    )
    names = {"m": "members", "v": "versions", "o": "open_versions", "d": "disordered", "c": "changes"}
    return every.groupBy(key).agg(*(F.sum(short).alias(name) for short, name in names.items()))


def registrations_by_month(history: DataFrame) -> DataFrame:
    """Registrations of each month and country, of members who left as well, as their last version has them."""
    last = (
        history.where("`__START_AT` IS NOT NULL")
        .groupBy("member_id")
        .agg(F.max_by(F.struct("registration_date", "country_code", "country_name"), "__START_AT").alias("last"))
    )
    month = F.trunc("last.registration_date", "month").alias("month")
    return last.groupBy(month, "last.country_code", "last.country_name").agg(F.count(F.lit(1)).alias("registrations"))


def churn_by_month(history: DataFrame) -> DataFrame:
    """Members at the start of each month, and those who joined and left in it, from the first registration on.

    A member joins on the registration date and leaves when the row is deleted in the source.

    Returns:
        `month` DATE, `members_at_start`, `joined`, `left` BIGINT and `churn_rate` DECIMAL(9,6), which is NULL where
        there were no members.
    """
    last = (
        history.where("`__START_AT` IS NOT NULL")
        .groupBy("member_id")
        .agg(
            F.max_by("registration_date", "__START_AT").alias("joined_on"),
            F.max_by(F.struct(F.col("__END_AT").alias("at")), "__START_AT").alias("end"),
        )
    )
    joined = last.select(F.trunc("joined_on", "month").alias("month"), F.lit(1).alias("joined"), F.lit(0).alias("left"))
    left = last.where("end.at IS NOT NULL").select(F.trunc(F.to_date("end.at"), "month"), F.lit(0), F.lit(1))
    months = joined.unionAll(left).groupBy("month").agg(F.sum("joined").alias("joined"), F.sum("left").alias("left"))
    before = Window.orderBy("month").rowsBetween(Window.unboundedPreceding, -1)
    at_start = F.coalesce(F.sum(F.col("joined") - F.col("left")).over(before), F.lit(0))
    return months.select(
        "month",
        at_start.alias("members_at_start"),
        "joined",
        "left",
        F.when(at_start > 0, F.col("left") / at_start).cast("decimal(9,6)").alias("churn_rate"),
    )
