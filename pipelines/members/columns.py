"""Columns that several datasets of the members pipeline agree on."""

# What the source is known to write. Whatever else it writes stays in bronze until it is asked for here.
SOURCE = {
    "member_id": "STRING",
    "first_name": "STRING",
    "last_name": "STRING",
    "email": "STRING",
    "phone_number": "STRING",
    "address": "STRING",
    "city": "STRING",
    "country": "STRING",
    "registration_date": "DATE",
    "updated_at": "TIMESTAMP",
}

# When a row changed, and what two sides are compared by.
CHANGE = {"_changed_at": "TIMESTAMP", "_row_hash": "STRING"}

# How a row came here; members_changes keeps them for whoever asks, the tables of members do without.
ARRIVAL = {
    "_op": "STRING",
    "_extracted_at": "TIMESTAMP",
    "_run_id": "STRING",
    "_rescued_data": "STRING",
    "_source_file": "STRING",
    "_source_file_time": "TIMESTAMP",
    "ingest_date": "DATE",
}

# What `contacts` reads out of the source's columns.
NORMALISED = {
    "member_key": "STRING",
    "email_normalised": "STRING",
    "phone_normalised": "STRING",
    "phone_assigned": "BOOLEAN",
    "country_code": "STRING",
    "country_name": "STRING",
}

# A version of a member is what a person would call a change of the member.
UNTRACKED = [*CHANGE, *NORMALISED, "updated_at"]

# File statistics stand in the transaction log, where no delete reaches them: none of a personal column. What they would
# skip, keys that are spread at random, is in every file anyway.
NO_PERSONAL_STATISTICS = {"delta.dataSkippingStatsColumns": "_changed_at"}
# Where no version of a file has ended, whoever looks for those that have need not read it.
STATISTICS_OF_VERSIONS = {"delta.dataSkippingStatsColumns": "_changed_at,__START_AT,__END_AT"}
