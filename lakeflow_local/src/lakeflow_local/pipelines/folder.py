"""A pipeline without a bundle: a folder of sources, one file, or a project of Apache Spark (`spark-pipeline.yml`)."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lakeflow_local.errors import LakeflowError
from lakeflow_local.files import matching
from lakeflow_local.home import Home
from lakeflow_local.pipelines.notebooks import SUFFIXES
from lakeflow_local.pipelines.spec import PipelineSpec

_CATALOG = "spark_catalog"
_PROJECT_FILES = ("spark-pipeline.yml", "spark-pipeline.yaml")
_PROJECT_KEYS = frozenset({"name", "storage", "catalog", "database", "schema", "configuration", "libraries"})


def spec(path: Path, home: Home, *, schema: str | None = None, configuration: Mapping[str, str]) -> PipelineSpec:
    """The pipeline of a folder or of a file.

    Args:
        path: a folder with sources at any depth, one source, or a project of Apache Spark: its folder or its
            `spark-pipeline.yml`.
        schema: where unqualified names go; by default what the project says, or else the folder's name.
        configuration: wins over the project's own.

    Raises:
        LakeflowError: there is no such folder or file, no source in it, or the project's file is wrong.
    """
    path = path.resolve()
    if path.name in _PROJECT_FILES:
        return _project(path, home, schema, configuration)
    if path.is_dir() and (found := [path / name for name in _PROJECT_FILES if (path / name).is_file()]):
        return _project(found[0], home, schema, configuration)
    if path.is_file():
        sources = [path]
    elif path.is_dir():
        sources = _sources(path, path.rglob("*"))
    else:
        raise LakeflowError(f"there is no {path}; give the folder that holds the pipeline's .py and .sql files")
    if not sources:
        raise LakeflowError(f"{path} holds no {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file")
    name = re.sub(r"\W+", "_", path.stem if path.is_file() else path.name).strip("_").lower() or "pipeline"
    own = uuid.uuid5(uuid.NAMESPACE_URL, path.as_uri())
    return PipelineSpec(
        key=name,
        name=path.name,
        id=str(own),
        catalog=_CATALOG,
        schema=schema or name,
        sources=tuple(sources),
        root_path=path.parent if path.is_file() else path,
        configuration=configuration,
        storage=_storage(home, name, own),
    )


def _sources(folder: Path, files: Any) -> list[Path]:
    return sorted(
        file
        for file in files
        if file.suffix in SUFFIXES and not any(p.startswith(("_", ".")) for p in file.relative_to(folder).parts)
    )


def _storage(home: Home, name: str, own: uuid.UUID) -> str:
    return str(home.pipelines / "folders" / f"{name}-{own.hex[:8]}")


def _project(file: Path, home: Home, schema: str | None, configuration: Mapping[str, str]) -> PipelineSpec:
    """A project as Apache Spark's `spark-pipelines` reads it, with its checks."""

    def fail(message: str) -> LakeflowError:
        return LakeflowError(message, file=file)

    try:
        given = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise LakeflowError(f"is not YAML: {error.problem}", file=file, line=line) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise fail(f"cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict):
        raise fail("is empty; it needs a name and libraries")
    if unknown := sorted(str(key) for key in given.keys() - _PROJECT_KEYS):
        raise fail(f"{unknown[0]} is no key of a pipeline; those are {', '.join(sorted(_PROJECT_KEYS))}")
    if not given.get("name"):
        raise fail("needs a name")
    own_configuration = given.get("configuration") or {}
    if not isinstance(own_configuration, dict) or not all(isinstance(v, str) for v in own_configuration.values()):
        raise fail("configuration has to be a mapping of texts to texts; put numbers and booleans in quotes")
    folder = file.parent
    sources: list[Path] = []
    libraries = given.get("libraries") or []
    for library in libraries if isinstance(libraries, list) else [None]:
        try:
            pattern = str(library["glob"]["include"] or "")
            found = _sources(folder, matching(folder, f"{pattern}/*" if pattern.endswith("/**") else pattern))
        except (KeyError, TypeError, ValueError):
            raise fail("a library is written as `glob: {include: folder/**}`") from None
        if not found:
            raise fail(f"the library {library['glob']['include']} matches no {', '.join(SUFFIXES)} file")
        sources += [source for source in found if source not in sources]
    if not sources:
        raise fail("has no libraries; name the files with `glob: {include: transformations/**}`")
    name = str(given["name"])
    own = uuid.uuid5(uuid.NAMESPACE_URL, file.as_uri())
    key = re.sub(r"\W+", "_", name).strip("_").lower() or "pipeline"
    storage = str(given["storage"]).removeprefix("file://") if given.get("storage") else _storage(home, key, own)
    return PipelineSpec(
        key=key,
        name=name,
        id=str(own),
        catalog=str(given.get("catalog") or _CATALOG),
        schema=schema or str(given.get("database") or given.get("schema") or "default"),
        sources=tuple(sources),
        root_path=folder,
        configuration={**own_configuration, **configuration},
        storage=storage,
    )
