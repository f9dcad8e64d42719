"""What makes a member's row fit for silver, as data: one list for the pipeline, the quarantine and its readers.

A predicate is SQL over the columns of `members_normalised`, true or false for every row, NULL never: a platform's view
of NULL then makes no difference. A delete carries its key alone, so the other rules let it pass.
"""

from __future__ import annotations

from dataclasses import dataclass

from countries import COUNTRIES


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: for the event log, the quarantine and the dashboard.
        predicate: SQL that is true for a fit row.
        dimension: of data quality: completeness, validity or timeliness.
        reason: why a row that breaks it must not be used.
    """

    name: str
    predicate: str
    dimension: str
    reason: str


def _unless_delete(name: str, condition: str, dimension: str, reason: str) -> Rule:
    return Rule(name, f"coalesce(_op = 'D', false) OR coalesce({condition}, false)", dimension, reason)


def _present(column: str, reason: str) -> Rule:
    return _unless_delete(f"{column}_present", f"trim({column}) <> ''", "completeness", reason)


_COUNTRIES = ", ".join("'{}'".format(name.replace("'", "\\'")) for name in COUNTRIES)

RULES = (
    Rule(
        "member_id_is_uuid",
        "coalesce(lower(member_id) RLIKE '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$', false)",
        "validity",
        "the key of every table; another form is a row of another system",
    ),
    Rule(
        "changed_at_present",
        "_changed_at IS NOT NULL",
        "completeness",
        "without it the order of a member's changes is not known",
    ),
    _present("first_name", "letters to the member begin with it"),
    _present("last_name", "letters to the member begin with it"),
    _unless_delete(
        "email_valid",
        r"email_normalised RLIKE '^[^@\\s,;<>()]+@([^@\\s,;<>().]+\\.)+[^@\\s,;<>().0-9]{2,}$'",
        "validity",
        "the way to reach the member; an address that cannot exist bounces",
    ),
    _unless_delete(
        "phone_number_valid",
        "phone_normalised RLIKE '^[0-9]{7,15}$'",
        "validity",
        "a number has at most 15 digits by ITU-T E.164, and at least the 7 of a local one",
    ),
    _present("address", "deliveries go there"),
    _unless_delete(
        "address_one_line",
        r"address NOT RLIKE '[\\x00-\\x1f\\x7f]'",
        "validity",
        "control characters break labels and exports",
    ),
    _present("city", "deliveries go there"),
    _unless_delete(
        "country_known",
        f"trim(country) IN ({_COUNTRIES})",
        "validity",
        "tax and reporting are by country; an unknown name belongs to none",
    ),
    _unless_delete(
        "registration_date_plausible",
        "registration_date BETWEEN DATE'1990-01-01' AND to_date(_extracted_at)",
        "timeliness",
        "the company was founded in 1990, and nobody registers tomorrow",
    ),
)

PREDICATES = {rule.name: rule.predicate for rule in RULES}
