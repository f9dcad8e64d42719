"""The options of `cloudFiles` and `read_files`, checked."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from lakeflow_local.errors import LakeflowError, UnsupportedError

RESCUED = "_rescued_data"
TYPED_FORMATS = ("parquet", "avro", "orc")
FIXED_FORMATS = ("text", "binaryfile")
FORMATS = (*TYPED_FORMATS, *FIXED_FORMATS, "json", "csv", "xml")
MODES = ("addnewcolumns", "addnewcolumnswithtypewidening", "rescue", "failonnewcolumns", "none")

_SUFFIXES = {
    "json": "json",
    "jsonl": "json",
    "ndjson": "json",
    "csv": "csv",
    "tsv": "csv",
    "parquet": "parquet",
    "avro": "avro",
    "orc": "orc",
    "txt": "text",
    "xml": "xml",
}
_COMPRESSED = {"gz", "bz2", "zst", "snappy", "lz4", "deflate"}

_USED = {
    "allowoverwrites",
    "format",
    "includeexistingfiles",
    "infercolumntypes",
    "maxbytespertrigger",
    "maxfilespertrigger",
    "partitioncolumns",
    "readercasesensitive",
    "rescueddatacolumn",
    "schemaevolutionmode",
    "schemahints",
    "usestrictglobber",
    "validateoptions",
}
# How a workspace finds files, and where it keeps what it knows of them, changes nothing of what is read.
_NO_EFFECT = {
    "awsaccesskey",
    "awssecretkey",
    "backfillinterval",
    "cleansource",
    "cleansource.movedestination",
    "cleansource.retentionduration",
    "clientid",
    "clientsecret",
    "connectionstring",
    "fetchparallelism",
    "client",
    "clientemail",
    "listonstart",
    "maxfileage",
    "pathrewrites",
    "privatekey",
    "privatekeyid",
    "projectid",
    "queuename",
    "queueurl",
    "region",
    "resourcegroup",
    "resourcetag",
    "rolearn",
    "roleexternalid",
    "rolesessionname",
    "schemalocation",
    "servicecredential",
    "snsendpoint",
    "sqsendpoint",
    "stsendpoint",
    "subscription",
    "subscriptionid",
    "tenantid",
    "useincrementallisting",
    "usemanagedfileevents",
    "usenotifications",
    "databricks.servicecredential",
}
_LISTING = {"pathglobfilter": "pathGlobFilter", "modifiedafter": "modifiedAfter", "modifiedbefore": "modifiedBefore"}


@dataclass(frozen=True)
class Options:
    """What was asked for.

    Attributes:
        mode: one of `MODES`.
        rescued: the column for what does not fit, None for none.
        hints: DDL text, see `schema.apply_hints`.
        case_sensitive: names that differ in case only are different, and what they hold is rescued.
        partitions: the hive-style columns to take from paths, None for all that are found.
        strict: a glob matches what Spark's own file sources would find, and nothing below it.
        listing: options of the listing, spelt as Spark spells them.
        limits: of one batch, spelt as Spark spells them.
        reader: of the format's reader, in lower case.
        without_effect: those given that make no difference here.
        unknown: those that Databricks does not know, where they shall be passed over.
    """

    format: str
    mode: str
    rescued: str | None
    infer_types: bool
    hints: str | None
    case_sensitive: bool
    include_existing: bool
    allow_overwrites: bool
    partitions: tuple[str, ...] | None
    strict: bool
    listing: Mapping[str, str]
    limits: Mapping[str, str]
    reader: Mapping[str, str]
    without_effect: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def evolves(self) -> bool:
        return self.mode.startswith("addnewcolumns")

    @property
    def variant(self) -> str | None:
        return self.reader.get("singlevariantcolumn")

    def flag(self, name: str, default: bool = False) -> bool:
        return self.reader.get(name, str(default)).lower() == "true"


def parse(options: Mapping[str, Any], *, explicit_schema: bool, sql: bool) -> Options:
    """Sorts options into those of Auto Loader and those of the format's reader; names may be in any case.

    Args:
        sql: the options of `read_files`, which need no `cloudFiles.` before their names.

    Raises:
        LakeflowError: an option or a value that Databricks does not know either.
        UnsupportedError: one that has no counterpart here.
    """
    cloud: dict[str, str] = {}
    reader: dict[str, str] = {}
    spelt: dict[str, str] = {}
    for name, value in options.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        lower = name.lower()
        if lower.startswith("cloudfiles."):
            lower = lower.removeprefix("cloudfiles.")
            cloud[lower] = text
        elif lower in ("rescueddatacolumn", "readercasesensitive") or (sql and lower in _USED | _NO_EFFECT):
            cloud[lower] = text
        else:
            reader[lower] = text
        spelt[lower] = name
    for name in ("pathglobfilter", "modifiedafter", "modifiedbefore"):
        if name in cloud:
            reader[name] = cloud.pop(name)
    # of a path that another system manages, never of the reader here
    reader.pop("checkpointlocation", None)
    reader.pop("recursivefilelookup", None)
    reader.pop("basepath", None)
    unknown = tuple(sorted(spelt[n] for n in set(cloud) - _USED - _NO_EFFECT))
    if unknown and cloud.get("validateoptions", "true") == "true":
        raise LakeflowError(
            f"Auto Loader has no option {unknown[0]}; mend its name, or set cloudFiles.validateOptions to false"
        )
    if "skiprows" in reader:
        raise UnsupportedError("the reader's option skipRows is not supported here; remove the rows, or the option")
    mode = _one_of("schemaEvolutionMode", cloud, MODES, "none" if explicit_schema else "addNewColumns")
    file_format = cloud.get("format", "").lower()
    inferred = not explicit_schema and file_format not in FIXED_FORMATS and "singlevariantcolumn" not in reader
    partitions = cloud.get("partitioncolumns")
    return Options(
        format=file_format,
        mode=mode,
        rescued=cloud.get("rescueddatacolumn") or (RESCUED if inferred else None),
        infer_types=_flag("inferColumnTypes", cloud, sql),
        hints=cloud.get("schemahints"),
        case_sensitive=_flag("readerCaseSensitive", cloud, True),
        include_existing=_flag("includeExistingFiles", cloud, True),
        allow_overwrites=_flag("allowOverwrites", cloud, False),
        partitions=None if partitions is None else tuple(p.strip() for p in partitions.split(",") if p.strip()),
        strict=_flag("useStrictGlobber", cloud, sql),
        listing={spelling: reader.pop(name) for name, spelling in _LISTING.items() if name in reader},
        limits=_limits(cloud),
        reader=reader,
        without_effect=tuple(sorted(spelt[n] for n in set(cloud) & _NO_EFFECT)),
        unknown=unknown,
    )


def check_format(file_format: str, reader: Mapping[str, str]) -> None:
    """Raises where the format is none that can be read."""
    if not file_format:
        raise LakeflowError("Auto Loader needs the option cloudFiles.format, such as json or parquet")
    if file_format not in FORMATS:
        raise UnsupportedError(f"Auto Loader format {file_format} is not supported here; {', '.join(FORMATS)} are")
    if file_format == "xml" and "rowtag" not in reader:
        raise LakeflowError("XML needs the option rowTag, the element that holds one row")


def format_of(files: Collection[str]) -> str:
    """The format that the files' names tell, as `read_files` finds it where none is given; "" for none."""
    found = set()
    for file in files:
        parts = file.rsplit("/", 1)[-1].lower().split(".")
        while parts and parts[-1] in _COMPRESSED:
            parts.pop()
        found.add(_SUFFIXES.get(parts[-1] if len(parts) > 1 else "", ""))
    return found.pop() if len(found) == 1 else ""


