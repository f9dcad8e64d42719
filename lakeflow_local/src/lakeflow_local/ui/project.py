"""What the pages show of a bundle: its files as they are now, and what its runs left in the home."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lakeflow_local.bundle import load, pipelines
from lakeflow_local.bundle.load import Bundle, Resource
from lakeflow_local.bundle.runs import Runs
from lakeflow_local.errors import LakeflowError
from lakeflow_local.home import Home
from lakeflow_local.pipelines.names import Namespace
from lakeflow_local.pipelines.spec import PipelineSpec

_FRESH_SECONDS = 2


@dataclass(frozen=True)
class Outline:
    """A pipeline as its sources tell it: the JSON of `lakeflow-local pipelines graph KEY --json`.

    Attributes:
        datasets: each with `name`, `full` (in lower case), `kind`, `inputs` (full where they are datasets), `file`,
            `line`, `expectations`.
        faults: a line each.
    """

    datasets: tuple[Mapping[str, Any], ...] = ()
    faults: tuple[str, ...] = ()


class Project:
    """A bundle and its home.

    Args:
        target: the bundle's target; None as in `load.load`.
        variables: `NAME=VALUE`.

    Raises:
        LakeflowError: there is no bundle, or it is at fault.
    """

    def __init__(self, home: Home, target: str | None = None, variables: Sequence[str] = ()):
        self.home = home
        self._asked = target, tuple(variables)
        self._lock = threading.Lock()
        self._loaded: tuple[float, Bundle] | None = None
        self._outlines: dict[str, tuple[object, Outline]] = {}
        self._outlining = threading.Lock()
        self.bundle()

    def bundle(self) -> Bundle:
        """The bundle, read again when it is older than a moment.

        Raises:
            LakeflowError: its files are at fault now.
        """
        with self._lock:
            if self._loaded is None or time.monotonic() - self._loaded[0] > _FRESH_SECONDS:
                self._loaded = time.monotonic(), load.load(self.home.root, *self._asked)
            return self._loaded[1]

    def arguments(self) -> list[str]:
        """What a command needs to see the same bundle."""
        target, variables = self._asked
        return [*(("--target", target) if target else ()), *(f"--var={item}" for item in variables)]

    def resource(self, type: str, key: str) -> Resource | None:
        return self.bundle().of_type(type).get(key)

    def runs(self, key: str) -> Runs:
        return Runs(self.home, key)

    def spec(self, pipeline: Resource) -> PipelineSpec:
        return pipelines.spec(self.bundle(), pipeline, self.home)

    def outline(self, pipeline: Resource) -> Outline:
        """The graph of a pipeline, kept until its sources change; a process of its own follows them, since they run."""
        try:
            spec = self.spec(pipeline)
        except LakeflowError as error:
            return Outline(faults=(str(error),))
        stamp = _stamp(spec)
        with self._outlining:
            kept = self._outlines.get(pipeline.key)
            if kept is None or kept[0] != stamp:
                kept = stamp, self._followed(spec)
                self._outlines[pipeline.key] = kept
        return kept[1]

    def follow_all(self) -> None:
        """Follows the sources of every pipeline before somebody asks."""
        for pipeline in self.bundle().of_type("pipelines").values():
            self.outline(pipeline)

    def _followed(self, spec: PipelineSpec) -> Outline:
        command = [sys.executable, "-m", "lakeflow_local.cli", "pipelines", "graph", spec.key, "--json"]
        done = subprocess.run(
            [*command, *self.arguments()],
            cwd=self.home.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        try:
            found = json.loads(done.stdout)
        except ValueError:
            said = done.stderr.strip().splitlines()
            return Outline(faults=(said[-1] if said else f"the sources of {spec.name} could not be followed",))
        names = Namespace(spec.catalog, spec.schema)
        full = {item["name"]: _full(names, item["name"], item["kind"]) for item in found["datasets"]}
        return Outline(
            tuple(
                {**item, "full": full[item["name"]], "inputs": [full.get(name, name) for name in item["inputs"]]}
                for item in found["datasets"]
            ),
            tuple(str(LakeflowError(e["message"], file=e["file"], line=e["line"])) for e in found["errors"]),
        )


def _full(names: Namespace, name: str, kind: str) -> str:
    if kind in ("temporary_view", "sink"):
        return name.lower()
    try:
        return names.full(name)
    except LakeflowError:
        return name.lower()


def _stamp(spec: PipelineSpec) -> object:
    """Changes with the definition and with every file that may be a source or a module of it."""
    folders = {spec.root_path} if spec.root_path else {source.parent for source in spec.sources}
    files = {*spec.sources, *(file for folder in folders for file in folder.rglob("*.py"))}
    return spec, tuple(sorted((str(file), _changed(file)) for file in files))


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
