"""Members in bulk: vocabularies from Faker, combined by a hash of the seed, the field and the row's number.

Every value is drawn for its row alone, so that any partitioning gives the same rows; a task holds a batch of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache, partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from faker import Faker
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession

from ingest.members.defects import Numbers, drawn, planted
from ingest.members.generator import ARROW, COUNTRIES, YEARS_OF_MEMBERSHIP, street
from ingest.members.table import MEMBERS

_WORDS = {"first_name": 300, "last_name": 600, "address": 1200, "city": 400}
_DOMAINS = ("example.com", "example.net", "example.org")
_HYPHENS = (8, 13, 18, 23)
_DIGIT, _NOT_ZERO = ord("#"), ord("%")


def members(
    spark: SparkSession,
    rows: int,
    *,
    seed: int,
    as_of: date,
    bad_emails: float = 0.0,
    bad_phones: float = 0.0,
    partitions: int | None = None,
) -> DataFrame:
    """Members numbered 0 to `rows` - 1, the same for any number of partitions; not those of `generator.members`.

    Args:
        seed: another one gives other members.
        as_of: the last possible registration date.
        bad_emails, bad_phones: share of the rows, 0 to 1, whose e-mail or phone number has a defect of `DEFECTS`.
        partitions: how many tasks make them; None is one for each core.

    Returns:
        the columns of `generator.members`.
    """

    def make(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield made(batch.column(0).to_numpy(), seed=seed, as_of=as_of, bad_emails=bad_emails, bad_phones=bad_phones)

    return spark.range(0, rows, numPartitions=partitions).mapInArrow(make, MEMBERS.spark_ddl)


def made(
    numbers: NDArray[np.int64], *, seed: int, as_of: date, bad_emails: float = 0.0, bad_phones: float = 0.0
) -> pa.RecordBatch:
    """The members of these numbers."""
    words = _vocabulary(seed)
    country = (drawn(seed, "country", numbers) % len(COUNTRIES)).astype(np.int64)
    columns = {name: words.every[name].take(words.index(name, country, drawn(seed, name, numbers))) for name in _WORDS}
    first, last = (
        words.every[f"{name} in an address"].take(words.index(name, country, drawn(seed, name, numbers)))
        for name in ("first_name", "last_name")
    )
    domain = pa.array(_DOMAINS).take(pa.array(drawn(seed, "domain", numbers) % len(_DOMAINS)))
    number = pc.cast(pa.array(numbers), pa.string())
    local = pc.binary_join_element_wise(first, last, number, ".")
    columns["email"] = planted(
        pc.binary_join_element_wise(local, domain, "@"), seed, numbers, column="email", rate=bad_emails
    )
    columns["phone_number"] = planted(
        _phones(country, drawn(seed, "phone_number", numbers)), seed, numbers, column="phone_number", rate=bad_phones
    )
    days = drawn(seed, "registration_date", numbers) % (365 * YEARS_OF_MEMBERSHIP + 1)
    epoch = (as_of - date(1970, 1, 1)).days
    columns["registration_date"] = pa.array((epoch - days.astype(np.int64)).astype(np.int32)).cast(pa.date32())
    columns["country"] = pa.array([c.name for c in COUNTRIES]).take(pa.array(country))
    columns["member_id"] = _uuids(seed, numbers)
    return pa.RecordBatch.from_arrays([columns[name] for name in ARROW.names], schema=ARROW)


@dataclass(frozen=True)
class _Vocabulary:
    """Words of all countries behind each other.

    Attributes:
        every: column → its words.
        starts, sizes: column → where each country's words begin, and how many there are.
    """

    every: dict[str, pa.Array]
    starts: dict[str, NDArray[np.int64]]
    sizes: dict[str, NDArray[np.int64]]

    def index(self, name: str, country: NDArray[np.int64], number: Numbers) -> pa.Array:
        within = (number % self.sizes[name][country].astype(np.uint64)).astype(np.int64)
        return pa.array(self.starts[name][country] + within)


@cache
def _vocabulary(seed: int) -> _Vocabulary:
    found: dict[str, list[list[str]]] = {name: [] for name in _WORDS}
    for country in COUNTRIES:
        fake = Faker(country.locale, use_weighting=False)
        fake.seed_instance(f"{seed}/{country.locale}")
        makers = {"first_name": fake.first_name, "last_name": fake.last_name, "city": fake.city}
        makers["address"] = partial(street, fake)
        for name, count in _WORDS.items():
            found[name].append(list(dict.fromkeys(makers[name]() for _ in range(count))))
    every = {name: [word for words in countries for word in words] for name, countries in found.items()}
    for name in ("first_name", "last_name"):
        every[f"{name} in an address"] = [_plain(word) for word in every[name]]
    sizes = {name: np.array([len(words) for words in countries]) for name, countries in found.items()}
    starts = {name: np.concatenate([[0], np.cumsum(size)[:-1]]) for name, size in sizes.items()}
    return _Vocabulary({name: pa.array(words) for name, words in every.items()}, starts, sizes)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", unicodedata.normalize("NFKD", name).lower()) or "member"


def _phones(country: NDArray[np.int64], number: Numbers) -> pa.Array:
    parts, order = [], []
    for n, place in enumerate(COUNTRIES):
        rows = np.flatnonzero(country == n)
        rest = number[rows].copy()
        pattern = np.frombuffer(place.phone.encode(), np.uint8)
        text = np.repeat(pattern[None, :], len(rows), axis=0)
        for at in np.flatnonzero((pattern == _DIGIT) | (pattern == _NOT_ZERO)):
            base = np.uint64(9 if pattern[at] == _NOT_ZERO else 10)
            text[:, at] = ord("0") + (rest % base).astype(np.uint8) + (10 - int(base))
            rest //= base
        parts.append(_strings(text))
        order.append(rows)
    position = np.empty(len(country), np.int64)
    position[np.concatenate(order)] = np.arange(len(country))
    return pa.concat_arrays(parts).take(pa.array(position))


def _uuids(seed: int, numbers: NDArray[np.int64]) -> pa.Array:
    """UUIDs of version 8, which leaves the bits to who makes them (RFC 9562)."""
    halves = np.stack([drawn(seed, f"member_id {half}", numbers) for half in (1, 2)], axis=1)
    data = np.ascontiguousarray(halves).view(np.uint8).reshape(-1, 16)
    data[:, 6] = (data[:, 6] & 0x0F) | 0x80
    data[:, 8] = (data[:, 8] & 0x3F) | 0x80
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    text = np.full((len(numbers), 36), ord("-"), np.uint8)
    places = [at for at in range(36) if at not in _HYPHENS]
    text[:, places[0::2]] = digits[data >> 4]
    text[:, places[1::2]] = digits[data & 0x0F]
    return _strings(text)


def _strings(text: NDArray[np.uint8]) -> pa.Array:
    """ASCII text of equal length, a row each, as an array of strings."""
    offsets = np.arange(len(text) + 1, dtype=np.int32) * text.shape[1]
    return pa.StringArray.from_buffers(len(text), pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(text)))
