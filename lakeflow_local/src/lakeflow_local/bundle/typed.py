"""Checks resources against the typed classes of `databricks-bundles`, with the line of each fault."""

from __future__ import annotations

import typing
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from enum import Enum
from functools import cache
from importlib import import_module
from types import NoneType, UnionType
from typing import Any

from lakeflow_local.bundle.load import Resource
from lakeflow_local.bundle.tree import Value
from lakeflow_local.errors import LakeflowError

_SCALARS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
_BOOLEANS = ("true", "false", "yes", "no", "on", "off", "y", "n")


@cache
def resource_class(name: str) -> Any:
    """The class of a resource type such as `jobs`; None where there is no such type."""
    from databricks.bundles.core import Resource as Base

    try:
        module = import_module(f"databricks.bundles.{name}")
    except ModuleNotFoundError:
        return None
    return next((item for item in vars(module).values() if isinstance(item, type) and issubclass(item, Base)), None)


def check(resource: Resource) -> list[LakeflowError]:
    """Every key that does not exist or is missing and every value of a wrong type, by line."""
    cls = resource_class(resource.type)
    if cls is None:
        return [resource.value.error(f"there is no resource type `{resource.type}`")]
    faults: list[LakeflowError] = []
    _check(resource.value, cls, resource.label, faults)
    if not faults:
        try:
            cls.from_dict(resource.value.plain())
        except (ValueError, TypeError) as error:
            faults.append(resource.value.error(f"{resource.label}: {error}"))
    return faults


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _check(value: Value, expected: Any, where: str, faults: list[LakeflowError]) -> None:
    expected = _unwrap(expected)
    data = value.data
    if data is None or expected is Any:
        return
    origin = typing.get_origin(expected)
    if isinstance(expected, type) and is_dataclass(expected):
        if not isinstance(data, dict):
            faults.append(value.error(f"{where} must be a mapping"))
            return
        hints = _hints(expected)
        for key, item in data.items():
            if key in hints:
                _check(item, hints[key], f"{where}.{key}", faults)
            else:
                close = get_close_matches(key, hints, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                faults.append(item.error(f"unknown key `{key}` in {where}{hint}"))
        for field in fields(expected):
            required = field.default is MISSING and field.default_factory is MISSING
            if required and (field.name not in data or data[field.name].data is None):
                faults.append(value.error(f"{where} needs `{field.name}`"))
    elif origin is list:
        if not isinstance(data, list):
            faults.append(value.error(f"{where} must be a list"))
            return
        for number, item in enumerate(data):
            _check(item, typing.get_args(expected)[0], f"{where}[{number}]", faults)
    elif origin is dict:
        if not isinstance(data, dict):
            faults.append(value.error(f"{where} must be a mapping"))
            return
        for key, item in data.items():
            _check(item, typing.get_args(expected)[1], f"{where}.{key}", faults)
    elif isinstance(data, dict | list):
        faults.append(
            value.error(f"{where} must be a single value, not a {'mapping' if isinstance(data, dict) else 'list'}")
        )
    elif isinstance(expected, type) and issubclass(expected, Enum):
        words = [str(word.value) for word in expected]
        if str(data) not in words:
            faults.append(value.error(f"{where} is one of {', '.join(words)}, not {data}"))
    elif expected in _SCALARS and not _fits(data, expected):
        faults.append(value.error(f"{where} must be {_SCALARS[expected]}, not `{data}`"))


def _unwrap(expected: Any) -> Any:
    """`T` for `Variable[T] | T | None`."""
    from databricks.bundles.core import Variable

    while typing.get_origin(expected) in (typing.Union, UnionType):
        expected = next(
            item
            for item in typing.get_args(expected)
            if item is not NoneType and typing.get_origin(item) is not Variable and item is not Variable
        )
    return expected


def _fits(data: Any, expected: type) -> bool:
    if expected is bool:
        return isinstance(data, bool) or str(data).lower() in _BOOLEANS
    if expected is int or expected is float:
        try:
            return not isinstance(data, bool) and expected(data) == float(data)
        except (TypeError, ValueError):
            return False
    return True
