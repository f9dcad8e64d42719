"""Members that no rule should let through: what real sources deliver, one named defect each, and where they occur."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Numbers = NDArray[np.uint64]


@dataclass(frozen=True)
class Defect:
    """One way for a row to be wrong.

    Attributes:
        name: what is wrong with it.
        column: the column that shows it; the rest of the row is good.
        value: what stands there, or a function that spoils the good value.
    """

    name: str
    column: str
    value: str | date | Callable[[Any], str] | None

    def spoil(self, good: str | date) -> str | date | None:
        return self.value(good) if callable(self.value) else self.value


DEFECTS: tuple[Defect, ...] = (
    Defect("id without hyphens", "member_id", lambda good: good.replace("-", "")),
    Defect("id one digit short", "member_id", lambda good: good[:-1]),
    Defect("first name NULL", "first_name", None),
    Defect("first name empty", "first_name", ""),
    Defect("first name blank", "first_name", "   "),
    Defect("last name NULL", "last_name", None),
    Defect("last name empty", "last_name", ""),
    Defect("last name blank", "last_name", "   "),
    Defect("e-mail NULL", "email", None),
    Defect("e-mail empty", "email", ""),
    Defect("e-mail without at sign", "email", "ada.example.com"),
    Defect("e-mail with two at signs", "email", "ada@lovelace@example.com"),
    Defect("e-mail without local part", "email", "@example.com"),
    Defect("e-mail without domain", "email", "ada@"),
    Defect("e-mail without top-level domain", "email", "ada@localhost"),
    Defect("e-mail with a space", "email", "ada lovelace@example.com"),
    Defect("e-mail with a comma for a dot", "email", "ada@example,com"),
    Defect("e-mail ending in a dot", "email", "ada@example.com."),
    Defect("e-mail with its display name", "email", "Ada Lovelace <ada@example.com>"),
    Defect("phone number NULL", "phone_number", None),
    Defect("phone number empty", "phone_number", ""),
    Defect("phone number with letters", "phone_number", "+1 800 FLOWERS"),
    Defect("phone number too short", "phone_number", "555123"),
    Defect("phone number too long", "phone_number", "+49 30 1234 5678 9012 3456"),
    Defect("two phone numbers", "phone_number", "+44 20 7946 0018; 0019"),
    Defect("address NULL", "address", None),
    Defect("address empty", "address", ""),
    Defect("address with a line break", "address", "12 High Street\nFlat 3"),
    Defect("address with a bell character", "address", "12 High Street\a"),
    Defect("city NULL", "city", None),
    Defect("city empty", "city", ""),
    Defect("country empty", "country", ""),
    Defect("country unknown", "country", "Atlantis"),
    Defect("country misspelt", "country", "Germny"),
    Defect("registration date NULL", "registration_date", None),
    Defect("registered before the company", "registration_date", date(1989, 12, 31)),
    Defect("registered in the future", "registration_date", date(2999, 1, 1)),
)


def planted(values: pa.Array, seed: int, numbers: NDArray[np.int64], *, column: str, rate: float) -> pa.Array:
    """The values with the defects of a column in so many of them, 0 to 1; the same rows for any partitioning."""
    if not rate:
        return values
    defects = [defect.value for defect in DEFECTS if defect.column == column]
    chosen = drawn(seed, f"{column} spoilt", numbers)
    spoilt = chosen < np.uint64(min(rate, 1.0) * (2**64 - 2048))
    which = drawn(seed, f"{column} defect", numbers) % len(defects)
    return pc.if_else(pa.array(spoilt), pa.array(defects, pa.string()).take(pa.array(which)), values)


def drawn(seed: int, purpose: str, numbers: NDArray[np.int64]) -> Numbers:
    """Evenly spread numbers of 64 bits, one for each row number: SplitMix64 (Steele, Lea, Flood 2014)."""
    start = np.uint64(random.Random(f"{seed}/{purpose}").getrandbits(64))
    with np.errstate(over="ignore"):
        mixed = start + (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
