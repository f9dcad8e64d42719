"""Small files beside the tables (kept schemas, marks), on any file system that Hadoop knows."""

from __future__ import annotations

import json
from typing import Any

from pyspark.sql import SparkSession

from lakeflow_local.pipelines.jvm import java_class


class Storage:
    """Files below one folder or URL."""

    def __init__(self, spark: SparkSession, root: str):
        self._path = java_class(spark, "org.apache.hadoop.fs.Path")
        self._configuration = spark._jsparkSession.sessionState().newHadoopConf()
        self.root = root.rstrip("/")

    def path(self, *parts: str) -> str:
        return "/".join((self.root, *parts))

    def _open(self, *parts: str):
        path = self._path(self.path(*parts))
        return path.getFileSystem(self._configuration), path

    def exists(self, *parts: str) -> bool:
        files, path = self._open(*parts)
        return files.exists(path)

    def read_json(self, *parts: str) -> Any | None:
        """The content of a file, or None where there is none."""
        text = self.read_text(*parts)
        return None if text is None else json.loads(text)

    def read_text(self, *parts: str) -> str | None:
        """The content of a file, or None where there is none."""
        files, path = self._open(*parts)
        # PySpark turns each exception of Java into one of Python by some fifty calls.
        if not files.exists(path):
            return None
        stream = files.open(path)
        try:
            return bytes(stream.readAllBytes()).decode()
        finally:
            stream.close()

    def write_json(self, content: Any, *parts: str) -> None:
        """Replaces a file as `write_text` does."""
        self.write_text(json.dumps(content, sort_keys=True), *parts)

    def write_text(self, content: str, *parts: str) -> None:
        """Replaces a file as a whole: written aside, then renamed, so that a kill leaves the old or the new one."""
        files, path = self._open(*parts)
        aside = path.suffix(".new")
        stream = files.create(aside, True)
        try:
            stream.write(bytearray(content.encode()))
        finally:
            stream.close()
        # A POSIX rename replaces; on an object store delete-then-rename is the nearest there is.
        if not files.rename(aside, path):
            files.delete(path, False)
            files.rename(aside, path)

    def delete(self, *parts: str) -> None:
        files, path = self._open(*parts)
        files.delete(path, True)

    def names(self, *parts: str) -> list[str]:
        """Names of the entries of a folder, empty where there is none."""
        files, path = self._open(*parts)
        if not files.exists(path):
            return []
        return [status.getPath().getName() for status in files.listStatus(path)]


class Overlay(Storage):
    """Reads what is there and keeps in memory what would be written."""

    def __init__(self, spark: SparkSession, root: str):
        super().__init__(spark, root)
        self._written: dict[tuple[str, ...], str] = {}

    def exists(self, *parts: str) -> bool:
        return parts in self._written or super().exists(*parts)

    def read_text(self, *parts: str) -> str | None:
        return self._written[parts] if parts in self._written else super().read_text(*parts)

    def write_text(self, content: str, *parts: str) -> None:
        self._written[parts] = content

    def delete(self, *parts: str) -> None:
        raise NotImplementedError("a dry run deletes nothing")

    def names(self, *parts: str) -> list[str]:
        here = {key[-1] for key in self._written if key[:-1] == parts}
        return sorted(here.union(super().names(*parts)))
