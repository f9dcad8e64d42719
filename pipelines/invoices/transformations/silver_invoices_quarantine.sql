CREATE OR REFRESH MATERIALIZED VIEW ${silver_schema}.invoices_quarantine (
  landed_file STRING NOT NULL COMMENT 'File in the landing zone that holds the document',
  landed_at TIMESTAMP NOT NULL COMMENT 'When that file was written',
  content_hash STRING NOT NULL COMMENT 'SHA-256 of the document as landed, or of the bytes of a file that could not be read',
  failed_rules ARRAY<STRING> NOT NULL COMMENT 'Every rule that the document breaks; file_is_readable if it could not be read',
  reason STRING COMMENT 'Why the file could not be read',
  seller_name STRING COMMENT 'Seller, if it could be read (BT-27)',
  invoice_number STRING COMMENT 'Number, if it could be read (BT-1)',
  invoice_date DATE COMMENT 'Day of issue, if it could be read (BT-2)',
  total_amount DECIMAL(18, 2) COMMENT 'Total, if it could be read (BT-112)',
  raw STRING COMMENT 'What of the line did not fit the contract; the whole line if it is not JSON',
  source_file STRING COMMENT 'File that the document was read from before it was landed'
)
COMMENT 'What is refused: files that could not be read, and documents of which a required field is missing or malformed or the arithmetic does not hold; one row for each landed line'
CLUSTER BY AUTO
AS
SELECT
  landed_file,
  landed_at,
  content_hash,
  failed_rules,
  CAST(NULL AS STRING) AS reason,
  seller_name,
  invoice_number,
  invoice_date,
  total_amount,
  _rescued_data AS raw,
  source_file
FROM invoices_checked
WHERE size(failed_rules) > 0
UNION ALL
SELECT
  landed_file,
  landed_at,
  coalesce(sha256, sha2(coalesce(_rescued_data, ''), 256)),
  array('file_is_readable'),
  reason,
  NULL,
  NULL,
  NULL,
  NULL,
  _rescued_data,
  file
FROM ${bronze_schema}.invoices_refused;
