"""What makes a member's row fit for silver, as data: one list for the pipeline, the quarantine and all who report.

A predicate is SQL over the columns of `members_normalised`, true or false for every row, NULL never: a platform's view
of NULL then makes no difference, and what a rule refuses is exactly what it does not let through. A delete carries its
key alone, so the other rules let it pass. This file imports nothing of the pipeline, so that others can read the list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

WARN, DROP, FAIL = "warn", "drop", "fail"
DIMENSIONS = ("completeness", "uniqueness", "validity", "consistency", "timeliness", "accuracy")


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: for the event log, the quarantine and the dashboard.
        predicate: SQL that is true for a fit row.
        action: on a row that breaks it: `warn` keeps it, `drop` puts it in quarantine, `fail` ends the update.
        dimension: of data quality, one of `DIMENSIONS`.
        owner: the team that mends what it finds.
        reason: why a row that breaks it must not be used, or what it costs.
        columns: of the source that it looks at.
    """

    name: str
    predicate: str
    action: str
    dimension: str
    owner: str
    reason: str
    columns: tuple[str, ...]


SERVICE, PLATFORM, CRM = "member service", "data platform", "CRM"


def _of_upserts(
    name: str,
    condition: str,
    dimension: str,
    reason: str,
    columns: str,
    *,
    action: str = DROP,
    owner: str = SERVICE,
) -> Rule:
    predicate = f"coalesce(_op = 'D', false) OR coalesce({condition}, false)"
    return Rule(name, predicate, action, dimension, owner, reason, tuple(columns.split()))


def _present(column: str, reason: str) -> Rule:
    return _of_upserts(f"{column}_present", f"trim({column}) <> ''", "completeness", reason, column)


RULES = (
    Rule(
        "member_id_is_uuid",
        "coalesce(lower(member_id) RLIKE '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$', false)",
        DROP,
        "validity",
        CRM,
        "the key of every table; another form is a row of another system",
        ("member_id",),
    ),
    Rule(
        "changed_at_present",
        "_changed_at IS NOT NULL",
        DROP,
        "completeness",
        PLATFORM,
        "without it the order of a member's changes is not known",
        ("updated_at",),
    ),
    Rule(
        "operation_known",
        "coalesce(_op IN ('U', 'D'), true)",
        FAIL,
        "validity",
        PLATFORM,
        "any other operation would be stored as an upsert, and can only be a fault of the ingest",
        (),
    ),
    Rule(
        "nothing_rescued",
        "_rescued_data IS NULL",
        DROP,
        "consistency",
        PLATFORM,
        "a value did not fit the type of its column, so that the row lacks it",
        (),
    ),
    _present("first_name", "letters to the member begin with it"),
    _present("last_name", "letters to the member begin with it"),
    _of_upserts(
        "email_valid",
        "email_normalised IS NOT NULL",
        "validity",
        "the way to reach the member; an address that cannot exist bounces",
        "email",
    ),
    _of_upserts(
        "phone_number_valid",
        "phone_normalised IS NOT NULL",
        "validity",
        "what cannot be one number by ITU-T E.164 reaches nobody",
        "phone_number country",
    ),
    _of_upserts(
        "phone_number_assigned",
        "phone_normalised IS NULL OR phone_assigned",
        "accuracy",
        "a number in a range that is not given out yet, or is mistyped",
        "phone_number country",
        action=WARN,
    ),
    _present("address", "deliveries go there"),
    _of_upserts(
        "address_one_line",
        r"address NOT RLIKE '[\\x00-\\x1f\\x7f]'",
        "validity",
        "control characters break labels and exports",
        "address",
    ),
    _present("city", "deliveries go there"),
    _of_upserts(
        "country_known",
        "country_code IS NOT NULL",
        "validity",
        "tax and reporting are by country; a name that ISO 3166 does not know belongs to none",
        "country",
    ),
    _of_upserts(
        "registration_date_plausible",
        "registration_date BETWEEN DATE'1990-01-01' AND to_date(_extracted_at)",
        "timeliness",
        "the company was founded in 1990, and nobody registers tomorrow",
        "registration_date",
    ),
    _of_upserts(
        "registered_before_change",
        "registration_date IS NULL OR _changed_at IS NULL OR registration_date <= to_date(_changed_at)",
        "consistency",
        "a row that was written before its member registered was restored or dated by hand",
        "registration_date updated_at",
        action=WARN,
        owner=CRM,
    ),
)


@dataclass(frozen=True)
class Check:
    """What is checked across rows, in `members_checks`; its attributes are those of `Rule`.

    Attributes:
        of: what `transforms.checks` counts as evaluated.
    """

    name: str
    action: str
    dimension: str
    owner: str
    reason: str
    of: str = "known"

    @property
    def predicate(self) -> str:
        """SQL over `members_checks`, true for every other check too."""
        return f"name <> '{self.name}' OR failed = 0"


CHECKS = (
    Check(
        "nothing_lost",
        FAIL,
        "completeness",
        PLATFORM,
        "a row of bronze is neither let through nor in quarantine, or is both",
        of="arrived",
    ),
    Check("members_unique", FAIL, "uniqueness", PLATFORM, "a member is twice in silver.members", of="rows"),
    Check("one_open_version", FAIL, "uniqueness", PLATFORM, "a member has two versions that are valid now"),
    Check(
        "versions_in_order",
        FAIL,
        "consistency",
        PLATFORM,
        "a version ends before it starts, or after the next one starts",
    ),
    Check(
        "current_is_open_version",
        FAIL,
        "consistency",
        PLATFORM,
        "silver.members and its history disagree on who is a member",
    ),
    Check("no_orphans", FAIL, "consistency", PLATFORM, "a member or a version comes from no change"),
    Check("email_not_shared", WARN, "uniqueness", SERVICE, "two members have one e-mail address", of="addresses"),
)


def predicates(action: str, rules: Iterable[Rule | Check] = RULES) -> dict[str, str]:
    """The predicates of the rules with this action, by name."""
    return {rule.name: rule.predicate for rule in rules if rule.action == action}
