"""The current members: AUTO CDC type 1 keeps the latest change of each, in whatever order files arrive."""

from columns import ARRIVAL, NO_PERSONAL_STATISTICS
from pyspark import pipelines as dp

SILVER = spark.conf.get("silver_schema")

dp.create_streaming_table(
    name=f"{SILVER}.members",
    comment="Members as they are now, one row each; equals the source less what is in quarantine; personal data",
    table_properties={"quality": "silver", **NO_PERSONAL_STATISTICS},
)

dp.create_auto_cdc_flow(
    target=f"{SILVER}.members",
    source="members_changes_feed",
    keys=["member_id"],
    sequence_by="_changed_at",
    apply_as_deletes="_op = 'D'",
    except_column_list=list(ARRIVAL),
    stored_as_scd_type=1,
)
