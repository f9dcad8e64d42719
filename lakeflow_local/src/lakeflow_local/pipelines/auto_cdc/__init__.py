"""AUTO CDC on Delta: changes in any order become the current rows (type 1) or the history (type 2) of a table.

A target is a function of the *set* of events that were ever applied to it, so the order in which they come, how they
are cut into batches, duplicates, and a batch that is applied again after a kill at any point make no difference. Of
several events of one key at one sequence value one counts: a delete before an upsert, then the upsert whose content
has the greatest digest.

* Type 1: a row is the last upsert of its key, unless a delete (or truncation) is as late or later.
* Type 2: consecutive upserts that agree on the tracked columns are a *run*, and a run is a row: `__START_AT` of its
  first event, content of its last, `__END_AT` of the next event that is not in it, NULL if there is none. A delete only
  ends a run. A delete that follows another is a row of its own with the keys and `__END_AT` alone, as was measured on
  Databricks; one before the first upsert of its key is not shown.
* Bitemporal: from each system time of a key on, its rows are the history (type 2) of the events known by then; a row
  is in the table with the system times from and up to which it is in those histories.
* `ignore_null_updates`: a NULL leaves the value that the column had since the key's last delete; `columns_to_update`:
  so does every column that an event does not name.

What the target cannot tell of the events is kept beside it (`state`) and written before it. Nothing in it expires:
Databricks forgets deletes after `pipelines.cdc.tombstoneGCThresholdInSeconds`, here a late event never revives a
deleted key.
"""

from lakeflow_local.pipelines.auto_cdc.batch import apply_batch
from lakeflow_local.pipelines.auto_cdc.columns import END, START
from lakeflow_local.pipelines.auto_cdc.definition import target_schema
from lakeflow_local.pipelines.auto_cdc.snapshots import apply_snapshots, next_snapshot, snapshot_frame
from lakeflow_local.pipelines.auto_cdc.target import TARGET_PROPERTIES, Counts
from lakeflow_local.pipelines.auto_cdc.versions import VersionedQuery

__all__ = [
    "END",
    "START",
    "TARGET_PROPERTIES",
    "Counts",
    "VersionedQuery",
    "apply_batch",
    "apply_snapshots",
    "next_snapshot",
    "snapshot_frame",
    "target_schema",
]
