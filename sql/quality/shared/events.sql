SELECT * FROM IDENTIFIER(:catalog || '.' || :ops_schema || '.members_event_log')
UNION ALL
SELECT * FROM IDENTIFIER(:catalog || '.' || :ops_schema || '.invoices_event_log')
UNION ALL
SELECT * FROM IDENTIFIER(:catalog || '.' || :ops_schema || '.members_gold_event_log')
