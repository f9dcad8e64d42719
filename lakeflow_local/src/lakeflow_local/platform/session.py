"""A Spark session on the local platform: Delta, the S3 servers, the shared catalog, settings for a small machine."""

from __future__ import annotations

import atexit
import datetime as dt
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from py4j.java_gateway import JavaGateway, java_import
from py4j.protocol import Py4JJavaError
from pyspark import SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.java_gateway import launch_gateway
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from lakeflow_local.errors import LakeflowError
from lakeflow_local.home import Home
from lakeflow_local.platform import archive, jars, java, local_files
from lakeflow_local.platform.daemon import last_words
from lakeflow_local.platform.servers import S3_REGION, Endpoints

LOG4J = Path(__file__).with_name("log4j2.properties")
LOGS_KEPT = 20
END_SECONDS = 20


def start(
    home: Home,
    endpoints: Endpoints,
    *,
    app_name: str,
    conf: Mapping[str, str] | None = None,
    master: str = "local[*]",
    long_running: bool = False,
    memory: int | None = None,
) -> SparkSession:
    """The session of this process: the running one where its fixed settings are the same, else a new one.

    Args:
        home: where the warehouse, the jars and the logs are.
        endpoints: of `servers.up`.
        app_name: shown in logs.
        conf: further settings; they win over those of the platform.
        master: as Spark's own.
        long_running: use Java's optimising compiler and collector. They pay after minutes of work; without them a
            session starts, and small data is done, sooner. It is the first session of a process that decides.
        memory: of Java's heap, in MiB, decided likewise; None is `driver_memory`.

    Raises:
        LakeflowError: set-up has not been run, or Java does not start.
    """
    settings = {**_platform(home, endpoints), **_cluster(home, master), **(conf or {})}
    launch(home, long_running=long_running, memory=memory)
    # read whenever a context is made, and inherited by the workers
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    active = SparkSession.getActiveSession()
    if active is not None:
        fixed = active.sparkContext.getConf()
        if any(fixed.get(key) != settings[key] for key in _FIXED if key in settings):
            active.stop()
    first = SparkContext._active_spark_context is None
    if first:
        # Hadoop keeps its clients of object stores beyond a session, with the endpoints and the keys of that one.
        SparkContext._jvm.org.apache.hadoop.fs.FileSystem.closeAll()
    session = SparkSession.builder.master(master).appName(app_name).config(map={**settings}).getOrCreate()
    _interrupts_as_usual()
    _errors_told_once()
    if first:
        _settings_without_their_origins(session.sparkContext)
        for name in ("api.python.PythonUtils", "sql.api.python.PythonSQLUtils"):
            # PySpark asks for them at most calls, and Java would look in each of the packages that PySpark has named.
            java_import(SparkContext._jvm, f"org.apache.spark.{name}")
    return session


def _settings_without_their_origins(context: SparkContext) -> None:
    """Takes from Hadoop's settings the name of the file that each came from, which nobody asks for.

    The settings go with tasks that read or write files, and each of those names is compressed by itself: with them a
    write of a few rows to a Delta table costs a seventh more.
    """
    jvm = context._jvm
    for name in ("hdfs.HdfsConfiguration", "yarn.conf.YarnConfiguration", "fs.s3a.S3AFileSystem"):
        # Each makes Hadoop read its files again when it is first used.
        jvm.java.lang.Class.forName(f"org.apache.hadoop.{name}")
    settings = context._jsc.hadoopConfiguration()
    settings.size()  # reads them
    try:
        origins = settings.getClass().getDeclaredField("updatingResource")
    except Py4JJavaError:
        return  # another Hadoop, which may keep them elsewhere
    origins.setAccessible(True)
    origins.set(settings, jvm.java.util.concurrent.ConcurrentHashMap())


def _errors_told_once() -> None:
    """Keeps PySpark from logging each exception of a query as JSON with its stack trace, besides raising it."""
    for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        PySparkLogger.getLogger(name).disabled = True


