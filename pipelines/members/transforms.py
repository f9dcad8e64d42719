"""Pure functions of the members pipeline: DataFrame in, DataFrame out, the same for streams and batches."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

# What people write between the digits of a telephone number.
_SEPARATORS = "[+()/. -]"


def normalised(changes: DataFrame) -> DataFrame:
    """Adds what is compared and searched beside what was written, which stays as it is.

    Returns:
        the rows of `changes` with `email_normalised` (trimmed, lower case) and `phone_normalised` (digits only).
    """
    return changes.withColumns(
        {
            "email_normalised": F.lower(F.trim("email")),
            "phone_normalised": F.regexp_replace("phone_number", _SEPARATORS, ""),
        }
    )


def failed_rules(rules: Mapping[str, str]) -> Column:
    """Names of the rules that a row breaks, as ARRAY<STRING>; a rule that is NULL counts as broken."""
    broken = [F.when(~F.coalesce(F.expr(predicate), F.lit(False)), F.lit(name)) for name, predicate in rules.items()]
    return F.array_compact(F.array(*broken))


def refused(changes: DataFrame, rules: Mapping[str, str]) -> DataFrame:
    """The rows that break a rule, with the names of the rules in `failed_rules`: exactly those not let through."""
    return changes.withColumn("failed_rules", failed_rules(rules)).where(F.size("failed_rules") > 0)
