"""Files by patterns, files that are whole or absent, and locks that die with their owner."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def matching(folder: Path, pattern: str) -> list[Path]:
    """What lies in `folder` by a pattern, sorted; as in a shell, `**` beside other characters is `*`.

    Raises:
        ValueError: the pattern is empty, or does not begin in the folder.
    """
    parts = (part if part == "**" else re.sub(r"\*\*+", "*", part) for part in pattern.split("/"))
    if not pattern or pattern.startswith("/"):
        raise ValueError(f"{pattern!r} is no path of files; give one like src/**")
    return sorted(folder.glob("/".join(parts)))


def replace(path: Path, data: bytes | str, *, mode: int = 0o644) -> None:
    """Writes `path` so that a reader, or a crash, sees the old content or the new one and nothing between."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.fchmod(handle, mode)
        with open(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on the file `path`; the system releases it when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
