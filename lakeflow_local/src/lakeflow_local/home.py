"""Where the local platform keeps what it makes: one folder, `.lakehouse/`, under the project."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """The folders of one local platform.

    Attributes:
        root: the project, the folder of `databricks.yml` (or the current one where there is none).
        path: everything that was made for it; safe to delete when nothing runs.
    """

    root: Path
    path: Path

    @property
    def warehouse(self) -> Path:
        """Managed tables."""
        return self.path / "warehouse"

    @property
    def jars(self) -> Path:
        """Resolved jars, one folder for each configuration of `ivy.xml`."""
        return self.path / "jars"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def run(self) -> Path:
        """Process ids, ports, locks and generated passwords of what runs; readable by its owner only."""
        return self.path / "run"

    @property
    def s3(self) -> Path:
        """The buckets of the embedded S3 server, a folder each."""
        return self.path / "s3"

    @property
    def mysql(self) -> Path:
        """Data of the embedded MySQL-compatible server."""
        return self.path / "mysql"

    @property
    def pipelines(self) -> Path:
        """Checkpoints, kept schemas and ordering state, a folder for each pipeline."""
        return self.path / "pipelines"

    @property
    def jobs(self) -> Path:
        """Runs of jobs and the state of their triggers, updates of pipelines, evaluations of alerts; a folder each."""
        return self.path / "jobs"


def find(start: Path | None = None) -> Home:
    """The home of the project around `start`; `LAKEHOUSE_HOME` puts the made part elsewhere."""
    start = (start or Path.cwd()).resolve()
    root = next((d for d in (start, *start.parents) if (d / "databricks.yml").is_file()), start)
    made = os.environ.get("LAKEHOUSE_HOME")
    return Home(root=root, path=Path(made).resolve() if made else root / ".lakehouse")
