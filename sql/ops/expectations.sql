-- What each rule of a pipeline passed and refused in one update, by default the last one that checked any.
WITH events AS (
  SELECT origin.update_id AS update_id, timestamp, details
  FROM IDENTIFIER(:event_log)
  WHERE event_type = 'flow_progress'
    AND get_json_object(details, '$.flow_progress.data_quality.expectations') IS NOT NULL
),
rules AS (
  SELECT explode(from_json(
    get_json_object(details, '$.flow_progress.data_quality.expectations'),
    'array<struct<name: string, dataset: string, passed_records: bigint, failed_records: bigint>>'
  )) AS rule
  FROM events
  WHERE update_id = coalesce(nullif(:update_id, ''), (SELECT max_by(update_id, timestamp) FROM events))
)
SELECT
  rule.dataset,
  rule.name AS rule,
  sum(rule.passed_records) AS passed,
  sum(rule.failed_records) AS failed
FROM rules
GROUP BY rule.dataset, rule.name
ORDER BY failed DESC, rule.dataset, rule.name
