-- Files that no reader could read, as `land-invoices` lands them. The pattern lets the folder be missing until there is one.
CREATE OR REFRESH STREAMING TABLE ${bronze_schema}.invoices_refused (
  file STRING COMMENT 'Path of the file in the folder that was read',
  sha256 STRING COMMENT 'SHA-256 of its bytes',
  reader STRING COMMENT 'Reader that gave up: xml, ubl, cii, pdf, printed or json; NULL if none knows the kind of file',
  reason STRING COMMENT 'Why the file is no document',
  _rescued_data STRING COMMENT 'JSON of what does not fit the columns',
  landed_file STRING NOT NULL COMMENT 'File in the landing zone',
  landed_at TIMESTAMP NOT NULL COMMENT 'When that file was written',
  CONSTRAINT nothing_rescued EXPECT (_rescued_data IS NULL)
)
COMMENT 'Files that could not be read as invoices; one row for each'
AS
SELECT
  file,
  sha256,
  nullif(reader, '') AS reader,
  reason,
  _rescued_data,
  _metadata.file_path AS landed_file,
  _metadata.file_modification_time AS landed_at
FROM STREAM read_files(
  '${landing_url}/invoices_refused*/',
  format => 'json',
  schema => 'file STRING, sha256 STRING, reader STRING, reason STRING',
  rescuedDataColumn => '_rescued_data'
);
