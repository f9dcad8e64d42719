"""Reads a bundle: `databricks.yml`, what it includes, one target's overrides, variables and references."""

from __future__ import annotations

import getpass
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lakeflow_local.bundle import variables as bundle_variables
from lakeflow_local.bundle.tree import Value, merge, of, read
from lakeflow_local.errors import LakeflowError
from lakeflow_local.files import matching

FILE = "databricks.yml"
LOCAL_TARGET = "local"

_SECTIONS = {
    "artifacts", "bundle", "environments", "experimental", "include", "permissions", "presets", "python",
    "resources", "run_as", "scripts", "sync", "targets", "variables", "workspace",
}  # fmt: skip
_TARGET_KEYS = {
    "artifacts", "bundle", "cluster_id", "compute_id", "default", "git", "mode", "permissions", "presets",
    "resources", "run_as", "sync", "variables", "workspace",
}  # fmt: skip
_BUNDLE_KEYS = {"cluster_id", "compute_id", "databricks_cli_version", "deployment", "engine", "git", "name", "uuid"}
_PRESET_KEYS = {
    "artifacts_dynamic_version", "jobs_max_concurrent_runs", "name_prefix", "pipelines_development",
    "source_linked_deployment", "tags", "trigger_pause_status",
}  # fmt: skip
_MODES = {"development", "production"}

# Where a name prefix goes, and whether only word characters may stand there.
_PREFIXED = {
    "alerts": ("display_name", False),
    "clusters": ("cluster_name", False),
    "dashboards": ("display_name", False),
    "experiments": ("name", False),
    "jobs": ("name", False),
    "model_serving_endpoints": ("name", True),
    "models": ("name", False),
    "pipelines": ("name", False),
    "registered_models": ("name", True),
    "schemas": ("name", True),
    "sql_warehouses": ("name", False),
}
_TAGGED = ("jobs", "pipelines")
_S3 = re.compile(r"s3[an]?://([^/\s\"'\0]+)(?=[/\s\"']|$)")


@dataclass(frozen=True)
class Resource:
    """One resource with every reference resolved.

    Attributes:
        type: as under `resources:`, such as `jobs`.
        id: what `${resources.<type>.<key>.id}` gives here; the same in every run.
    """

    type: str
    key: str
    value: Value
    id: str

    @property
    def name(self) -> str:
        return str(self.value.plain("name", default=self.value.plain("display_name", default=self.key)))

    @property
    def label(self) -> str:
        """The way to it in the bundle."""
        return f"resources.{self.type}.{self.key}"


@dataclass(frozen=True)
class Bundle:
    """A bundle as one target sees it.

    Attributes:
        root: the folder of `databricks.yml`.
        value: the whole of it, targets applied and references resolved.
        variables: the value of each variable.
        resources: by type, then by key.
        paused: triggers and schedules without a `pause_status` of their own do not fire.
        embedded_buckets: the buckets that the files themselves name in `s3://` URLs; not those that
            come from `--var`, `BUNDLE_VAR_…` or a kept override. Empty for targets that are not the local one.
    """

    root: Path
    name: str
    uuid: uuid.UUID
    target: str
    value: Value
    variables: Mapping[str, Any]
    resources: Mapping[str, Mapping[str, Resource]]
    paused: bool
    embedded_buckets: tuple[str, ...]

    def of_type(self, type: str) -> Mapping[str, Resource]:
        return self.resources.get(type, {})

    def find(self, key: str, *types: str) -> Resource:
        """The resource `key` of one of `types`."""
        for type in types:
            if key in self.of_type(type):
                return self.resources[type][key]
        known = sorted(name for type in types for name in self.of_type(type))
        kinds = " or ".join(type.rstrip("s") for type in types)
        listed = f"; there are {', '.join(known)}" if known else ""
        raise LakeflowError(f"the bundle has no {kinds} `{key}`{listed}", file=self.root / FILE)

    def by_id(self, type: str, id: object) -> Resource | None:
        return next((resource for resource in self.of_type(type).values() if resource.id == str(id)), None)


def path_of(value: Value) -> Path:
    """The file or folder that a value names, relative to the file in which it stands."""
    return Path(os.path.normpath(value.place.file.parent / str(value.data)))


def embedded_buckets(bundle: Bundle) -> tuple[str, ...]:
    return bundle.embedded_buckets


