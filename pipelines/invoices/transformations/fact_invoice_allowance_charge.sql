-- Allowances and charges as the documents name them. Those of a line are part of its net amount already.
CREATE OR REFRESH MATERIALIZED VIEW ${gold_schema}.fact_invoice_allowance_charge (
  allowance_charge_sk STRING NOT NULL COMMENT 'SHA-256 of document, line and position',
  invoice_sk STRING NOT NULL COMMENT 'Document',
  invoice_date DATE NOT NULL COMMENT 'Day of issue, as printed (BT-2)',
  line_number INT COMMENT 'Line that it belongs to; NULL for the document as a whole',
  position INT NOT NULL COMMENT 'Position among those of the line or the document, from 1',
  is_charge BOOLEAN NOT NULL COMMENT 'Whether it is a charge (BG-21, BG-28) rather than an allowance (BG-20, BG-27)',
  document_sign TINYINT NOT NULL COMMENT '-1 for credit notes, whose amounts are written positive, else 1',
  currency_code STRING NOT NULL COMMENT 'ISO 4217 code of the amounts (BT-5)',
  amount DECIMAL(18, 2) NOT NULL COMMENT 'Amount (BT-92, BT-99, BT-136, BT-141); additive within one currency and is_charge',
  base_amount DECIMAL(18, 2) COMMENT 'What the rate applies to (BT-93, BT-100, BT-137, BT-142); not additive',
  rate DECIMAL(7, 4) COMMENT 'Rate as written, in percent by EN 16931 (BT-94, BT-101, BT-138, BT-143); not additive',
  reason STRING COMMENT 'Reason, or its code (BT-97, BT-98, BT-104, BT-105)',
  tax_category_code STRING COMMENT 'UNTDID 5305 code of its tax (BT-95, BT-102)',
  tax_rate DECIMAL(7, 4) COMMENT 'Tax rate in percent (BT-96, BT-103); not additive',
  CONSTRAINT fact_invoice_allowance_charge_pk PRIMARY KEY (allowance_charge_sk) RELY,
  CONSTRAINT fact_invoice_allowance_charge_invoice_fk FOREIGN KEY (invoice_sk) REFERENCES ${gold_schema}.fact_invoice (invoice_sk)
)
COMMENT 'Allowances and charges of issued documents and of their lines; one row for each'
CLUSTER BY (invoice_date)
AS
WITH holders AS (
  SELECT
    invoice_sk,
    invoice_date,
    document_sign,
    currency_code,
    inline(concat(
      array(named_struct('line_number', CAST(NULL AS INT), 'entries', allowance_charges)),
      transform(lines, line -> named_struct('line_number', line.line_number, 'entries', line.allowance_charges))
    ))
  FROM ${silver_schema}.invoices
),

entries AS (
  SELECT * EXCEPT (entries), posexplode(entries) AS (position, entry)
  FROM holders
)

SELECT
  sha2(concat_ws('||', invoice_sk, coalesce(CAST(line_number AS STRING), 'document'), position), 256) AS allowance_charge_sk,
  invoice_sk,
  invoice_date,
  line_number,
  position + 1 AS position,
  entry.is_charge,
  document_sign,
  currency_code,
  entry.amount,
  entry.base_amount,
  entry.rate,
  coalesce(entry.reason, entry.reason_code) AS reason,
  entry.tax_category_code,
  entry.tax_rate
FROM entries;
