-- The tax of a document by category and rate. Where a document names its tax only as a whole, that is its one row.
CREATE OR REFRESH MATERIALIZED VIEW ${gold_schema}.fact_invoice_tax (
  invoice_tax_sk STRING NOT NULL COMMENT 'SHA-256 of document, category and rate',
  invoice_sk STRING NOT NULL COMMENT 'Document',
  invoice_date DATE NOT NULL COMMENT 'Day of issue, as printed (BT-2)',
  document_sign TINYINT NOT NULL COMMENT '-1 for credit notes, whose amounts are written positive, else 1',
  currency_code STRING NOT NULL COMMENT 'ISO 4217 code of the amounts (BT-5)',
  tax_category_code STRING COMMENT 'UNTDID 5305 code of the category, such as S, Z, E (BT-118); NULL if not given',
  tax_rate DECIMAL(7, 4) COMMENT 'Rate in percent (BT-119); NULL if not given; not additive',
  taxable_amount DECIMAL(18, 2) COMMENT 'What is taxed (BT-116); additive within one currency',
  tax_amount DECIMAL(18, 2) NOT NULL COMMENT 'The tax (BT-117); additive within one currency',
  exemption_reason STRING COMMENT 'Why nothing is due, or its code (BT-120, BT-121)',
  CONSTRAINT fact_invoice_tax_pk PRIMARY KEY (invoice_tax_sk) RELY,
  CONSTRAINT fact_invoice_tax_invoice_fk FOREIGN KEY (invoice_sk) REFERENCES ${gold_schema}.fact_invoice (invoice_sk)
)
COMMENT 'Tax of issued documents; one row for each document, tax category and rate'
CLUSTER BY (invoice_date)
AS
WITH taxes AS (
  SELECT
    invoice_sk,
    invoice_date,
    document_sign,
    currency_code,
    inline(if(
      size(taxes) > 0,
      taxes,
      array(named_struct(
        'tax_category_code', CAST(NULL AS STRING),
        'tax_rate', tax_rate,
        'taxable_amount', CAST(NULL AS DECIMAL(18, 2)),
        'tax_amount', tax_amount,
        'exemption_reason_code', CAST(NULL AS STRING),
        'exemption_reason', CAST(NULL AS STRING)
      ))
    ))
  FROM ${silver_schema}.invoices
  WHERE size(taxes) > 0 OR tax_amount <> 0
)

SELECT
  sha2(concat_ws('||', invoice_sk, coalesce(tax_category_code, '-'), coalesce(CAST(tax_rate AS STRING), '-')), 256) AS invoice_tax_sk,
  invoice_sk,
  invoice_date,
  document_sign,
  currency_code,
  tax_category_code,
  tax_rate,
  CAST(sum(taxable_amount) AS DECIMAL(18, 2)) AS taxable_amount,
  CAST(sum(tax_amount) AS DECIMAL(18, 2)) AS tax_amount,
  max(coalesce(exemption_reason, exemption_reason_code)) AS exemption_reason
FROM taxes
GROUP BY invoice_sk, invoice_date, document_sign, currency_code, tax_category_code, tax_rate;