def load(
    root: Path,
    target: str | None = None,
    variables: Sequence[str] = (),
    *,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
) -> Bundle:
    """Reads the bundle in `root`.

    Args:
        target: its name; None takes `local` if there is one, else the default target.
        variables: `NAME=VALUE` as given to `--var`.
        environment: where `BUNDLE_VAR_<name>` is looked up; the process's own by default.
        user: the user name that `${workspace.current_user.…}` is made from; by default who runs this.

    Raises:
        LakeflowError: the first fault, with its file and line.
    """
    bundle, faults = examine(root, target, variables, environment=environment, user=user)
    if faults or bundle is None:
        first = faults[0]
        more = f" (and {len(faults) - 1} more; see `bundle validate`)" if len(faults) > 1 else ""
        raise LakeflowError(first.message + more, file=first.file, line=first.line)
    return bundle


def examine(
    root: Path,
    target: str | None = None,
    variables: Sequence[str] = (),
    *,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
) -> tuple[Bundle | None, list[LakeflowError]]:
    """As `load`, but returns all faults; the bundle is None only where no target can be chosen."""
    root = root.resolve()
    environment = os.environ if environment is None else environment
    faults: list[LakeflowError] = []
    file = root / FILE
    if not file.is_file():
        return None, [LakeflowError(f"there is no {FILE} in {root}; run this inside a bundle's folder")]
    tree = _read_all(root, file, faults)
    _check_keys(tree, faults)
    try:
        name = _choose(tree, target, file)
        given = {
            key: (value, "variable-overrides.json")
            for key, value in bundle_variables.overrides_file(root, name).items()
        }
        given |= {
            key[len("BUNDLE_VAR_") :]: (value, key)
            for key, value in environment.items()
            if key.startswith("BUNDLE_VAR_")
        }
        given |= {key: (value, "--var") for key, value in bundle_variables.command_line(variables).items()}
    except LakeflowError as error:
        return None, [*faults, error]
    tree = _apply_target(tree, name)
    _check_unique(tree, faults)

    user = user or _user()
    place = tree.place
    sections = bundle_variables.builtin(
        tree.get("bundle") or of({}, place), tree.get("workspace"), root, name, user, place
    )
    tree = Value({**tree.data, **sections}, place)
    identity = _uuid(tree, faults)
    ids = _ids(tree, identity, name)

    resolved = _resolve(tree, given, ids, faults)
    # The same bundle with a mark in place of every value from outside shows which URLs are the file's own.
    marked = _resolve(tree, {key: ("\0", origin) for key, (_, origin) in given.items()}, ids, [])
    local = name == LOCAL_TARGET or LOCAL_TARGET not in tree.mapping("targets")
    buckets = set().union(
        _buckets(marked.get("resources")),
        *(_buckets(variable.get("value")) for variable in marked.mapping("variables").values()),
    )
    for text in resolved.mapping("variables"):
        if not re.fullmatch(r"[A-Za-z_][\w-]*", text):
            faults.append(resolved["variables"][text].error(f"`{text}` cannot be the name of a variable"))
    resources = {
        type: {
            key: Resource(type, key, value, _id(ids, type, key, value))
            for key, value in entries.data.items()
            if isinstance(value.data, dict)
        }
        for type, entries in resolved.mapping("resources").items()
        if isinstance(entries.data, dict)
    }
    bundle = Bundle(
        root=root,
        name=str(resolved.plain("bundle", "name", default="")),
        uuid=identity,
        target=name,
        value=resolved,
        variables={key: value.plain("value") for key, value in resolved.mapping("variables").items()},
        resources=resources,
        paused=_paused(resolved),
        embedded_buckets=tuple(sorted(buckets)) if local else (),
    )
    return bundle, sorted(faults, key=lambda fault: (str(fault.file or ""), fault.line or 0))


def _user() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # no entry in the password database, as in some containers
        name = "local"
    return f"{name}@localhost"  # in a workspace it is an e-mail address


