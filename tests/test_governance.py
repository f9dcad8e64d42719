"""What names a person is tagged, and kept from analysts."""

from __future__ import annotations

import re
from pathlib import Path

from tools import personal

ROOT = Path(__file__).parents[1]


def test_analysts_read_nothing_that_names_or_reaches_a_person() -> None:
    kept = personal.columns()
    assert {how for _, _, how in kept} == {"mask", "no grant"}
    assert ("gold.dim_customer", "customer_name", "mask") in kept
    assert ("silver.members", "email_normalised", "mask") in kept
    assert ("silver.members_history", "email", "no grant") in kept


def test_every_column_of_the_invoices_that_is_about_a_customer_has_a_tag() -> None:
    tags = (personal.GOVERNANCE / "invoices_tags.sql").read_text(encoding="utf-8")
    told = {tuple(pair) for pair in re.findall(r"(\w+) ALTER COLUMN (\w+) SET TAGS", tags)}
    about = re.compile(r"^  ((?:customer|bill_to|ship_to|member_id|_rescued_data|notes)\w*) [A-Z]", re.MULTILINE)
    found = {
        (match[1], column)
        for file in (ROOT / "pipelines" / "invoices").rglob("*.sql")
        if (match := re.search(r"_schema\}\.(\w+) \(", text := file.read_text(encoding="utf-8")))
        for column in about.findall(text.partition("\nAS\n")[0])
    }
    assert found - told <= {("bridge_customer_member", "customer_member_sk"), ("exchange_rates", "_rescued_data")}
    assert len(found) > 15
