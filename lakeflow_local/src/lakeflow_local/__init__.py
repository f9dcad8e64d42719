"""Lakeflow on a laptop: pipelines, jobs and bundles of Databricks, run on Apache Spark and Delta Lake."""