def _read_all(root: Path, file: Path, faults: list[LakeflowError]) -> Value:
    tree = read(file, faults)
    owners: dict[tuple[str, str], Value] = {}
    known = {file}
    for pattern in tree.sequence("include"):
        try:
            found = [path for path in matching(root, str(pattern.data or "")) if path.is_file()]
        except ValueError as error:
            faults.append(pattern.error(f"include: {error}"))
            continue
        # As in Databricks' CLI: only a file that is named has to be there.
        if not found and not re.search(r"[*?\[]", str(pattern.data)):
            faults.append(pattern.error(f"include: no file matches {pattern.data}"))
        for included in found:
            # Two patterns may match one file.
            if included in known:
                continue
            known.add(included)
            part = read(included, faults)
            for key in ("include", "bundle"):
                if key in part:
                    faults.append(part[key].error(f"`{key}` is read in {FILE} only"))
            for type, entries in part.mapping("resources").items():
                for key, value in entries.data.items() if isinstance(entries.data, dict) else ():
                    first = owners.setdefault((type, key), value)
                    if first is not value:
                        faults.append(value.error(f"resources.{type}.{key} is also defined in {_line(first, root)}"))
            tree = merge(tree, part)
    return tree


def _line(value: Value, root: Path) -> str:
    return f"{os.path.relpath(value.place.file, root)}:{value.place.line}"


