"""A pipeline of the bundle as the runtime wants it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lakeflow_local.bundle import load
from lakeflow_local.bundle.load import Bundle, Resource, path_of
from lakeflow_local.bundle.tree import Value
from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.files import matching
from lakeflow_local.home import Home
from lakeflow_local.pipelines.names import Namespace
from lakeflow_local.pipelines.notebooks import SUFFIXES
from lakeflow_local.pipelines.spec import PipelineSpec


def files_of(library: Value) -> list[Path]:
    """The files of one entry under `libraries`, sorted; empty where it matches none.

    Raises:
        UnsupportedError: for a jar, a Maven coordinate or a notebook in the workspace.
    """
    for kind in ("file", "notebook"):
        if (path := library.get(kind, "path")) is not None:
            file = path_of(path)
            found = [file, *(file.with_name(file.name + suffix) for suffix in SUFFIXES)]
            return [candidate for candidate in found if candidate.is_file()][:1]
    if (include := library.get("glob", "include")) is not None:
        pattern = path_of(include)
        anchor = next(folder for folder in pattern.parents if "*" not in str(folder) and "?" not in str(folder))
        rest = str(pattern.relative_to(anchor))
        return [
            file
            for file in matching(anchor, f"{rest}/*" if rest.endswith("**") else rest)
            if file.is_file()
            and file.suffix in SUFFIXES
            and not any(part.startswith((".", "__pycache__")) for part in file.relative_to(anchor).parts)
        ]
    kind = next(iter(library.data), "empty entry") if isinstance(library.data, dict) else "entry"
    raise UnsupportedError(
        f"a {kind} among a pipeline's libraries is not supported on this machine; use glob or file",
        file=library.place.file,
        line=library.place.line,
    )


def no_file(library: Value, label: str) -> LakeflowError:
    return library.error(f"{label}: this matches no {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file")


def spec(bundle: Bundle, pipeline: Resource, home: Home, default: Namespace | None = None) -> PipelineSpec:
    """What an update needs to know of `pipeline`.

    Args:
        default: where a pipeline without a catalog or a schema writes; such a pipeline is at fault without it.
    """
    value = pipeline.value
    for key in ("ingestion_definition", "gateway_definition"):
        if value.plain(key):
            at = value[key].place
            raise UnsupportedError(
                f"`{key}` of a pipeline is not supported on this machine; leave it to another target",
                file=at.file,
                line=at.line,
            )
    catalog = value.plain("catalog") or (default and default.catalog)
    # `target` is what a schema was called before.
    schema = value.plain("schema") or value.plain("target") or (default and default.schema)
    for key, text in (("catalog", catalog), ("schema", schema)):
        if not text:
            raise value.error(f"{pipeline.label} needs `{key}`")
    sources: list[Path] = []
    for library in value.sequence("libraries"):
        found = files_of(library)
        if not found:
            raise no_file(library, pipeline.label)
        sources += [file for file in found if file not in sources]
    if not sources:
        raise value.error(f"{pipeline.label} has no sources; give them under `libraries`")
    event_log = value.get("event_log")
    published = None
    if event_log is not None and event_log.plain("name"):
        place = (event_log.plain("catalog", default=catalog), event_log.plain("schema", default=schema))
        published = ".".join(map(str, (*place, event_log.plain("name"))))
    root = value.get("root_path")
    return PipelineSpec(
        key=pipeline.key,
        name=pipeline.name,
        id=pipeline.id,
        catalog=str(catalog),
        schema=str(schema),
        sources=tuple(sources),
        storage=str(home.pipelines / bundle.target / pipeline.key),
        root_path=path_of(root) if root is not None else None,
        configuration={
            key: _text(item) for key, item in value.plain("configuration", default={}).items() if item is not None
        },
        parameters={key: _text(item) for key, item in value.plain("parameters", default={}).items()},
        event_log=published,
    )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def to_draw(
    root: Path, home: Home, key: str | None, *, target: str | None, variables: Sequence[str]
) -> tuple[list[PipelineSpec], list[LakeflowError]]:
    """The pipelines of the bundle in `root`, or the one called `key`, as far as their sources need to know them.

    What is wrong elsewhere in the bundle does not matter: a variable without a value is a setting that is not known.

    Returns:
        the pipelines, and what was passed over, such as pipelines that only ingest.
    Raises:
        LakeflowError: there is no such pipeline, or a pipeline's sources are not there.
    """
    bundle, faults = load.examine(root, target, variables)
    if bundle is None:
        raise faults[-1]
    found = bundle.of_type("pipelines")
    if key is not None and key not in found and faults:
        raise faults[0]
    specs = []
    for pipeline in found.values() if key is None else [bundle.find(key, "pipelines")]:
        try:
            specs.append(spec(bundle, pipeline, home, Namespace("spark_catalog", pipeline.key)))
        except UnsupportedError as error:
            if key is not None:
                raise
            faults.append(error)
    return specs, faults
