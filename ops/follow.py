"""Starts an update of a pipeline or a run of a job, and tells what happens until it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.jobs import Run
from databricks.sdk.service.pipelines import UpdateInfoState

from ops.errors import OpsError

_UPDATE_ENDED = (UpdateInfoState.COMPLETED, UpdateInfoState.FAILED, UpdateInfoState.CANCELED)
_MOST_ERRORS = 5


def pipeline_id(client: WorkspaceClient, name: str) -> str:
    """The id of a pipeline by its name or its id.

    Raises:
        OpsError: there is none, or several of that name.
    """
    escaped = name.replace("'", "''")
    found = [p.pipeline_id for p in client.pipelines.list_pipelines(filter=f"name LIKE '{escaped}'") if p.name == name]
    if not found and name.count("-") == 4:
        return name
    return _only(found, "pipeline", name)


def job_id(client: WorkspaceClient, name: str) -> int:
    """The id of a job by its name or its id.

    Raises:
        OpsError: there is none, or several of that name.
    """
    if name.isdigit():
        return int(name)
    return _only([job.job_id for job in client.jobs.list(name=name)], "job", name)


def _only(found: Sequence, kind: str, name: str):
    if len(found) == 1:
        return found[0]
    if found:
        raise OpsError(f"{len(found)} {kind}s are named {name}: {', '.join(map(str, found))}; give the id of one")
    raise OpsError(f"there is no {kind} {name} that you may see; in a dev target it is named `[dev you] {name}`")


def update(
    client: WorkspaceClient,
    pipeline: str,
    *,
    full_refresh: bool | Sequence[str] = False,
    say: Callable[[str], None] = print,
    poll: float = 5.0,
) -> str:
    """Runs one update of the pipeline with this id, and returns the update's id.

    Args:
        full_refresh: all tables start anew from their sources, or those named.
        poll: seconds between two looks.

    Raises:
        OpsError: it failed or was cancelled, with what its event log says.
    """
    tables = [] if isinstance(full_refresh, bool) else list(full_refresh)
    started = client.pipelines.start_update(
        pipeline, full_refresh=full_refresh is True or None, full_refresh_selection=tables or None
    ).update_id
    say(f"update {started} started")
    states: list[UpdateInfoState] = []
    while True:
        state = client.pipelines.get_update(pipeline, started).update.state
        if state not in states[-1:]:
            states.append(state)
            say(f"update {started}: {state.value}")
        if state in _UPDATE_ENDED:
            break
        time.sleep(poll)
    if state is not UpdateInfoState.COMPLETED:
        reasons = _reasons(client, pipeline, started)
        raise OpsError(f"the update {started} ended as {state.value}{': ' + '; '.join(reasons) if reasons else ''}")
    return started


def _reasons(client: WorkspaceClient, pipeline: str, update_id: str) -> list[str]:
    events = client.pipelines.list_pipeline_events(pipeline, filter="level='ERROR'", max_results=100)
    told: list[str] = []
    for event in events:
        if event.origin is not None and event.origin.update_id == update_id and event.message not in told:
            told.append(event.message)
        if len(told) == _MOST_ERRORS:
            break
    return told


def run(
    client: WorkspaceClient,
    job: int,
    *,
    parameters: Mapping[str, str] | None = None,
    say: Callable[[str], None] = print,
    poll: float = 5.0,
) -> int:
    """Runs the job with this id to its end, and returns the id of the run.

    Args:
        parameters: job parameters that replace the defaults.
        poll: seconds between two looks.

    Raises:
        OpsError: the run did not succeed, with the error of each task that failed.
    """
    run_id = client.jobs.run_now(job, job_parameters=dict(parameters or {}) or None).response.run_id
    say(f"run {run_id} started")
    told: dict[str, str] = {}
    while True:
        found = client.jobs.get_run(run_id)
        for task in found.tasks or []:
            state = _state(task)
            if told.get(task.task_key) != state:
                told[task.task_key] = state
                say(f"run {run_id}: {task.task_key}: {state}")
        if found.state.life_cycle_state.value in ("TERMINATED", "SKIPPED", "INTERNAL_ERROR"):
            break
        time.sleep(poll)
    state = _state(found)
    say(f"run {run_id}: {state}: {found.run_page_url}")
    if state != "SUCCESS":
        faults = [
            f"{task.task_key}: {task.state.state_message or _state(task)}"
            for task in found.tasks or []
            if _state(task) not in ("SUCCESS", "EXCLUDED", "UPSTREAM_FAILED", "DISABLED")
        ]
        raise OpsError(f"the run {run_id} ended as {state}: {'; '.join(faults) or found.state.state_message or ''}")
    return run_id


def _state(found: Run) -> str:
    if found.state is None:
        return "PENDING"
    return (found.state.result_state or found.state.life_cycle_state).value
