-- Which member a customer is, as it was landed, JSON lines in customer_members/, such as
-- {"customer_id":"11134891","member_id":"0b7f…","valid_from":"2023-01-01"}: invoices name customers by other numbers
-- than the member table does.
CREATE OR REFRESH STREAMING TABLE ${bronze_schema}.customer_members (
  customer_id STRING COMMENT 'Identifier of the customer on invoices (BT-46)',
  member_id STRING COMMENT 'Identifier of the member in silver.members',
  valid_from STRING COMMENT 'First day on which they are the same, YYYY-MM-DD; always if absent',
  valid_to STRING COMMENT 'Last such day, YYYY-MM-DD; until further notice if absent',
  _rescued_data STRING COMMENT 'JSON of what does not fit the columns',
  landed_file STRING NOT NULL COMMENT 'File in the landing zone',
  landed_at TIMESTAMP NOT NULL COMMENT 'When that file was written',
  CONSTRAINT nothing_rescued EXPECT (_rescued_data IS NULL),
  CONSTRAINT both_ids_are_given EXPECT (customer_id <> '' AND member_id <> '')
)
COMMENT 'Pairs of customer and member as landed, one row for each line of a landed file; personal data'
-- No statistics of what names a person: they would stay in the log after an erasure.
TBLPROPERTIES ('delta.dataSkippingStatsColumns' = 'landed_at')
AS
SELECT
  customer_id,
  member_id,
  valid_from,
  valid_to,
  _rescued_data,
  _metadata.file_path AS landed_file,
  _metadata.file_modification_time AS landed_at
FROM STREAM read_files(
  '${landing_url}/customer_members*/',
  format => 'json',
  schema => 'customer_id STRING, member_id STRING, valid_from STRING, valid_to STRING',
  rescuedDataColumn => '_rescued_data'
);
