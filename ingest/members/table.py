"""What the members table is, for whoever makes, loads or reads it."""

from __future__ import annotations

from importlib import resources

from ingest.tables import Table

MEMBERS = Table(
    name="members",
    key="member_id",
    columns={
        "member_id": "STRING",
        "first_name": "STRING",
        "last_name": "STRING",
        "email": "STRING",
        "phone_number": "STRING",
        "address": "STRING",
        "city": "STRING",
        "country": "STRING",
        "registration_date": "DATE",
    },
)

DDL = resources.files(__package__).joinpath("table.sql").read_text()
