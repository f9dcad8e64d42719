"""Databricks bundles on this machine: reading, checking, and running their jobs and pipelines."""
