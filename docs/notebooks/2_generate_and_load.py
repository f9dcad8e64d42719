# Databricks notebook source
# MAGIC %md
# MAGIC # Generate members and load them into MySQL
# MAGIC
# MAGIC `ingest.members.generator.members` makes each row by Faker from a seed of its own: the seed of the run and the row's
# MAGIC number. **Why**: the same rows come out for any number of partitions, so a repeat or a larger cluster changes nothing.
# MAGIC **What it costs**: some ten thousand rows a second and core. `ingest.members.bulk` combines Faker's words by row number
# MAGIC instead and is some thirty times as fast.

# COMMAND ----------

import sys
from datetime import date

sys.path.append("../..")

from ingest.members import generator

# Another seed than that of the demo: these members come on top of its own.
members = generator.members(spark, 20, seed=7, as_of=date(2024, 3, 31))
members.printSchema()

# COMMAND ----------

# MAGIC %md
# MAGIC The rows are made up, so they may be looked at.

# COMMAND ----------

display(members.select("first_name", "city", "country", "registration_date").limit(5))

# COMMAND ----------

# MAGIC %md
# MAGIC Loading goes through a staging table: Spark writes there, and one transaction merges it into `members`. **Why**: a Spark
# MAGIC task may be tried twice, and a merge by key makes the second try harmless. Run this cell twice: the second time
# MAGIC nothing changes.

# COMMAND ----------

from ingest.members import load
from ingest.source import Source

dbutils.widgets.text("source", "env:LAKEHOUSE_MYSQL_URL")
source = Source.of(dbutils.widgets.get("source"))
print(load.load(members, source))
print(load.load(members, source))
