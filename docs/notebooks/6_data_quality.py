# Databricks notebook source
# MAGIC %md
# MAGIC # Data quality
# MAGIC
# MAGIC Rules are expectations: counted in the pass that writes the rows, so they cost no second read. The counts go to the event
# MAGIC log of each pipeline, in `ops`, and from there to the dashboard, whose queries are `sql/quality/`. An update that read no rows
# MAGIC says nothing about a rule: not checked is not passed.
# MAGIC
# MAGIC | severity | what an update does with the row |
# MAGIC |---|---|
# MAGIC | critical | fails; published tables stay as they were |
# MAGIC | warning | keeps the row out, into a quarantine table with the names of its rules, or counts it and lets it pass |

# COMMAND ----------

import re
import sys

sys.path.append("../..")

from dashboards import build


def rows(name: str):
    """The rows of a query of the dashboard."""
    return spark.sql(re.sub(r":(\w+)_schema\b", r"'\1'", build.query(name)))


health = rows("health").first()
print(f"score {health.score:.2%}, {health.open_critical_failures} critical failures, last update {health.last_state}")

# COMMAND ----------

# MAGIC %md
# MAGIC What fails now, since when, and who mends it:

# COMMAND ----------

display(rows("failing").select("table", "rule", "severity", "owner", "failed", "days_failing"))

# COMMAND ----------

# MAGIC %md
# MAGIC Nothing is lost on the way: what a stage lacks of the one before is 0, once an update has read what landed. What landed
# MAGIC is compared with MySQL once a week; the number beside it is what the last comparison found, and landed.

# COMMAND ----------

display(rows("row_counts"))

# COMMAND ----------

# MAGIC %md
# MAGIC The whole dashboard, as a page that works offline: `lakeflow-local dashboard preview
# MAGIC dashboards/data_quality.lvdash.json`. In a workspace it is a resource of the bundle.
