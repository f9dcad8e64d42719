"""A pipeline of the bundle as the runtime wants it."""

from __future__ import annotations

from pathlib import Path

from lakeflow_local.bundle.load import Bundle, Resource, path_of
from lakeflow_local.bundle.tree import Value
from lakeflow_local.errors import UnsupportedError
from lakeflow_local.home import Home
from lakeflow_local.pipelines.spec import PipelineSpec

SOURCE_SUFFIXES = (".py", ".sql")


def files_of(library: Value) -> list[Path]:
    """The files of one entry under `libraries`, sorted; empty where it matches none.

    Raises:
        UnsupportedError: for a jar, a Maven coordinate or a notebook in the workspace.
    """
    for kind in ("file", "notebook"):
        if (path := library.get(kind, "path")) is not None:
            file = path_of(path)
            found = [file, *(file.with_name(file.name + suffix) for suffix in SOURCE_SUFFIXES)]
            return [candidate for candidate in found if candidate.is_file()][:1]
    if (include := library.get("glob", "include")) is not None:
        pattern = path_of(include)
        anchor = next(folder for folder in pattern.parents if "*" not in str(folder) and "?" not in str(folder))
        rest = str(pattern.relative_to(anchor))
        matching = anchor.glob(f"{rest}/*" if rest.endswith("**") else rest)
        return sorted(
            file
            for file in matching
            if file.is_file()
            and file.suffix in SOURCE_SUFFIXES
            and not any(part.startswith((".", "__pycache__")) for part in file.relative_to(anchor).parts)
        )
    kind = next(iter(library.data), "empty entry") if isinstance(library.data, dict) else "entry"
    raise UnsupportedError(
        f"a {kind} among a pipeline's libraries is not supported on this machine; use glob or file",
        file=library.place.file,
        line=library.place.line,
    )


def spec(bundle: Bundle, pipeline: Resource, home: Home) -> PipelineSpec:
    """What an update needs to know of `pipeline`."""
    value = pipeline.value
    for key in ("ingestion_definition", "gateway_definition"):
        if value.plain(key):
            at = value[key].place
            raise UnsupportedError(
                f"`{key}` of a pipeline is not supported on this machine; leave it to another target",
                file=at.file,
                line=at.line,
            )
    for key in ("catalog", "schema"):
        if not value.plain(key):
            raise value.error(f"{pipeline.label} needs `{key}`")
    sources: list[Path] = []
    for library in value.sequence("libraries"):
        found = files_of(library)
        if not found:
            raise library.error(f"{pipeline.label}: this matches no .py or .sql file")
        sources += [file for file in found if file not in sources]
    event_log = value.get("event_log")
    published = None
    if event_log is not None and event_log.plain("name"):
        catalog = event_log.plain("catalog", default=value.plain("catalog"))
        schema = event_log.plain("schema", default=value.plain("schema"))
        published = f"{catalog}.{schema}.{event_log.plain('name')}"
    root = value.get("root_path")
    return PipelineSpec(
        key=pipeline.key,
        name=pipeline.name,
        id=pipeline.id,
        catalog=str(value.plain("catalog")),
        schema=str(value.plain("schema")),
        sources=tuple(sources),
        storage=str(home.pipelines / bundle.target / pipeline.key),
        root_path=path_of(root) if root is not None else None,
        configuration={key: _text(item) for key, item in value.plain("configuration", default={}).items()},
        parameters={key: _text(item) for key, item in value.plain("parameters", default={}).items()},
        event_log=published,
    )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
