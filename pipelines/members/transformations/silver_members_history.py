"""Every version of every member: AUTO CDC type 2, from `__START_AT` until `__END_AT`."""

from columns import ARRIVAL, STATISTICS_OF_VERSIONS, UNTRACKED
from pyspark import pipelines as dp

SILVER = spark.conf.get("silver_schema")

dp.create_streaming_table(
    name=f"{SILVER}.members_history",
    comment="Versions of members, each valid from __START_AT until __END_AT (NULL: now); personal data",
    table_properties={"quality": "silver", **STATISTICS_OF_VERSIONS},
)

dp.create_auto_cdc_flow(
    target=f"{SILVER}.members_history",
    source="members_changes_feed",
    keys=["member_id"],
    sequence_by="_changed_at",
    apply_as_deletes="_op = 'D'",
    except_column_list=list(ARRIVAL),
    stored_as_scd_type=2,
    # A row that arrives again, or is touched without a change, is not a new version.
    track_history_except_column_list=UNTRACKED,
)
