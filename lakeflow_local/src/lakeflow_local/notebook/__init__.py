"""Databricks and Jupyter notebooks, run cell by cell on local tables."""
