"""Variables of a bundle and the `${…}` references to them, to resources and to the bundle itself."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lakeflow_local.bundle.tree import Value, of
from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines.graph import Place

VARIABLE_KEYS = {"default", "description", "lookup", "type"}
_ROOTS = ("artifacts", "bundle", "resources", "variables", "workspace")
# `$${a.b}` is text for the runtime, not a reference.
_REFERENCE = re.compile(r"(?<!\$)\$\{([^${}]*)\}")
_NESTED = re.compile(r"(?<!\$)\$\{[^{}]*\$\{")
_PATH = re.compile(r"[A-Za-z_][\w-]*(\[\d+\])*(\.[A-Za-z_][\w-]*(\[\d+\])*)+")


def command_line(assignments: Sequence[str]) -> dict[str, str]:
    """The values of `--var k=v`, which may hold several separated by commas as with the databricks CLI."""
    values: dict[str, str] = {}
    for assignment in assignments:
        for part in re.split(r",(?=\s*[A-Za-z_]\w*=)", assignment):
            name, equals, value = part.partition("=")
            if not equals or not name.strip():
                raise LakeflowError(f"--var {assignment}: write --var NAME=VALUE")
            values[name.strip()] = value
    return values


def overrides_file(root: Path, target: str) -> dict[str, Any]:
    """Values kept for one target on this machine, where the databricks CLI keeps them too."""
    file = root / ".databricks" / "bundle" / target / "variable-overrides.json"
    if not file.is_file():
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LakeflowError(f"this is not JSON: {error}", file=file) from None
    if not isinstance(values, dict):
        raise LakeflowError("write one JSON object, a value for each variable", file=file)
    return values


def normalize_target(declared: Value | None, value: Value) -> Value:
    """A target's `name: value` in the long form, merged over the declaration."""
    base = dict(declared.data) if declared is not None and isinstance(declared.data, dict) else {}
    if isinstance(value.data, dict) and value.data and set(value.data) <= VARIABLE_KEYS:
        given = value.data
    else:
        given = {"default": value}
    if "default" in given:
        base.pop("lookup", None)
    return Value({**base, **given}, declared.place if declared is not None else value.place)


def assign(
    tree: Value,
    given: Mapping[str, tuple[Any, str]],
    faults: list[LakeflowError],
) -> Value:
    """The tree with `variables.<name>.value` set for each variable.

    Args:
        given: values from outside the file, each with where it came from (`--var`, an environment
            variable, a file), which win over the target's and the default.
    """
    variables = tree.get("variables")
    declared = variables.data if variables is not None and isinstance(variables.data, dict) else {}
    for name, (_, origin) in given.items():
        if name not in declared and origin == "--var":
            faults.append(LakeflowError(f"--var {name}: the bundle has no such variable{_suggest(name, declared)}"))
    assigned: dict[str, Value] = {}
    for name, variable in declared.items():
        if not isinstance(variable.data, dict):
            variable = Value({"default": variable}, variable.place)
        if name in given:
            value, origin = given[name]
            if variable.plain("type") == "complex" and isinstance(value, str):
                faults.append(
                    variable.error(f"the complex variable {name} cannot be set by {origin}; set it in a target")
                )
            assigned[name] = variable.with_entry("value", of(value, variable.place))
        elif variable.plain("default") is not None:
            assigned[name] = variable.with_entry("value", variable["default"])
        elif (lookup := variable.get("lookup")) is not None:
            kind = next(iter(lookup.data), "?") if isinstance(lookup.data, dict) else "?"
            message = (
                f"the variable {name} is looked up in a workspace ({kind}), which this machine does not have;"
                f" set it in the target, by --var {name}=VALUE or by BUNDLE_VAR_{name}"
            )
            faults.append(UnsupportedError(message, file=lookup.place.file, line=lookup.place.line))
        else:
            faults.append(
                variable.error(
                    f"the variable {name} has no value; give it a default, set it in the target, by --var {name}=VALUE"
                    f" or by BUNDLE_VAR_{name}"
                )
            )
    # A variable that has no value was reported once; references to it are not reported again.
    missing = {
        name: variable.with_entry("value", Value(None, variable.place))
        for name, variable in declared.items()
        if name not in assigned and isinstance(variable.data, dict)
    }
    place = variables.place if variables is not None else tree.place
    return tree.with_entry("variables", Value({**assigned, **missing}, place))


