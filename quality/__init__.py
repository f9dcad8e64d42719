"""The quality gate: contracts of the published tables, suites of Great Expectations, and `ops.dq_results`."""
