-- Who may read what. The principal that runs the pipelines owns the tables; nobody else reads bronze and the quarantine.
USE IDENTIFIER(:catalog || '.' || :silver_schema);
GRANT USE SCHEMA ON SCHEMA IDENTIFIER(:catalog || '.' || :silver_schema) TO `member-lakehouse-analysts`;
GRANT USE SCHEMA ON SCHEMA IDENTIFIER(:catalog || '.' || :silver_schema) TO `pii_readers`;
GRANT SELECT ON VIEW members_masked TO `member-lakehouse-analysts`;
GRANT SELECT ON TABLE members TO `pii_readers`;
GRANT SELECT ON TABLE members_history TO `pii_readers`;
REVOKE ALL PRIVILEGES ON SCHEMA IDENTIFIER(:catalog || '.' || :bronze_schema) FROM `account users`;
GRANT USE SCHEMA ON SCHEMA IDENTIFIER(:catalog || '.' || :gold_schema) TO `member-lakehouse-analysts`;
GRANT SELECT ON SCHEMA IDENTIFIER(:catalog || '.' || :gold_schema) TO `member-lakehouse-analysts`;
