"""A jar of ours, the last on the class path before Spark's, made at set-up.

It holds the classes of `SOURCES`, compiled by Spark's own compiler, Janino, since a Java runtime has none; and no
settings of YARN, in place of Hadoop's file of them. They would be half of the settings that are copied for each query
and sent with each task, and YARN starts no session here.
"""

from __future__ import annotations

import subprocess
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from lakeflow_local.errors import LakeflowError
from lakeflow_local.files import replace
from lakeflow_local.home import Home
from lakeflow_local.platform import jars
from lakeflow_local.platform.java import OLDEST, Java

_NAMES = ("LocalFiles.java", "KnownSnapshot.java", "KnownTables.java")
SOURCES = tuple(Path(__file__).with_name(name) for name in _NAMES)
COMPILE = Path(__file__).with_name("Compile.java")
SETTINGS = {
    "spark.hadoop.fs.file.impl": "lakeflow.local.LocalFiles",
    "spark.hadoop.fs.AbstractFileSystem.file.impl": "lakeflow.local.LocalFiles$Context",
}
"""What makes a session use its files."""
_WITHOUT_SETTINGS = "yarn-default.xml"


def path(home: Home) -> Path:
    """Where the jar is, or would be; of another source, or for another Delta, it has another name."""
    made_of = b"".join(source.read_bytes() for source in SOURCES) + (_WITHOUT_SETTINGS + jars.stamp()).encode()
    return home.jars / f"local-files-{sha256(made_of).hexdigest()[:16]}.jar"


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
        LakeflowError: this Java or this Spark does not compile it.
    """
    class_path = f"{jars.spark_jars()}/*:{home.jars}/spark/*"  # the latter with Delta
    target = path(home)
    content = BytesIO()
    with TemporaryDirectory() as folder:
        options = (*jars.QUICK_START, *java.options, "-cp", class_path)
        compiler = ("org.codehaus.janino.SimpleCompiler", str(COMPILE), COMPILE.stem, folder, *map(str, SOURCES))
        done = subprocess.run([java.executable, *options, *compiler], capture_output=True, text=True)
        classes = sorted(Path(folder).rglob("*.class"))
        if done.returncode or not classes:
            told = next(iter(done.stderr.strip().splitlines()), "no word of why")
            raise LakeflowError(
                f"{', '.join(_NAMES)} do not compile ({told}): name another Java, "
                f"{OLDEST} or newer, as JAVA_HOME, then run {jars.SETUP} again"
            )
        with ZipFile(content, "w") as archive:
            for file in classes:
                archive.write(file, file.relative_to(folder))
            archive.writestr(_WITHOUT_SETTINGS, "<configuration/>")
    replace(target, content.getvalue())
    for old in target.parent.glob("local-files-*.jar"):
        if old != target:
            old.unlink()
