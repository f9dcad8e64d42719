"""Paths of a workspace (`/Volumes/…`, `dbfs:/…`, `abfss://…`) and the local folders that stand for them."""

from __future__ import annotations

import re
from collections.abc import Mapping

SETTING = "lakeflow_local.paths."
_WORKSPACE = re.compile(r"^(/Volumes/|/mnt/|/FileStore/|/Workspace/|dbfs:|wasbs?://|abfss?://|adl://|gs://)")
_NAMED_IN_SQL = re.compile(r"\b(json|csv|parquet|delta|text|orc|avro|binaryFile|xml)(\s*\.\s*)`([^`]+)`", re.IGNORECASE)


class PathMapping:
    """Replaces prefixes of paths by those that the pipeline's configuration gives.

    `lakeflow_local.paths./Volumes/main/x = /some/folder` reads `/some/folder/a.json` for `/Volumes/main/x/a.json`.
    Of several prefixes the longest wins. `dbfs:/x`, `/dbfs/x` and `/x` are one path, as they are on Databricks.
    """

    def __init__(self, configuration: Mapping[str, str]):
        prefixes = {
            _plain(key.removeprefix(SETTING)): value.rstrip("/")
            for key, value in configuration.items()
            if key.startswith(SETTING)
        }
        self._prefixes = sorted(prefixes.items(), key=lambda pair: -len(pair[0]))

    def local(self, path: str) -> str:
        """Where `path` lies here; a path that no setting names stays as it is."""
        plain = _plain(path)
        for prefix, folder in self._prefixes:
            if plain == prefix or plain.startswith(prefix + "/"):
                return folder + plain[len(prefix) :]
        return path

    def in_query(self, text: str) -> str:
        """A query whose files by path, such as ``json.`/Volumes/x` ``, lie where they lie here."""
        if not self._prefixes:
            return text
        return _NAMED_IN_SQL.sub(lambda m: f"{m.group(1)}{m.group(2)}`{self.local(m.group(3))}`", text)


def is_of_workspace(path: str) -> bool:
    """Whether a path names storage that a workspace has and this machine, as a rule, has not."""
    return bool(_WORKSPACE.match(path))


def absent(path: str) -> str:
    """One line for a path that does not exist."""
    if is_of_workspace(path):
        parts = _plain(path).split("/")
        # a volume or a container is what people have a copy of
        prefix = "/".join(parts[:5] if parts[1:2] == ["Volumes"] else parts[:3])
        return (
            f"there is no {path} on this machine; to read local files in its place, set "
            f"{SETTING}{prefix} = FOLDER in the pipeline's configuration"
        )
    return f"there is no folder {path}; land a file there first, or mend the path"


def _plain(path: str) -> str:
    path = re.sub(r"^(dbfs:/*|/dbfs/)", "/", path)
    return path.rstrip("/") or "/"
