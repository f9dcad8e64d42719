"""One set of servers for a run of the tests, one Spark session for each of its processes."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import hypothesis
import psutil
import pytest

from lakeflow_local import home as homes
from lakeflow_local.home import Home

# The shared folder of a run; processes of xdist inherit it from the one that starts them.
SHARED = "LAKEHOUSE_TEST_HOME"
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")

# The same examples in each run: a property that fails has to fail for everybody, and in the next run too.
hypothesis.settings.register_profile("same", derandomize=True, database=None)
hypothesis.settings.load_profile("same")

# What set-up made for the project, and what the processes of a run share.
OF_SETUP = ("jars", "java", "mariadb")
OF_RUN = ("run", "s3", "mysql", "catalog")


def pytest_configure(config: pytest.Config) -> None:
    if WORKER == "main":
        shared = Path(tempfile.mkdtemp(prefix="lakehouse-tests-"))
        for name in OF_SETUP:
            (shared / name).symlink_to(homes.find(Path(__file__).parent).path / name)
        os.environ[SHARED] = str(shared)
        # a terminated run ends its servers too, as an interrupted one does
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker is a Spark session, and for a while a second one in a command that it runs: a core and 6 GiB."""
    memory = psutil.virtual_memory().total // 2**30
    return max(2, min(4, os.cpu_count() or 2, memory // 6))


# The longest files, so that none of them begins last and ends alone.
LONGEST = (
    "test_demo.py", "test_members_update.py", "test_invoices.py", "test_update.py", "test_auto_cdc.py",
    "test_auto_loader.py", "test_auto_cdc_snapshots.py", "test_job.py", "test_jobs.py", "test_faults.py",
    "test_stranger.py", "test_oracle.py", "test_update_options.py", "test_update_views.py", "test_data_quality.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: position for position, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONGEST)))


def pytest_collection_finish() -> None:
    # What collecting made lives to the end: the collector of garbage need not look at it again and again.
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    if WORKER == "main" and (shared := os.environ.pop(SHARED, None)):
        from lakeflow_local.platform import servers

        servers.down(Home(root=Path(shared), path=Path(shared)))
        shutil.rmtree(shared, ignore_errors=True)


# The code that Spark makes and compiles, and the plans that it makes anew after each stage, are a quarter of what tests
# on tens of rows cost. The demo, and what tests start as a command of its own, run by the settings that users have.
CHEAP = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
}


@pytest.fixture(scope="session")
def made_by_setup() -> Home:
    """The project's own home, with the jars; tests start nothing in it."""
    home = homes.find(Path(__file__).parent)
    if not home.jars.is_dir():
        pytest.exit("run make setup first", returncode=2)
    return home


@pytest.fixture(scope="session")
def worker_home(made_by_setup: Home) -> Home:
    """A home of this process: warehouse, pipelines, jobs and logs of its own; jars and servers are shared."""
    shared = Path(os.environ[SHARED])
    path = shared / WORKER
    path.mkdir()
    for name in OF_SETUP:
        (path / name).symlink_to(made_by_setup.path / name)
    for name in OF_RUN:
        (path / name).symlink_to(shared / name)
    return Home(root=made_by_setup.root, path=path)


@pytest.fixture(scope="session")
def endpoints(worker_home: Home):
    """The servers, with the bucket `landing` and a catalog of this process."""
    from lakeflow_local.platform import servers

    shared = Home(root=worker_home.root, path=Path(os.environ[SHARED]))
    found = servers.up(shared, buckets=("landing",))
    return replace(found, catalog_url=found.catalog_url.replace("/metastore;", f"/metastore_{WORKER};"))


@pytest.fixture(scope="session")
def spark(worker_home: Home, endpoints) -> Iterator:
    """The session of this process. Tests leave its settings as they found them and use names of their own."""
    from lakeflow_local.platform import session

    spark = session.start(worker_home, endpoints, app_name=f"tests {WORKER}", master="local[2]", conf=CHEAP)
    yield spark
    spark.stop()
