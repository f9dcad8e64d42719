"""YAML as a tree that still knows where each value was written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import yaml

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines.graph import Place

# The lists that a target's override merges by key instead of appending to, as the databricks CLI does.
KEYED_LISTS = {
    "tasks": "task_key",
    "job_clusters": "job_cluster_key",
    "environments": "environment_key",
    "parameters": "name",
    "clusters": "label",
}


@dataclass(frozen=True, slots=True)
class Value:
    """A scalar, a list of values or a mapping of names to values, and the line of its key or item."""

    data: Any
    place: Place

    def __getitem__(self, key: str | int) -> Value:
        return self.data[key]

    def __contains__(self, key: str) -> bool:
        return isinstance(self.data, dict) and key in self.data

    def get(self, *path: str) -> Value | None:
        """The value at `path`, or None where a part of it is missing."""
        value: Value | None = self
        for key in path:
            value = value.data.get(key) if value is not None and isinstance(value.data, dict) else None
        return value

    def plain(self, *path: str, default: Any = None) -> Any:
        """The value at `path` as plain Python, or `default`."""
        value = self.get(*path)
        if value is None or value.data is None:
            return default
        if isinstance(value.data, dict):
            return {key: item.plain() for key, item in value.data.items()}
        if isinstance(value.data, list):
            return [item.plain() for item in value.data]
        return value.data

    def mapping(self, *path: str) -> dict[str, Value]:
        """The mapping at `path`; empty where there is none."""
        value = self.get(*path)
        return value.data if value is not None and isinstance(value.data, dict) else {}

    def sequence(self, *path: str) -> list[Value]:
        """The list at `path`; empty where there is none."""
        value = self.get(*path)
        return value.data if value is not None and isinstance(value.data, list) else []

    def with_entry(self, key: str, value: Value) -> Value:
        return replace(self, data={**self.data, key: value})

    def scalars(self) -> Iterator[Value]:
        """Every scalar below, in the order of the file."""
        if isinstance(self.data, dict):
            for item in self.data.values():
                yield from item.scalars()
        elif isinstance(self.data, list):
            for item in self.data:
                yield from item.scalars()
        else:
            yield self

    def error(self, message: str) -> LakeflowError:
        return LakeflowError(message, file=self.place.file, line=self.place.line)


def of(data: Any, place: Place) -> Value:
    """Plain Python as a tree, all of it at one place."""
    if isinstance(data, dict):
        return Value({str(key): of(item, place) for key, item in data.items()}, place)
    if isinstance(data, list | tuple):
        return Value([of(item, place) for item in data], place)
    return Value(data, place)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's scalars: `on`, `12:30` and `2024-01-01` are text, as they are to the databricks CLI."""

    yaml_implicit_resolvers: ClassVar[dict[str, list]] = {}


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def read(file: Path, faults: list[LakeflowError]) -> Value:
    """Reads one YAML file; what is wrong with it is added to `faults`, and the rest is returned."""
    empty = Value({}, Place(file, 1))
    try:
        text = file.read_text(encoding="utf-8")
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        faults.append(LakeflowError(f"this is not YAML: {error.problem}", file=file, line=line))
        return empty
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        faults.append(LakeflowError(f"this is not YAML in UTF-8: {error}", file=file))
        return empty
    except OSError as error:
        faults.append(LakeflowError(f"cannot be read: {error.strerror}", file=file))
        return empty
    if node is None:
        return empty
    value = _construct(loader, node, node.start_mark.line + 1, file, faults)
    if not isinstance(value.data, dict):
        faults.append(value.error("a bundle file is a mapping of keys such as `resources:`"))
        return empty
    return value


def _construct(loader: _Loader, node: yaml.Node, line: int, file: Path, faults: list[LakeflowError]) -> Value:
    place = Place(file, line)
    if isinstance(node, yaml.SequenceNode):
        items = [_construct(loader, item, item.start_mark.line + 1, file, faults) for item in node.value]
        return Value(items, place)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                message = "a key is a word; if this is a template's {{…}}, give the file that it makes"
                faults.append(LakeflowError(message, file=file, line=key.start_mark.line + 1))
                return Value(None, place)
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                message = f"the key `{key.value}` is given twice, first in line {seen[key.value]}; remove one"
                faults.append(LakeflowError(message, file=file, line=key.start_mark.line + 1))
            seen[key.value] = key.start_mark.line + 1
        loader.flatten_mapping(node)
        return Value(
            {
                str(key.value): _construct(loader, item, key.start_mark.line + 1, file, faults)
                for key, item in node.value
            },
            place,
        )
    try:
        return Value(loader.construct_object(node), place)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "unknown tag"
        faults.append(LakeflowError(f"this is not YAML: {problem}", file=file, line=line))
    except ValueError as error:
        faults.append(LakeflowError(f"this is not YAML: {error}", file=file, line=line))
    return Value(None, place)


def merge(base: Value, override: Value, key: str = "") -> Value:
    """The databricks CLI's merge: mappings by key, some lists by the key of their items, others one
    after the other; anything else is replaced."""
    if isinstance(base.data, dict) and isinstance(override.data, dict):
        merged = dict(base.data)
        for name, value in override.data.items():
            merged[name] = merge(merged[name], value, name) if name in merged else value
        return Value(merged, base.place)
    if isinstance(base.data, list) and isinstance(override.data, list):
        items = [*base.data, *override.data]
        if key in KEYED_LISTS and all(isinstance(item.data, dict) for item in items):
            items = _merge_keyed(items, KEYED_LISTS[key])
        return Value(items, base.place)
    return override


def _merge_keyed(items: list[Value], name: str) -> list[Value]:
    merged: dict[Any, Value] = {}
    for number, item in enumerate(items):
        key = item.plain(name, default=("unnamed", number))
        merged[key] = merge(merged[key], item) if key in merged else item
    return list(merged.values())
