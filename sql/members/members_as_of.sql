-- The members as of a day: those, and as they were, at the end of it in UTC.
-- A version is valid from __START_AT until __END_AT; a delete alone has no __START_AT.
SELECT
  * EXCEPT (__START_AT, __END_AT),
  __START_AT AS valid_from,
  __END_AT AS valid_until
FROM IDENTIFIER(:catalog || '.' || :silver_schema || '.members_history')
WHERE
  __START_AT < CAST(DATE_ADD(CAST(:day AS DATE), 1) AS TIMESTAMP)
  AND (__END_AT IS NULL OR __END_AT >= CAST(DATE_ADD(CAST(:day AS DATE), 1) AS TIMESTAMP))
ORDER BY member_id
