# Databricks notebook source
# MAGIC %md
# MAGIC # Member lakehouse: overview
# MAGIC
# MAGIC Members are in MySQL, invoices are files. A nightly job reads what changed in MySQL and lands it as Parquet in S3; files
# MAGIC that arrive start a pipeline each; analysts read the result with SQL. The pictures are in `docs/architecture.md` and
# MAGIC `docs/data-flow.md`. These notebooks call the project's code and copy none of it, so they show what really runs.
# MAGIC
# MAGIC | layer | holds | who reads it |
# MAGIC |---|---|---|
# MAGIC | bronze | rows as they landed, and the file that each came from | the pipelines alone: personal data |
# MAGIC | silver | checked rows: the current ones, their history, the refused ones | the pipelines, stewards |
# MAGIC | gold | facts, dimensions, counts | analysts |
# MAGIC | ops | run log, event logs | the one on call, the dashboard |
# MAGIC
# MAGIC **Why layers**: a mistake in a rule is mended by computing silver again from bronze, without asking MySQL again.
# MAGIC **What it costs**: the rows are stored three times; storage is the cheapest part of all.

# COMMAND ----------

for layer in ("bronze", "silver", "gold", "ops"):
    tables = [table.name for table in spark.catalog.listTables(layer)]
    print(f"{layer}: {', '.join(sorted(tables))}")
