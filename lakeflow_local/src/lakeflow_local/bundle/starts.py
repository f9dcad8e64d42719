"""What starts a job or an alert, in one line."""

from __future__ import annotations

from lakeflow_local.bundle import triggers
from lakeflow_local.bundle.load import Bundle, Resource


def of(bundle: Bundle, resource: Resource) -> str:
    """Its schedule and its trigger as the bundle has them; empty where it starts by hand."""
    found = []
    if schedule := resource.value.get("schedule"):
        expression = schedule.plain("quartz_cron_expression", default=schedule.plain("quartz_cron_schedule"))
        found.append(_paused(bundle, resource, "schedule", f"{expression} {schedule.plain('timezone_id')}"))
    if url := resource.value.plain("trigger", "file_arrival", "url"):
        found.append(_paused(bundle, resource, "trigger", f"files in {url}"))
    return ", ".join(found)


def _paused(bundle: Bundle, resource: Resource, key: str, text: str) -> str:
    return f"{text} (paused)" if triggers.is_paused(bundle, resource, key) else text
