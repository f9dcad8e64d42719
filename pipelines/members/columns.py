"""Columns that several datasets of the members pipeline agree on."""

# How a row came here; members_changes keeps them for whoever asks, the tables of members do without.
ARRIVAL = ["_op", "_extracted_at", "_run_id", "_rescued_data", "_source_file", "_source_file_time", "ingest_date"]
