# Databricks notebook source
# MAGIC %md
# MAGIC # The members pipeline, step by step
# MAGIC
# MAGIC The pipeline runs as a whole, by the job `members_refresh`; here its functions are applied to what is in bronze. They are
# MAGIC pure: a DataFrame in, a DataFrame out, the same for a stream and for a table, which is why they can be tried here. The
# MAGIC pipeline's environment has three libraries that a notebook wants too: `%pip install email-validator phonenumbers pycountry`
# MAGIC on Databricks.

# COMMAND ----------

import sys

sys.path.append("../../pipelines/members")

from rules import DROP, RULES, predicates
from transforms import normalised, refused

for rule in RULES:
    print(f"{rule.name} ({rule.dimension}, {rule.action}): {rule.reason}")

# COMMAND ----------

# MAGIC %md
# MAGIC **Normalise.** What is compared and searched stands beside what was written, which stays as it is. Addresses and numbers
# MAGIC are read by the parsers of the field, in one pass of Python for all of them: a regular expression that knows the numbering
# MAGIC plan of every country is nobody's. `member_key` is a pseudonym, made with a secret; here another key does, since nothing
# MAGIC is written.

# COMMAND ----------

bronze = spark.read.table("bronze.members")
changes = normalised(bronze, "a key for trying")
print(sorted(set(changes.columns) - set(bronze.columns)))

# COMMAND ----------

# MAGIC %md
# MAGIC **Judge.** The same predicates let rows through to `silver.members_changes` (as expectations, counted in the pass that
# MAGIC writes) and name what is wrong in `silver.members_quarantine`. Neither can forget a rule that the other has: there is one
# MAGIC list. Only counts are shown: these rows are personal data.

# COMMAND ----------

from pyspark.sql import functions as F

quarantine = refused(changes, predicates(DROP))
display(quarantine.select(F.explode("failed_rules").alias("rule")).groupBy("rule").count().orderBy("rule"))

# COMMAND ----------

# MAGIC %md
# MAGIC **Keep the last, and every version.** AUTO CDC orders the changes of a member by `_changed_at` and keeps the last in
# MAGIC `silver.members` (type 1) and every version in `silver.members_history` (type 2), whatever order files arrive in. **What it
# MAGIC costs**: a merge that rewrites the files of the keys that changed.

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT count(*) AS versions, count(DISTINCT member_id) AS members, count_if(__END_AT IS NULL) AS open
# MAGIC FROM silver.members_history
