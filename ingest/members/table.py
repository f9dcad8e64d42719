"""What the members table is, for whoever makes, loads or reads it."""

from __future__ import annotations

from importlib import resources

from ingest.declarations import table

MEMBERS = table("members")

DDL = resources.files(__package__).joinpath("table.sql").read_text()