def _limits(cloud: Mapping[str, str]) -> dict[str, str]:
    """One limit, since Spark takes no two; that of files is exact, that of bytes is soft on Databricks too."""
    size = cloud.get("maxbytespertrigger")
    if size is None or "maxfilespertrigger" in cloud:
        return {"maxFilesPerTrigger": cloud.get("maxfilespertrigger", "1000")}
    match = re.fullmatch(r"(\d+)\s*([kmgt]?)b?", size.strip().lower())
    if not match:
        raise LakeflowError(f"cloudFiles.maxBytesPerTrigger is {size}; it can be a number of bytes such as 10g")
    return {"maxBytesPerTrigger": str(int(match[1]) * 1024 ** " kmgt".index(match[2] or " "))}


def _flag(name: str, cloud: Mapping[str, str], default: bool) -> bool:
    value = cloud.get(name.lower(), str(default)).lower()
    if value not in ("true", "false"):
        raise LakeflowError(f"cloudFiles.{name} is {value}; it can be true or false")
    return value == "true"


def _one_of(name: str, cloud: Mapping[str, str], values: Collection[str], default: str) -> str:
    value = cloud.get(name.lower(), default)
    if value.lower() not in values:
        raise LakeflowError(f"cloudFiles.{name} is {value}; it can be {', '.join(values)}")
    return value.lower()
