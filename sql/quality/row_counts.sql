-- Rows of members on their way: what each stage holds, and what it lacks of the one before, which is 0 once an update
-- has read what landed; members that were erased stay missing.
WITH landed AS (
  SELECT sum(rows_landed) AS rows
  FROM IDENTIFIER(:catalog || '.' || :ops_schema || '.ingest_runs')
  WHERE status = 'succeeded' AND source_table LIKE '%members'
),

-- What came by another way than the ingest, such as redriven rows, has not landed by it.
bronze AS (
  SELECT count(*) AS rows, count(run.run_id) AS of_ingest
  FROM IDENTIFIER(:catalog || '.' || :bronze_schema || '.members') AS bronze
  LEFT JOIN (SELECT DISTINCT run_id FROM IDENTIFIER(:catalog || '.' || :ops_schema || '.ingest_runs')) AS run
    ON run.run_id = bronze._run_id
),

accepted AS (
  SELECT count(*) AS rows FROM IDENTIFIER(:catalog || '.' || :silver_schema || '.members_changes')
),

quarantined AS (
  SELECT count(*) AS rows FROM IDENTIFIER(:catalog || '.' || :silver_schema || '.members_quarantine')
),

current AS (
  SELECT count(*) AS rows FROM IDENTIFIER(:catalog || '.' || :silver_schema || '.members')
),

-- History is made of the same changes, by itself.
open_versions AS (
  SELECT count(*) AS rows FROM IDENTIFIER(:catalog || '.' || :silver_schema || '.members_history') WHERE __END_AT IS NULL
),

-- What a whole comparison counted in MySQL, and found that had not landed; incremental runs count their window alone.
mysql AS (
  SELECT
    max_by(rows_source, ended_at) AS rows,
    max_by(rows_landed - rows_deleted, ended_at) FILTER (WHERE mode = 'reconcile') AS missed
  FROM IDENTIFIER(:catalog || '.' || :ops_schema || '.ingest_runs')
  WHERE status = 'succeeded' AND mode IN ('snapshot', 'reconcile') AND source_table LIKE '%members'
)

SELECT 1 AS position, 'MySQL, when last compared' AS stage, mysql.rows, CAST(NULL AS BIGINT) AS missing FROM mysql
UNION ALL
SELECT 2, 'changes landed', landed.rows, mysql.missed FROM landed CROSS JOIN mysql
UNION ALL
SELECT 3, 'changes in bronze', bronze.rows, landed.rows - bronze.of_ingest FROM landed CROSS JOIN bronze
UNION ALL
SELECT 4, 'changes accepted or quarantined', accepted.rows + quarantined.rows, bronze.rows - accepted.rows - quarantined.rows
FROM bronze CROSS JOIN accepted CROSS JOIN quarantined
UNION ALL
SELECT 5, 'members in silver now', current.rows, open_versions.rows - current.rows FROM current CROSS JOIN open_versions
ORDER BY position
