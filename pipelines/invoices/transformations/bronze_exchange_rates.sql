-- Exchange rates as they were landed, JSON lines in exchange_rates/, such as
-- {"rate_date":"2024-01-02","from_currency":"EUR","to_currency":"HKD","rate":"8.6142"}.
CREATE OR REFRESH STREAMING TABLE ${bronze_schema}.exchange_rates (
  rate_date STRING COMMENT 'Day on which the rate was published, YYYY-MM-DD',
  from_currency STRING COMMENT 'ISO 4217 code of what one unit of is priced',
  to_currency STRING COMMENT 'ISO 4217 code of what it is priced in',
  rate STRING COMMENT 'Units of to_currency for one unit of from_currency',
  _rescued_data STRING COMMENT 'JSON of what does not fit the columns',
  landed_file STRING NOT NULL COMMENT 'File in the landing zone',
  landed_at TIMESTAMP NOT NULL COMMENT 'When that file was written',
  CONSTRAINT nothing_rescued EXPECT (_rescued_data IS NULL),
  CONSTRAINT rate_is_positive EXPECT (coalesce(try_cast(rate AS DECIMAL(18, 8)) > 0, false)),
  CONSTRAINT rate_date_is_a_date EXPECT (try_cast(rate_date AS DATE) IS NOT NULL)
)
COMMENT 'Exchange rates as landed, one row for each line of a landed file'
AS
SELECT
  rate_date,
  from_currency,
  to_currency,
  rate,
  _rescued_data,
  _metadata.file_path AS landed_file,
  _metadata.file_modification_time AS landed_at
FROM STREAM read_files(
  '${landing_url}/exchange_rates*/',
  format => 'json',
  schema => 'rate_date STRING, from_currency STRING, to_currency STRING, rate STRING',
  rescuedDataColumn => '_rescued_data'
);