def _interrupts_as_usual() -> None:
    """Lets Ctrl-C raise KeyboardInterrupt and nothing else.

    PySpark's handler calls the JVM in the middle of the call that it interrupts; that fails, and Py4J logs both with
    stack traces. Jobs end with the JVM, which ends with this process.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
    root = logging.getLogger()
    if _is_no_interrupt not in root.filters:
        root.addFilter(_is_no_interrupt)


def _is_no_interrupt(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("KeyboardInterrupt while sending command")


# What a running session cannot change; another value needs another session.
_FIXED = ("spark.hadoop.javax.jdo.option.ConnectionURL", "spark.sql.extensions")


def _platform(home: Home, endpoints: Endpoints) -> dict[str, str]:
    return {
        # Ours comes before Delta's, which plans the reads.
        "spark.sql.extensions": "lakeflow.local.KnownTables,io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.warehouse.dir": str(home.warehouse),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        # As on Databricks: a table without USING is a Delta table.
        "spark.sql.sources.default": "delta",
        "spark.sql.legacy.createHiveTableByDefault": "false",
        # Else each function and each operator of a column asks Java seven times more, to tell where it was called from.
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # With it, a Python UDF over columns that were read from Parquet waits for its worker without end (Spark 4.2.0).
        "spark.sql.execution.arrow.pythonUDF.columnarInput.enabled": "false",
        # Spark's default for a heap like this, 64 MB, is filled with zeros for each hash table and each sort of a task.
        "spark.buffer.pageSize": "2m",
        # Spark's default, 4 MB, is filled with zeros for each task and each setting that is sent to tasks.
        "spark.broadcast.blockSize": "256k",
        # The default of 100 is less than one update compiles, so that the next compiles all of it again.
        "spark.sql.codegen.cache.maxEntries": "2000",
        # Delta's default of 50 tasks for a snapshot, and Spark's of 200 for a shuffle, cost more than small data does.
        "spark.databricks.delta.snapshotPartitions": "1",
        # As in an object store; on a disk a VACUUM would write two commits besides, which tell that it began and ended.
        "spark.databricks.delta.vacuum.logging.enabled": "false",
        # A table that is worth skipping files of is smaller here than Delta's default of a gigabyte for one file.
        "spark.databricks.delta.optimize.maxFileSize": str(64 * 2**20),
        "spark.sql.shuffle.partitions": str(max(2, os.cpu_count() or 2)),
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "4",
        # Spark derives what holds of each column from each other one, which takes minutes for a wide table's MERGE.
        "spark.sql.constraintPropagation.enabled": "false",
        "spark.ui.enabled": "false",
        # What Spark's UI would show of what is over.
        "spark.ui.retainedJobs": "10",
        "spark.ui.retainedStages": "10",
        "spark.ui.retainedTasks": "100",
        "spark.sql.ui.retainedExecutions": "10",
        "spark.ui.showConsoleProgress": "false",
        **_catalog(endpoints),
        **_s3(endpoints),
    }


def _cluster(home: Home, master: str) -> dict[str, str]:
    """What makes executors find this process and the jars; on this machine alone, nobody else finds it."""
    loopback = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    if master.startswith("local"):
        return loopback | local_files.SETTINGS | {"spark.python.daemon.module": "lakeflow_local.platform.workers"}
    jars_of_executors = {
        "spark.jars": class_path(home).replace(":", ","),
        "spark.executor.extraJavaOptions": " ".join(java.find(home).options),
    }
    return jars_of_executors | (loopback if re.match(r"spark://(127\.|localhost\b)", master) else {})


def _catalog(endpoints: Endpoints) -> dict[str, str]:
    option = "spark.hadoop.javax.jdo.option"
    return {
        "spark.sql.catalogImplementation": "hive",
        f"{option}.ConnectionURL": endpoints.catalog_url,
        f"{option}.ConnectionDriverName": "org.apache.derby.client.ClientAutoloadedDriver",
        f"{option}.ConnectionUserName": endpoints.catalog_user,
        f"{option}.ConnectionPassword": endpoints.catalog_password,
        "spark.hadoop.datanucleus.schema.autoCreateAll": "true",
        "spark.hadoop.hive.metastore.schema.verification": "false",
        "spark.hadoop.hive.stats.autogather": "false",
    }


def _s3(endpoints: Endpoints) -> dict[str, str]:
    """`s3://` and `s3a://` by S3A, whose magic committer makes files visible at commit and copies none."""
    settings = {
        "fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        "mapreduce.outputcommitter.factory.scheme.s3": "org.apache.hadoop.fs.s3a.commit.S3ACommitterFactory",
        "mapreduce.outputcommitter.factory.scheme.s3a": "org.apache.hadoop.fs.s3a.commit.S3ACommitterFactory",
        "fs.s3a.committer.name": "magic",
        # smaller than the server's heap, which holds a part while it is checked
        "fs.s3a.multipart.size": "16M",
    }
    for name, variable in {"endpoint": "AWS_ENDPOINT_URL", "endpoint.region": "AWS_REGION"}.items():
        if value := os.environ.get(variable):
            settings[f"fs.s3a.{name}"] = value
    if "AWS_ENDPOINT_URL" in os.environ:
        settings["fs.s3a.path.style.access"] = "true"
    for bucket in endpoints.buckets:
        settings |= {
            f"fs.s3a.bucket.{bucket}.{name}": value
            for name, value in {
                "endpoint": endpoints.s3_endpoint,
                "endpoint.region": S3_REGION,
                "path.style.access": "true",
                "connection.ssl.enabled": "false",
                "aws.credentials.provider": "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
                "access.key": endpoints.s3_access_key,
                "secret.key": endpoints.s3_secret_key,
            }.items()
        }
    cloud = "org.apache.spark.internal.io.cloud"
    return {
        "spark.sql.sources.commitProtocolClass": f"{cloud}.PathOutputCommitProtocol",
        "spark.sql.parquet.output.committer.class": f"{cloud}.BindingParquetOutputCommitter",
        **{f"spark.hadoop.{key}": value for key, value in settings.items()},
    }


def launch(
    home: Home, *, long_running: bool = False, memory: int | None = None, options: Sequence[str] | None = None
) -> None:
    """Starts the JVM of this process unless there is one.

    What only the command line can say is said there; the settings, which hold passwords, follow over a socket.

    Args:
        home: where the jars and the logs are.
        long_running, memory: as in `start`.
        options: of the JVM, in place of those that use the AppCDS archive.

    Raises:
        LakeflowError: set-up has not been run, or Java does not start.
    """
    if SparkContext._gateway is not None:
        return
    runtime = java.find(home)
    options = archive.options(home, runtime) if options is None else options
    try:
        gateway = _gateway(home, runtime, long_running, memory or driver_memory(), options)
    except LakeflowError:
        if not options:
            raise
        gateway = _gateway(
            home, runtime, long_running, memory or driver_memory(), ()
        )  # Java ends at an archive that is damaged
    SparkContext._ensure_initialized(gateway=gateway)
    atexit.register(end, gateway.proc)


def _gateway(home: Home, runtime: java.Java, long_running: bool, memory: int, options: Sequence[str]) -> JavaGateway:
    log = _log_file(home)
    options = [
        *(() if long_running else jars.QUICK_START),
        *_ROOM,
        *_PAGES,
        f"-Xms{memory // 2}m",
        *runtime.options,
        *options,
        f"-Dlog4j2.configurationFile={LOG4J}",
        f"-Dlakeflow.log={log}",
        f"-Dderby.stream.error.file={log}",
    ]
    arguments = [
        *("--driver-memory", f"{memory}m"),
        *("--driver-class-path", class_path(home)),
        *("--driver-java-options", " ".join(options)),
        "pyspark-shell",
    ]
    environment = {
        "JAVA_HOME": str(runtime.home),
        # Spark of the wheel and no other, whatever else is installed
        "SPARK_HOME": str(jars.spark_jars().parent),
        "SPARK_CONF_DIR": str(home.run / "no-spark-conf"),
        "HADOOP_CONF_DIR": None,
        "PYSPARK_SUBMIT_ARGS": shlex.join(arguments),
    }
    try:
        with _environment(environment), open(log, "a") as output:
            return launch_gateway(popen_kwargs={"stdout": output, "stderr": output})
    except PySparkRuntimeError as error:
        raise LakeflowError(f"Java does not start Spark: {last_words(log)}") from error


# The 48 MB for compiled code that go with the quick compiler fill up in a minute of Spark, and then code is thrown out
# and compiled again without end: a tenth of a run's CPU. If none may be thrown out, Java compiles nothing any more when
# the room is full, which 256 MB were after ten minutes. Planning makes garbage that dies young. Spark's classes fill
# the room that Java begins with many times over, and each time the whole heap would be collected.
_ROOM = ("-XX:ReservedCodeCacheSize=512m", "-XX:NewRatio=1", "-XX:MetaspaceSize=384m")
# A heap of gigabytes in pages of 4 KB is a twentieth of a run's time; only Java on Linux knows the option.
_PAGES = ("-XX:+UseTransparentHugePages",) if sys.platform == "linux" else ()


def _log_file(home: Home) -> Path:
    """A new file; of those of earlier sessions the latest are kept."""
    home.logs.mkdir(parents=True, exist_ok=True)
    for old in sorted(home.logs.glob("spark-*.log"))[: 1 - LOGS_KEPT]:
        old.unlink(missing_ok=True)
    return home.logs / f"spark-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{os.getpid()}.log"


def driver_memory() -> int:
    """A quarter of the machine's memory, from 1 to 4 GiB, in MiB."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return max(1024, min(4096, machine // 4))


def class_path(home: Home) -> str:
    """The additions to Spark's own jars; always the same text, since the AppCDS archive holds for one class path."""
    found = [*sorted(jars.folder(home, "spark").glob("*.jar")), local_files.jar(home)]
    return ":".join(str(jar.resolve()) for jar in found)


def end(process: subprocess.Popen, seconds: float = END_SECONDS) -> None:
    """Ends the JVM and waits for it, so that nothing is left when the command returns.

    It is asked by the end of its input and stops Spark itself: after an interrupt in the middle of a call, another
    call might wait for ever.
    """
    # Threads in the middle of a call would log that its other end is gone.
    logging.disable(logging.CRITICAL)
    context = SparkContext._active_spark_context
    if context is not None and (accumulators := context._accumulatorServer) is not None:
        # Its thread would print a stack trace when the JVM hangs up.
        accumulators.shutdown()
        context._accumulatorServer = None
    process.stdin.close()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Environment variables for the duration of a block; None removes one."""
    former = {name: os.environ.get(name) for name in changes}
    _apply(changes)
    try:
        yield
    finally:
        _apply(former)


def _apply(changes: Mapping[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
