-- Quarantined rows by the rule that they break, on the day they landed. A row that breaks two rules counts for both.
WITH catalogue AS (
  --include catalogue
),

refused AS (
  SELECT ingest_date AS date, 'silver.members_quarantine' AS `table`, failed_rules
  FROM IDENTIFIER(:catalog || '.' || :silver_schema || '.members_quarantine')
  UNION ALL
  SELECT CAST(landed_at AS DATE), 'silver.invoices_quarantine', failed_rules
  FROM IDENTIFIER(:catalog || '.' || :silver_schema || '.invoices_quarantine')
),

reasons AS (
  SELECT date, `table`, explode(failed_rules) AS reason FROM refused
)

SELECT
  reasons.date,
  reasons.`table`,
  reasons.reason,
  coalesce(catalogue.severity, 'warning') AS severity,
  count(*) AS quarantined
FROM reasons
LEFT JOIN catalogue ON catalogue.rule = reasons.reason
GROUP BY ALL
ORDER BY quarantined DESC, `table`, reason
