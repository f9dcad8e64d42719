"""`lakeflow_local` in the hands of a stranger: installed alone, on a folder of his own, on a cluster of his own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pyspark
import pytest

from lakeflow_local.home import Home
from lakeflow_local.platform import jars, java
from tests.conftest import OF_SETUP

ROOT = Path(__file__).parents[2]
SEVERAL = "import sys; from lakeflow_local import cli; sys.exit(max(cli.main(c.split()) for c in sys.argv[1:]))"
PAGE = (ROOT / "docs" / "lakeflow_local.md").read_text()


def example() -> str:
    """The example of the documentation."""
    return re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]


@pytest.fixture
def folder(tmp_path: Path, made_by_setup: Home) -> Path:
    """A folder with the example and its data, outside of this project; what set-up downloads is there."""
    (tmp_path / ".lakehouse").mkdir()
    for name in OF_SETUP:
        (tmp_path / ".lakehouse" / name).symlink_to(made_by_setup.path / name)
    for name, text in {
        "my_pipeline/orders.py": example(),
        "landing/orders/1.json": '{"day": "2026-01-01", "amount": 3}\n{"day": "2026-01-01", "amount": -1}\n',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def run(folder: Path, *command: str | Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LAKEHOUSE_", "PYTHON"))}
    environment["COLUMNS"] = "200"
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def installed(folder: Path) -> Iterator[Path]:
    """The folder of the commands of a Python environment in which only `pip install ./lakeflow_local` was run."""
    venv.create(folder / "venv")
    here = Path(sysconfig.get_paths(vars={"base": str(folder / "venv")})["purelib"])
    # What it depends on is taken from this environment, so that nothing is downloaded for the test.
    (here / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    commands = folder / "venv" / "bin"
    pip = [sys.executable, "-m", "pip", "--python", commands / "python"]
    run(folder, *pip, "install", "-q", "--no-build-isolation", ROOT / "lakeflow_local")
    yield commands
    run(folder, commands / "lakeflow-local", "down")


@pytest.fixture
def cluster(folder: Path, made_by_setup: Home) -> Iterator[str]:
    """The URL of a standalone cluster of two workers on loopback."""
    spark = Path(pyspark.__file__).parent
    environment = {
        **os.environ,
        "JAVA_HOME": str(java.find(made_by_setup).home),
        "SPARK_HOME": str(spark),
        "SPARK_CONF_DIR": str(folder / "no-conf"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_DAEMON_MEMORY": "256m",
        "JAVA_TOOL_OPTIONS": " ".join(jars.QUICK_START),  # of executors as well
        "PYSPARK_PYTHON": sys.executable,
    }

    def start(name: str, *options: str) -> subprocess.Popen:
        command = [spark / "bin" / "spark-class", f"org.apache.spark.deploy.{name}", "--webui-port", "0", *options]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        processes.append(subprocess.Popen(command, env=environment, **output))
        return processes[-1]

    processes: list[subprocess.Popen] = []
    try:
        master = start("master.Master", "--host", "127.0.0.1", "--port", "0")
        url = next(found[1] for line in master.stdout if (found := re.search(r"master at (spark://\S+)", line)))
        for number in range(2):
            work = str(folder / f"work-{number}")
            worker = start(
                "worker.Worker", "--host", "127.0.0.1", "--cores", "1", "--memory", "1g", "--work-dir", work, url
            )
            next(line for line in worker.stdout if "Successfully registered" in line)
        yield url
    finally:
        for process in processes:
            process.terminate()
            process.communicate(timeout=30)


@pytest.mark.timeout(600)
def test_it_is_installed_and_runs_a_folder_on_a_cluster(folder: Path, installed: Path, cluster: str):
    command = installed / "lakeflow-local"
    source = run(folder, installed / "python", "-c", "import lakeflow_local; print(lakeflow_local.__file__)")
    assert source.startswith(str(folder / "venv"))
    assert "streaming table" in run(folder, command, "pipelines", "graph", "my_pipeline")
    warehouse = folder / "warehouse"
    options = ["--master", cluster, "--warehouse", str(warehouse)]
    # In one process, which starts Java once.
    verbs = [f"pipelines {verb} my_pipeline {' '.join(options)}" for verb in ("dry-run", "run", "history")]
    told = run(folder, installed / "python", "-c", SEVERAL, *verbs)
    assert "my_pipeline: no faults found" in told
    assert "orders: 1 rows, 1 dropped" in told and "revenue: 1 rows" in told
    assert re.search(r"my_pipeline: the last 1 updates\s.*\bCOMPLETED\b", told, re.DOTALL)
    assert list((folder / "work-0").glob("app-*/*/stderr")) and list((folder / "work-1").glob("app-*/*/stderr"))
    assert list(warehouse.glob("my_pipeline.db/*/_delta_log"))
    # What the cluster wrote is read on one machine.
    assert "2026-01-01" in run(folder, command, "sql", "-e", "SELECT * FROM my_pipeline.revenue")
