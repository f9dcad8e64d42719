"""What an update needs to know of a pipeline, wherever its definition stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class PipelineSpec:
    """One pipeline.

    Attributes:
        key: its name in the bundle, or the folder's name.
        name: as shown to people.
        id: stable between updates; part of the event log.
        catalog: where unqualified names of datasets go.
        schema: where unqualified names of datasets go.
        sources: the Python and SQL files, in the order of the definition.
        root_path: the folder that is put on `sys.path` while sources are loaded, if any.
        configuration: what `spark.conf.get` and `${key}` see.
        parameters: what `:name` sees in SQL sources.
        storage: folder or URL for checkpoints, kept schemas and ordering state.
        event_log: three-part name of the table that the event log is published to, if any.
    """

    key: str
    name: str
    id: str
    catalog: str
    schema: str
    sources: tuple[Path, ...]
    storage: str
    root_path: Path | None = None
    configuration: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    event_log: str | None = None

    def with_configuration(self, more: Mapping[str, str]) -> PipelineSpec:
        """The same pipeline with further configuration, which wins over its own."""
        return replace(self, configuration={**self.configuration, **more})
