"""What members write about how to reach them, read by the parsers of the field: each value or None, never an error.

`contact` reads all columns at once, so that a row goes to Python once. Without network: whether an address
or a number is in use is not asked.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata

import phonenumbers
import pycountry
from columns import NORMALISED
from email_validator import EmailNotValidError, validate_email
from pyspark.sql import Column
from pyspark.sql import functions as F

# Names that ISO 3166 does not list: former ones, and those of the source's web form and of Faker.
ALIASES = {
    "Antarctica (the territory South of 60 deg S)": "AQ",
    "Bouvet Island (Bouvetoya)": "BV",
    "British Indian Ocean Territory (Chagos Archipelago)": "IO",
    "Cape Verde": "CV",
    "Cote d'Ivoire": "CI",
    "Korea": "KR",
    "Libyan Arab Jamahiriya": "LY",
    "Micronesia": "FM",
    "Palestinian Territory": "PS",
    "Pitcairn Islands": "PN",
    "Reunion": "RE",
    "Saint Barthelemy": "BL",
    "Saint Helena": "SH",
    "Saint Martin": "MF",
    "Slovakia (Slovak Republic)": "SK",
    "Svalbard & Jan Mayen Islands": "SJ",
    "Swaziland": "SZ",
    "Turkey": "TR",
    "United States Virgin Islands": "VI",
}

# Names without a country of today; rows that have them are refused.
DISSOLVED = {"Netherlands Antilles": "since 2010 Bonaire and others (BQ), Curaçao (CW) or Sint Maarten (SX)"}

_LEAST_DIGITS = 7  # of a number that is more than local
_DIGIT = re.compile(r"\d")
_SECOND_NUMBER = re.compile(r"[;,]")


def folded(name: str) -> str:
    """A name as it is looked up: in any case, with any white space."""
    return " ".join(unicodedata.normalize("NFC", name).split()).casefold()


def countries() -> dict[str, tuple[str, str]]:
    """Folded name or code of each country → its ISO 3166-1 alpha-2 code and short English name."""
    fields = ("name", "official_name", "common_name", "alpha_2", "alpha_3")
    named = [
        (getattr(country, field), country)
        for country in pycountry.countries
        for field in fields
        if hasattr(country, field)
    ]
    named += [(name, pycountry.countries.get(alpha_2=code)) for name, code in ALIASES.items()]
    return {folded(name): (c.alpha_2, getattr(c, "common_name", c.name)) for name, c in named}


def email(text: str | None) -> str | None:
    """The address in lower case with its domain in Unicode; None if RFC 5322, 6531 and 1035 do not allow it."""
    if not text:
        return None
    try:
        return validate_email(text.strip(), check_deliverability=False, strict=True).normalized.lower()
    except EmailNotValidError:
        return None


def phone(text: str | None, region: str | None) -> tuple[str | None, bool]:
    """The number in the form of E.164, and whether its range is assigned to anybody.

    Args:
        region: the country, as ISO 3166-1 alpha-2, of a number without a country's code.

    Returns:
        (None, False) for what cannot be one number that is dialled from abroad.
    """
    if not text or len(_DIGIT.findall(text)) < _LEAST_DIGITS or _SECOND_NUMBER.search(text):
        return None, False
    # Letters for digits, which only some telephones have.
    if phonenumbers.is_alpha_number(text):
        return None, False
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None, False
    # What is possible only within an area is dialled from nowhere else.
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        return None, False
    written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return written, phonenumbers.is_valid_number(number)


def member_key(key: bytes, member_id: str | None) -> str | None:
    """A pseudonym of a member: HMAC-SHA256, hexadecimal, which only who has the key can compute from the id."""
    return hmac.new(key, member_id.lower().encode(), hashlib.sha256).hexdigest() if member_id else None


def contact(key: str) -> Column:
    """The struct `NORMALISED` out of member_id, email, phone_number and country.

    Args:
        key: the secret that pseudonyms are made with.
    """
    secret, known = key.encode(), countries()

    def read(member_id: str | None, address: str | None, number: str | None, country: str | None) -> tuple:
        code, name = known.get(folded(country or ""), (None, None))
        written, assigned = phone(number, code)
        return member_key(secret, member_id), email(address), written, assigned, code, name

    kind = "STRUCT<" + ", ".join(f"{name}: {kind}" for name, kind in NORMALISED.items()) + ">"
    # Without Arrow, with which a stream of Spark 4.2.0 waits for its worker for ever. Not deterministic, so that Spark
    # does not evaluate it a second time for a filter on its result.
    return F.udf(read, kind, useArrow=False).asNondeterministic()("member_id", "email", "phone_number", "country")
