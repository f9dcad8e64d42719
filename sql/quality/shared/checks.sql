-- What each rule passed and refused in each update. An update that read no rows says nothing about a rule, and has no
-- row here: not checked is not passed.
WITH catalogue AS (
  --include catalogue
),

events AS (
  --include events
),

results AS (
  SELECT
    timestamp,
    origin.pipeline_name AS pipeline,
    origin.update_id AS update_id,
    explode(from_json(
      get_json_object(details, '$.flow_progress.data_quality.expectations'),
      'array<struct<name: string, dataset: string, passed_records: bigint, failed_records: bigint>>'
    )) AS result
  FROM events
  WHERE event_type = 'flow_progress'
)

SELECT
  results.pipeline,
  results.update_id,
  substring_index(results.result.dataset, '.', -2) AS `table`,
  results.result.name AS rule,
  coalesce(catalogue.severity, 'unknown') AS severity,
  coalesce(catalogue.dimension, 'unknown') AS dimension,
  coalesce(catalogue.owner, 'unknown') AS owner,
  sum(results.result.passed_records) AS passed,
  sum(results.result.failed_records) AS failed,
  sum(results.result.passed_records + results.result.failed_records) AS evaluated,
  max(results.timestamp) AS checked_at
FROM results
LEFT JOIN catalogue ON catalogue.rule = results.result.name
GROUP BY ALL
HAVING evaluated > 0
