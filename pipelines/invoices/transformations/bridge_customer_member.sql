-- Which member a customer is: by the landed pairs, or because invoices name the customer by the member's own id. Names are
-- no proof. Join to the members by member_id; a member may be missing there, and a customer here.
CREATE OR REFRESH MATERIALIZED VIEW ${gold_schema}.bridge_customer_member (
  customer_member_sk STRING NOT NULL COMMENT 'SHA-256 of customer, member and first day',
  customer_sk STRING NOT NULL COMMENT 'Customer; it need not have bought yet',
  customer_id STRING NOT NULL COMMENT 'Identifier of the customer on invoices (BT-46)',
  member_id STRING NOT NULL MASK ${silver_schema}.mask_all COMMENT 'Identifier of the member in silver.members',
  match_method STRING NOT NULL COMMENT 'crosswalk if the pair was landed, same_id if invoices carry the member''s id',
  valid_from DATE NOT NULL COMMENT 'First day on which they are the same',
  valid_to DATE NOT NULL COMMENT 'Last such day; 9999-12-31 until further notice',
  CONSTRAINT bridge_customer_member_pk PRIMARY KEY (customer_member_sk) RELY
)
COMMENT 'Customers of invoices and the members that they are; one row for each pair and first day; personal data'
-- No statistics of what names a person: they would stay in the log after an erasure.
TBLPROPERTIES ('delta.dataSkippingStatsColumns' = 'valid_from,valid_to')
AS
WITH pairs AS (
  SELECT
    trim(customer_id) AS customer_id,
    lower(trim(member_id)) AS member_id,
    'crosswalk' AS match_method,
    coalesce(try_cast(valid_from AS DATE), DATE'1900-01-01') AS valid_from,
    coalesce(try_cast(valid_to AS DATE), DATE'9999-12-31') AS valid_to,
    landed_at,
    landed_file
  FROM ${bronze_schema}.customer_members
  WHERE trim(customer_id) <> '' AND trim(member_id) <> ''
  UNION ALL
  SELECT
    customer_id,
    lower(customer_id),
    'same_id',
    DATE'1900-01-01',
    DATE'9999-12-31',
    TIMESTAMP'1900-01-01 00:00:00',
    ''
  FROM ${silver_schema}.invoices
  WHERE customer_id RLIKE '^(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
)

SELECT
  sha2(concat_ws('||', customer_id, member_id, valid_from), 256) AS customer_member_sk,
  sha2(customer_id, 256) AS customer_sk,
  customer_id,
  member_id,
  max_by(match_method, struct(landed_at, landed_file, match_method)) AS match_method,
  valid_from,
  max_by(valid_to, struct(landed_at, landed_file, valid_to)) AS valid_to
FROM pairs
GROUP BY customer_id, member_id, valid_from;