def _check_keys(tree: Value, faults: list[LakeflowError]) -> None:
    def check(value: Value | None, known: set[str], where: str) -> None:
        if value is None:
            return
        if not isinstance(value.data, dict):
            if value.data is not None:
                faults.append(value.error(f"{where} must be a mapping"))
            return
        for key, item in value.data.items():
            if key not in known:
                close = get_close_matches(key, known, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                faults.append(item.error(f"unknown key `{key}` in {where}{hint}"))

    check(tree, _SECTIONS, "the bundle")
    check(tree.get("bundle"), _BUNDLE_KEYS, "bundle")
    check(tree.get("presets"), _PRESET_KEYS, "presets")
    for name, variable in tree.mapping("variables").items():
        if isinstance(variable.data, dict):
            check(variable, bundle_variables.VARIABLE_KEYS, f"variables.{name}")
    for name, target in tree.mapping("targets").items():
        check(target, _TARGET_KEYS, f"targets.{name}")
        check(target.get("presets"), _PRESET_KEYS, f"targets.{name}.presets")
        check(target.get("bundle"), _BUNDLE_KEYS, f"targets.{name}.bundle")
        mode = target.get("mode")
        if mode is not None and str(mode.data) not in _MODES:
            faults.append(mode.error(f"the mode of a target is {' or '.join(sorted(_MODES))}, not {mode.data}"))
        for key, value in target.mapping("variables").items():
            if key not in tree.mapping("variables"):
                faults.append(value.error(f"targets.{name} sets the variable {key}, which the bundle does not have"))
    if not tree.plain("bundle", "name"):
        faults.append((tree.get("bundle") or tree).error("a bundle needs `bundle.name`"))


def _choose(tree: Value, target: str | None, file: Path) -> str:
    targets = tree.mapping("targets")
    if target is not None:
        if target not in targets:
            raise LakeflowError(f"there is no target {target}; there are {', '.join(targets) or 'none'}", file=file)
        return target
    if not targets or LOCAL_TARGET in targets:
        return LOCAL_TARGET if LOCAL_TARGET in targets else "default"
    defaults = [name for name, value in targets.items() if value.plain("default") is True]
    if len(defaults) > 1:
        raise targets[defaults[1]].error(f"more than one target is the default: {', '.join(defaults)}")
    if defaults or len(targets) == 1:
        return (defaults or list(targets))[0]
    raise LakeflowError(f"choose a target with -t: {', '.join(targets)}", file=file)


def _apply_target(tree: Value, name: str) -> Value:
    """The sections of the target merged over those of the bundle."""
    target = tree.get("targets", name)
    if target is None or not isinstance(target.data, dict):
        return tree
    for key, value in target.data.items():
        if key == "variables":
            declared = tree.mapping("variables")
            changed = {
                variable: bundle_variables.normalize_target(declared.get(variable), item)
                for variable, item in (value.data.items() if isinstance(value.data, dict) else ())
            }
            base = tree.get("variables") or value
            tree = tree.with_entry("variables", Value({**declared, **changed}, base.place))
        elif key == "run_as" or key not in tree:
            tree = tree.with_entry(key, value)
        else:
            tree = tree.with_entry(key, merge(tree[key], value, key))
    return tree


def _check_unique(tree: Value, faults: list[LakeflowError]) -> None:
    owners: dict[str, tuple[str, Value]] = {}
    for type, entries in tree.mapping("resources").items():
        for key, value in entries.data.items() if isinstance(entries.data, dict) else ():
            other, first = owners.setdefault(key, (type, value))
            if other != type:
                where = f"{first.place.file.name}:{first.place.line}"
                faults.append(value.error(f"the key {key} is used by {type} and by {other} ({where}); rename one"))


def _uuid(tree: Value, faults: list[LakeflowError]) -> uuid.UUID:
    given = tree.get("bundle", "uuid")
    if given is not None:
        try:
            return uuid.UUID(str(given.data))
        except ValueError:
            faults.append(given.error("bundle.uuid is not a UUID"))
    return uuid.uuid5(uuid.NAMESPACE_DNS, str(tree.plain("bundle", "name", default="")))


def _ids(tree: Value, identity: uuid.UUID, target: str) -> dict[str, Any]:
    ids: dict[str, Any] = {}
    for type, entries in tree.mapping("resources").items():
        for key in entries.data if isinstance(entries.data, dict) else ():
            path = f"resources.{type}.{key}"
            made = uuid.uuid5(identity, f"{target}/{type}/{key}")
            if type == "schemas":
                ids[f"{path}.id"] = f"${{{path}.catalog_name}}.${{{path}.name}}"
            else:
                ids[f"{path}.id"] = made.int % 10**15 if type == "jobs" else str(made)
    return ids


def _id(ids: Mapping[str, Any], type: str, key: str, value: Value) -> str:
    if type == "schemas":
        return f"{value.plain('catalog_name')}.{value.plain('name')}"
    return str(ids[f"resources.{type}.{key}.id"])


def _resolve(
    tree: Value, given: Mapping[str, tuple[Any, str]], ids: Mapping[str, Any], faults: list[LakeflowError]
) -> Value:
    tree = bundle_variables.assign(tree, given, faults)
    tree = _prefix(tree, bundle_variables.Resolver(tree, ids, faults))
    # `targets` stays as written: the references of another target need not resolve in this one.
    rest = Value({key: value for key, value in tree.data.items() if key != "targets"}, tree.place)
    return bundle_variables.Resolver(tree, ids, faults).resolve(rest)


def _prefix(tree: Value, resolver: bundle_variables.Resolver) -> Value:
    """Puts the prefix of the target before the names of resources, and its tags on them, as the CLI does."""
    tree = _tag(tree)
    prefix = resolver.resolve(tree.get("presets", "name_prefix") or of(None, tree.place)).data
    if prefix is None and tree.plain("mode") == "development":
        prefix = f"[dev {tree.plain('workspace', 'current_user', 'short_name')}] "
    if not prefix:
        return tree
    words = re.sub(r"_+", "_", re.sub(r"[^\w]", "_", str(prefix))).strip("_") + "_"
    types = {}
    for type, entries in tree.mapping("resources").items():
        field, only_words = _PREFIXED.get(type, (None, False))
        if field is None or not isinstance(entries.data, dict):
            types[type] = entries
            continue
        start = words if only_words else prefix
        types[type] = Value(
            {
                key: value.with_entry(field, of(f"{start}{name.data}", name.place))
                if (name := value.get(field)) is not None
                else value
                for key, value in entries.data.items()
            },
            entries.place,
        )
    return tree.with_entry("resources", Value(types, tree["resources"].place)) if types else tree


def _tag(tree: Value) -> Value:
    tags = tree.get("presets", "tags")
    if tags is None:
        return tree
    types = tree.mapping("resources")
    for type in _TAGGED:
        if type in types and isinstance(types[type].data, dict):
            tagged = {
                key: value.with_entry("tags", merge(tags, value.get("tags") or tags))
                for key, value in types[type].data.items()
                if isinstance(value.data, dict)
            }
            types = {**types, type: Value({**types[type].data, **tagged}, types[type].place)}
    return tree.with_entry("resources", Value(types, tree["resources"].place)) if types else tree


def _paused(tree: Value) -> bool:
    default = "PAUSED" if tree.plain("mode") == "development" else "UNPAUSED"
    return tree.plain("presets", "trigger_pause_status", default=default) == "PAUSED"


def _buckets(value: Value | None) -> set[str]:
    if value is None:
        return set()
    return {name for scalar in value.scalars() if isinstance(scalar.data, str) for name in _S3.findall(scalar.data)}
