# Databricks notebook source
# MAGIC %md
# MAGIC # From MySQL to S3
# MAGIC
# MAGIC What the job `members_ingest` runs every night. An `incremental` run reads the rows whose `updated_at` is after the last
# MAGIC success and before the server's clock less a lag; the lag lets transactions that commit late still be seen. The window
# MAGIC is read in ranges of the key, a task each, and both sides are compared by row count and checksum.
# MAGIC
# MAGIC **What it costs**: the rows of the window, once over the wire, and one aggregate in MySQL for the checksum.

# COMMAND ----------

import sys

sys.path.append("../..")

from ingest.members import job

dbutils.widgets.text("catalog", spark.catalog.currentCatalog())
dbutils.widgets.text("landing_url", "s3://landing")
dbutils.widgets.text("source", "env:LAKEHOUSE_MYSQL_URL")
options = [f"--{name.replace('_', '-')}={dbutils.widgets.get(name)}" for name in ("catalog", "landing_url", "source")]

# COMMAND ----------

# MAGIC %md
# MAGIC First without reading a row: the window, its ranges, the folder it would land in.

# COMMAND ----------

print(job.run([*options, "--mode=incremental", "--dry-run"], spark))

# COMMAND ----------

print(job.run([*options, "--mode=incremental"], spark))

# COMMAND ----------

# MAGIC %md
# MAGIC Every run is a row of `ops.ingest_runs`, successful or not; the next one starts from the greatest `high` of a success.
# MAGIC So a lost night needs no hand: the next run reads both. A `reconcile` run lands differences alone, so only there the two
# MAGIC checksums, of all rows and of the landed ones, are not the same.

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT mode, status, rows_source, rows_landed, rows_deleted, checksum_source = checksum_landed AS same
# MAGIC FROM ops.ingest_runs
# MAGIC ORDER BY ended_at DESC
# MAGIC LIMIT 5
