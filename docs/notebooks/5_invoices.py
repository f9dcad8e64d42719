# Databricks notebook source
# MAGIC %md
# MAGIC # The invoice model and the three questions
# MAGIC
# MAGIC `land-invoices` reads PDF, UBL and CII and lands a JSON document each; the pipeline `invoices` is SQL from there on.
# MAGIC `gold.fact_invoice_line` has one row for each line, with the document's discount, charges and tax allocated to the cent:
# MAGIC so sums by customer, product and day agree with the printed totals, whichever way one sums. **What it costs**: the
# MAGIC allocation is a window over each document.

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT
# MAGIC   count(*) AS documents,
# MAGIC   sum(line_count) AS lines,
# MAGIC   count_if(reconciles) AS reconciled,
# MAGIC   count_if(document_sign = -1) AS credit_notes
# MAGIC FROM gold.fact_invoice

# COMMAND ----------

# MAGIC %md
# MAGIC The questions are files, which the dashboard, the tests and these cells share. `:catalog` and `:gold_schema` are
# MAGIC parameters, since the same query is asked in every target.

# COMMAND ----------

from pathlib import Path

dbutils.widgets.text("catalog", spark.catalog.currentCatalog())
dbutils.widgets.text("gold_schema", "gold")


def answer(name: str):
    """The rows of a question of sql/analysis."""
    text = Path(f"../../sql/analysis/{name}.sql").read_text().rstrip().removesuffix(";")
    for parameter in ("catalog", "gold_schema"):
        text = text.replace(f":{parameter}", f"'{dbutils.widgets.get(parameter)}'")
    return spark.sql(text)


# COMMAND ----------

# MAGIC %md
# MAGIC **1. The five customers with the highest total purchase amount in January 2024.** In the reporting currency, with tax, less
# MAGIC credit notes; ties are kept. Customers by their number: names are not needed here.

# COMMAND ----------

display(answer("top_five_customers_of_january_2024").select("position", "customer_id", "total_purchase_amount"))

# COMMAND ----------

# MAGIC %md
# MAGIC **2. Invoices with a quantity greater than 10** on a single line.

# COMMAND ----------

display(answer("invoices_with_quantity_over_10"))

# COMMAND ----------

# MAGIC %md
# MAGIC **3. The date with the highest total purchase amount.**

# COMMAND ----------

display(answer("date_with_highest_total"))
