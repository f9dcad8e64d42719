"""Passwords and keys of the embedded servers, generated once, in a file that only its owner can read."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field, fields

from lakeflow_local.files import replace
from lakeflow_local.home import Home


def _secret() -> str:
    return secrets.token_hex(20)


@dataclass(frozen=True)
class Credentials:
    """Hexadecimal, so that they need no quoting in a URL, in SQL or in a properties file."""

    mysql_password: str = field(default_factory=_secret, repr=False)
    mysql_root_password: str = field(default_factory=_secret, repr=False)
    s3_access_key: str = field(default_factory=_secret, repr=False)
    s3_secret_key: str = field(default_factory=_secret, repr=False)
    catalog_password: str = field(default_factory=_secret, repr=False)
    secret_key: str = field(default_factory=_secret, repr=False)
    """Of no server: for whatever a project's own code signs or pseudonymises with."""


def load(home: Home) -> Credentials:
    """The home's credentials; made on the first call. The caller holds the home's lock."""
    path = home.run / "credentials.json"
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        kept = {}
    found = Credentials(**{f.name: kept[f.name] for f in fields(Credentials) if f.name in kept})
    if asdict(found) != kept:
        replace(path, json.dumps(asdict(found)), mode=0o600)
    return found
