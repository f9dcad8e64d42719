-- Who may read which table of members; run after the pipelines, any number of times.
USE IDENTIFIER(:catalog || '.' || :silver_schema);
GRANT SELECT ON VIEW members_masked TO `member-lakehouse-analysts`;
GRANT SELECT ON TABLE members TO `pii_readers`;
GRANT SELECT ON TABLE members_history TO `pii_readers`;
