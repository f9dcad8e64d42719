"""Lakeflow declarative pipelines: the sources' vocabulary, their graph, and its updates."""
