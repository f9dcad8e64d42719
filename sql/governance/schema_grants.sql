-- Who may enter which schema; run before the pipelines, any number of times. The principal that runs the pipelines owns
-- the tables; nobody else reads bronze and the quarantine.
REVOKE ALL PRIVILEGES ON SCHEMA IDENTIFIER(:catalog || '.' || :bronze_schema) FROM `account users`;
GRANT USE SCHEMA ON SCHEMA IDENTIFIER(:catalog || '.' || :silver_schema) TO `member-lakehouse-analysts`;
GRANT USE SCHEMA ON SCHEMA IDENTIFIER(:catalog || '.' || :silver_schema) TO `pii_readers`;
GRANT USE SCHEMA, SELECT ON SCHEMA IDENTIFIER(:catalog || '.' || :gold_schema) TO `member-lakehouse-analysts`;
