"""A jar with `LocalFiles.java`, compiled at set-up by Spark's own compiler, Janino: a Java runtime has none."""

from __future__ import annotations

import os
import subprocess
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from lakeflow_local.errors import LakeflowError
from lakeflow_local.home import Home
from lakeflow_local.platform import jars
from lakeflow_local.platform.java import Java

SOURCE = Path(__file__).with_name("LocalFiles.java")
COMPILE = Path(__file__).with_name("Compile.java")
SETTINGS = {
    "spark.hadoop.fs.file.impl": "lakeflow.local.LocalFiles",
    "spark.hadoop.fs.AbstractFileSystem.file.impl": "lakeflow.local.LocalFiles$Context",
}
"""What makes a session use it."""


def path(home: Home) -> Path:
    """Where the jar is, or would be; another source has another name."""
    return home.jars / f"local-files-{sha256(SOURCE.read_bytes()).hexdigest()[:16]}.jar"


def jar(home: Home) -> Path:
    """The jar.

    Raises:
        LakeflowError: set-up has not been run, or was for another version.
    """
    if not (found := path(home)).exists():
        raise LakeflowError(f"{found.name} is missing: run {jars.SETUP}")
    return found


def make(home: Home, java: Java) -> None:
    """Compiles it.

    Raises:
        LakeflowError: that failed.
    """
    needed = ("janino", "commons-compiler", "hadoop-client-api", "hadoop-client-runtime", "slf4j-api")
    class_path = ":".join(str(path) for name in needed for path in jars.spark_jars().glob(f"{name}-*.jar"))
    target = path(home)
    with TemporaryDirectory(dir=target.parent) as folder:
        options = (*jars.QUICK_START, *java.options, "-cp", class_path)
        compiler = ("org.codehaus.janino.SimpleCompiler", COMPILE, COMPILE.stem, SOURCE, folder)
        done = subprocess.run([java.executable, *options, *compiler], capture_output=True, text=True)
        classes = sorted(Path(folder).rglob("*.class"))
        if done.returncode or not classes:
            raise LakeflowError(f"{SOURCE.name} was not compiled: {(done.stdout + done.stderr).strip()[-500:]}")
        with ZipFile(Path(folder) / target.name, "w") as archive:
            for file in classes:
                archive.write(file, file.relative_to(folder))
        os.replace(Path(folder) / target.name, target)
    for old in target.parent.glob("local-files-*.jar"):
        if old != target:
            old.unlink()