def _suggest(name: str, known: Mapping[str, Any]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _written(path: str) -> str:
    """A path as people write it."""
    return re.sub(r"^variables\.([\w-]+)\.value", r"var.\1", path)


class Resolver:
    """Replaces references in the values of one tree.

    Args:
        tree: the whole bundle, with `variables.<name>.value`, `bundle` and `workspace` filled in.
        computed: values that no file gives, such as ids of resources, by the path of their reference.
        faults: where a reference that cannot be resolved is reported.
    """

    def __init__(self, tree: Value, computed: Mapping[str, Any], faults: list[LakeflowError]):
        self._tree = tree
        self._computed = computed
        self._faults = faults
        self._known: dict[str, Value] = {}
        self._open: list[str] = []

    def resolve(self, value: Value) -> Value:
        if isinstance(value.data, dict):
            return Value({key: self.resolve(item) for key, item in value.data.items()}, value.place)
        if isinstance(value.data, list):
            return Value([self.resolve(item) for item in value.data], value.place)
        if not isinstance(value.data, str) or "${" not in value.data:
            return value
        try:
            return self._text(value)
        except LakeflowError as error:
            if str(error) not in {str(known) for known in self._faults}:
                self._faults.append(error)
            return Value(None, value.place)

    def _text(self, value: Value) -> Value:
        text = value.data
        if _NESTED.search(text):
            raise value.error(f"a reference cannot stand inside another one: {text}")
        whole = _REFERENCE.fullmatch(text)
        if whole and _PATH.fullmatch(whole[1]):
            return Value(self._lookup(whole[1], value).data, value.place)

        def replacement(match: re.Match[str]) -> str:
            if not _PATH.fullmatch(match[1]):
                return match[0]
            found = self._lookup(match[1], value).data
            if isinstance(found, dict | list):
                raise value.error(f"{match[0]} is a list or a mapping and cannot stand inside a text")
            return str(found).lower() if isinstance(found, bool) else "" if found is None else str(found)

        return Value(_REFERENCE.sub(replacement, text).replace("$${", "${"), value.place)

    def _lookup(self, path: str, place: Value) -> Value:
        if path.startswith("var."):
            name, dot, rest = path[4:].partition(".")
            name, bracket, index = name.partition("[")
            path = f"variables.{name}.value{bracket}{index}{dot}{rest}"
        if path in self._known:
            return self._known[path]
        if path in self._open:
            loop = " → ".join(_written(step) for step in [*self._open[self._open.index(path) :], path])
            raise place.error(f"the references form a loop: {loop}")
        self._open.append(path)
        try:
            found = self.resolve(self._walk(path, place))
        finally:
            self._open.pop()
        self._known[path] = found
        return found

    def _walk(self, path: str, place: Value) -> Value:
        if path in self._computed:
            return of(self._computed[path], place.place)
        keys: list[str | int] = []
        for part in path.split("."):
            name, *indexes = part.split("[")
            keys += [name, *(int(index[:-1]) for index in indexes)]
        if keys[0] not in _ROOTS:
            roots = ", ".join(("var", *_ROOTS))
            raise place.error(f"${{{path}}} is not a reference; references begin with one of {roots}")
        node = self._tree
        for depth, key in enumerate(keys):
            if isinstance(node.data, str):
                node = self.resolve(node)
            inside = isinstance(node.data, dict) if isinstance(key, str) else isinstance(node.data, list)
            if not inside or (key not in node.data if isinstance(key, str) else key >= len(node.data)):
                raise place.error(self._undefined(path, keys, depth, node))
            node = node.data[key]
        return node

    @staticmethod
    def _undefined(path: str, keys: list[str | int], depth: int, node: Value) -> str:
        if keys[0] == "variables" and depth == 1:
            return f"${{var.{keys[1]}}}: the bundle has no such variable{_suggest(str(keys[1]), node.data)}"
        hint = _suggest(str(keys[depth]), node.data) if isinstance(node.data, dict) else ""
        return f"${{{path}}} is not defined: there is no `{keys[depth]}`{hint}"


def builtin(
    bundle: Value, workspace: Value | None, root: Path, target: str, user: str, place: Place
) -> dict[str, Value]:
    """The sections `bundle` and `workspace` with what the databricks CLI fills in."""
    name = bundle.plain("name", default="")
    short = re.sub(r"[^\w]", "_", user.partition("@")[0]).lower()
    given = workspace.mapping() if workspace is not None else {}
    base = "${workspace.root_path}"
    defaults = {
        "current_user": {"userName": user, "short_name": short, "domain_friendly_name": short.replace("_", "-")},
        "root_path": f"/Workspace/Users/{user}/.bundle/{name}/{target}",
        # The files of the bundle are where they are: nothing is uploaded.
        "file_path": str(root),
        "artifact_path": f"{base}/artifacts",
        "resource_path": f"{base}/resources",
        "state_path": f"{base}/state",
    }
    return {
        "bundle": Value(
            {**bundle.mapping(), "target": of(target, place), "environment": of(target, place)}, bundle.place
        ),
        "workspace": Value({**of(defaults, place).data, **given}, workspace.place if workspace is not None else place),
    }
