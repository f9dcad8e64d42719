"""What a pipeline's sources use of `dbutils`: widgets, secrets and files; and the other names of a notebook."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from pyspark.sql import SparkSession

from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines.sources import NotebookExit

_SCHEMES = re.compile(r"^(?:dbfs|file):/*(?=/)")


class FileInfo(NamedTuple):
    """An entry of `dbutils.fs.ls`: `size` in bytes, `modificationTime` in milliseconds since 1970, UTC."""

    path: str
    name: str
    size: int
    modificationTime: int

    # Databricks has these as methods of the entry.
    def isDir(self) -> bool:
        return self.name.endswith("/")

    def isFile(self) -> bool:
        return not self.isDir()


class Widgets:
    """`dbutils.widgets`: the pipeline's configuration; a widget's default counts where that has no value."""

    def __init__(self, configuration: Mapping[str, str]):
        self._values = dict(configuration)

    def get(self, name: str) -> str:
        if name not in self._values:
            raise LakeflowError(f"the widget {name} has no value; set {name} in the pipeline's configuration")
        return self._values[name]

    def getArgument(self, name: str, defaultValue: str | None = None) -> str:
        return self.get(name) if defaultValue is None else self._values.get(name, defaultValue)

    def getAll(self) -> dict[str, str]:
        return dict(self._values)

    def text(self, name: str, defaultValue: str = "", label: str | None = None) -> None:
        self._values.setdefault(name, defaultValue)

    def dropdown(self, name: str, defaultValue: str, choices: list[str], label: str | None = None) -> None:
        self._values.setdefault(name, defaultValue)

    combobox = multiselect = dropdown

    def remove(self, name: str) -> None:
        self._values.pop(name, None)

    def removeAll(self) -> None:
        self._values.clear()


class Secrets:
    """`dbutils.secrets`: the secret SCOPE/KEY is the environment variable `SECRET_SCOPE_KEY`, in capitals."""

    def get(self, scope: str, key: str) -> str:
        variable = re.sub(r"\W", "_", f"SECRET_{scope}_{key}").upper()
        if variable not in os.environ:
            raise LakeflowError(f"the secret {scope}/{key} is not known here; set the environment variable {variable}")
        return os.environ[variable]

    def getBytes(self, scope: str, key: str) -> bytes:
        return self.get(scope, key).encode()


class Files:
    """`dbutils.fs` on every file system that Spark reaches."""

    def __init__(self, spark: SparkSession):
        self._spark = spark

    def _open(self, path: str) -> tuple[Any, Any]:
        found = self._spark._jvm.org.apache.hadoop.fs.Path(_SCHEMES.sub("", str(path)))
        return found.getFileSystem(self._spark._jsparkSession.sessionState().newHadoopConf()), found

    def _existing(self, path: str) -> tuple[Any, Any]:
        files, found = self._open(path)
        if not files.exists(found):
            raise FileNotFoundError(f"there is no {path}")
        return files, found

    def ls(self, dir: str) -> list[FileInfo]:
        files, path = self._existing(dir)
        entries = []
        for status in files.listStatus(path):
            end, size = ("/", 0) if status.isDirectory() else ("", status.getLen())
            found = status.getPath()
            entries.append(FileInfo(found.toString() + end, found.getName() + end, size, status.getModificationTime()))
        return sorted(entries)

    def head(self, file: str, maxBytes: int = 65536) -> str:
        files, path = self._existing(file)
        stream = files.open(path)
        try:
            return bytes(stream.readNBytes(maxBytes)).decode("utf-8", "replace")
        finally:
            stream.close()

    def put(self, file: str, contents: str, overwrite: bool = False) -> bool:
        files, path = self._open(file)
        stream = files.create(path, overwrite)
        try:
            stream.write(bytearray(contents.encode()))
        finally:
            stream.close()
        return True

    def mkdirs(self, dir: str) -> bool:
        files, path = self._open(dir)
        return files.mkdirs(path)

    def rm(self, dir: str, recurse: bool = False) -> bool:
        files, path = self._open(dir)
        return files.delete(path, recurse)

    def cp(self, from_: str, to: str, recurse: bool = False) -> bool:
        return self._copy(from_, to, recurse, move=False)

    def mv(self, from_: str, to: str, recurse: bool = False) -> bool:
        return self._copy(from_, to, recurse, move=True)

    def _copy(self, source: str, to: str, recurse: bool, *, move: bool) -> bool:
        files, path = self._existing(source)
        if files.getFileStatus(path).isDirectory() and not recurse:
            raise IsADirectoryError(f"{source} is a folder; give recurse=True")
        target_files, target = self._open(to)
        configuration = self._spark._jsparkSession.sessionState().newHadoopConf()
        copy = self._spark._jvm.org.apache.hadoop.fs.FileUtil.copy
        return copy(files, path, target_files, target, move, configuration)


class Notebook:
    """`dbutils.notebook`."""

    def exit(self, value: Any = None) -> NoReturn:
        raise NotebookExit

    def run(self, path: str, timeout_seconds: int = 0, arguments: Mapping[str, str] | None = None) -> NoReturn:
        raise UnsupportedError(f"dbutils.notebook.run({path!r}) is not supported in a pipeline; use %run or an import")


class DBUtils:
    """`dbutils`, as far as a pipeline can use it."""

    def __init__(self, spark: SparkSession, configuration: Mapping[str, str]):
        self.widgets = Widgets(configuration)
        self.secrets = Secrets()
        self.fs = Files(spark)
        self.notebook = Notebook()

    def __getattr__(self, name: str) -> Any:
        raise UnsupportedError(f"dbutils.{name} is not supported in a pipeline; fs, notebook, secrets and widgets are")


def _show(*_: Any, **__: Any) -> None:
    """`display`: an update has nobody to show things to."""


def names(spark: SparkSession, configuration: Mapping[str, str]) -> dict[str, Any]:
    """What every Python source finds as globals."""
    return {
        "spark": spark,
        "dbutils": DBUtils(spark, configuration),
        "display": _show,
        "displayHTML": _show,
        "sc": spark.sparkContext,
        "sql": spark.sql,
        "table": spark.table,
    }


def modules(known: Mapping[str, Any]) -> list[ModuleType]:
    """The same names for sources that import them: `pyspark.dbutils.DBUtils(spark)` and `databricks.sdk.runtime`."""
    runtime = ModuleType("databricks.sdk.runtime")
    runtime.__dict__.update(known, __all__=list(known))
    of_spark = ModuleType("pyspark.dbutils")
    of_spark.DBUtils = lambda spark=None: known["dbutils"]  # type: ignore[attr-defined]
    return [runtime, of_spark]
