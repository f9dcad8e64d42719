-- One row for each issued document, with its control totals as printed and whether its lines add up to them.
-- Never sum these over a join with the lines.
CREATE OR REFRESH MATERIALIZED VIEW ${gold_schema}.fact_invoice (
  invoice_sk STRING NOT NULL COMMENT 'SHA-256 of seller and invoice number',
  invoice_date DATE NOT NULL COMMENT 'Day of issue, as printed (BT-2)',
  customer_sk STRING NOT NULL COMMENT 'Customer; the unknown one if the document names none',
  seller_sk STRING NOT NULL COMMENT 'Seller',
  invoice_number STRING NOT NULL COMMENT 'Number of the document (BT-1)',
  document_type_code STRING NOT NULL COMMENT 'UNTDID 1001: 380 invoice, 381 credit note (BT-3)',
  document_sign TINYINT NOT NULL COMMENT '-1 for credit notes, whose amounts are written positive, else 1',
  status STRING NOT NULL COMMENT 'issued or cancelled',
  is_cancelled BOOLEAN NOT NULL COMMENT 'Whether the document counts no more; analyses leave it out',
  due_date DATE COMMENT 'Day by which to pay (BT-9)',
  currency_code STRING NOT NULL COMMENT 'ISO 4217 code of the amounts (BT-5)',
  line_count INT NOT NULL COMMENT 'Number of lines; additive',
  subtotal_amount DECIMAL(18, 2) NOT NULL COMMENT 'Sum of the line net amounts (BT-106); additive within one currency',
  discount_rate DECIMAL(7, 4) COMMENT 'Discount on the document in percent (BT-94); not additive',
  discount_amount DECIMAL(18, 2) NOT NULL COMMENT 'Discount on the document (BT-107); additive within one currency',
  charge_amount DECIMAL(18, 2) NOT NULL COMMENT 'Charges on the document (BT-108); additive within one currency',
  total_ex_tax_amount DECIMAL(18, 2) NOT NULL COMMENT 'Subtotal less discount plus charges (BT-109); additive within one currency',
  tax_rate DECIMAL(7, 4) COMMENT 'Tax rate in percent (BT-119); not additive',
  tax_amount DECIMAL(18, 2) NOT NULL COMMENT 'Tax of the document (BT-110); additive within one currency',
  total_amount DECIMAL(18, 2) NOT NULL COMMENT 'Total of the document with tax (BT-112); additive within one currency',
  amount_paid DECIMAL(18, 2) COMMENT 'Paid when the document was issued (BT-113); never summed over time',
  balance_due_amount DECIMAL(18, 2) COMMENT 'Still to be paid then (BT-115); never summed over time',
  fx_rate DECIMAL(18, 8) COMMENT 'Units of ${reporting_currency} for one unit of the currency on the day of issue; not additive',
  total_amount_rpt DECIMAL(18, 2) COMMENT 'Sum of the lines'' totals in ${reporting_currency}; additive',
  lines_total_amount DECIMAL(18, 2) COMMENT 'Sum of the lines'' totals; additive within one currency',
  reconciles BOOLEAN NOT NULL COMMENT 'Whether the lines add up to the printed total',
  purchase_order_number STRING COMMENT 'Order of the customer (BT-13)',
  preceding_invoice_number STRING COMMENT 'Invoice that a credit note or a correction refers to (BT-25)',
  payment_method STRING COMMENT 'Means of payment, as printed (BT-82)',
  payment_terms STRING COMMENT 'Terms of payment, as printed (BT-20)',
  bill_to_name STRING COMMENT 'Who was billed (BT-44)',
  bill_to_address STRING COMMENT 'Where the bill went (BG-8)',
  ship_to_name STRING COMMENT 'Who received the goods (BT-70)',
  ship_to_address STRING COMMENT 'Where the goods went (BG-15)',
  source_file STRING NOT NULL COMMENT 'File that the document was read from',
  ingested_at TIMESTAMP NOT NULL COMMENT 'When this version of the document landed',
  CONSTRAINT fact_invoice_pk PRIMARY KEY (invoice_sk) RELY,
  CONSTRAINT fact_invoice_date_fk FOREIGN KEY (invoice_date) REFERENCES ${gold_schema}.dim_date (date_key),
  CONSTRAINT fact_invoice_customer_fk FOREIGN KEY (customer_sk) REFERENCES ${gold_schema}.dim_customer (customer_sk),
  CONSTRAINT fact_invoice_seller_fk FOREIGN KEY (seller_sk) REFERENCES ${gold_schema}.dim_seller (seller_sk),
  CONSTRAINT lines_add_up_to_total EXPECT (reconciles) ON VIOLATION FAIL UPDATE
)
COMMENT 'Issued invoices and credit notes with their totals as printed; one row for each document'
CLUSTER BY (invoice_date, customer_sk)
AS
WITH lines AS (
  SELECT
    invoice_sk,
    count(*) AS line_count,
    sum(line_total_amount) AS total_amount,
    sum(line_total_amount_rpt) AS total_amount_rpt,
    max(fx_rate) AS fx_rate
  FROM ${gold_schema}.fact_invoice_line
  GROUP BY invoice_sk
)

SELECT
  document.invoice_sk,
  document.invoice_date,
  document.customer_sk,
  document.seller_sk,
  document.invoice_number,
  document.document_type_code,
  document.document_sign,
  document.status,
  document.is_cancelled,
  document.due_date,
  document.currency_code,
  CAST(coalesce(lines.line_count, 0) AS INT) AS line_count,
  document.subtotal_amount,
  document.discount_rate,
  document.discount_amount,
  document.charge_amount,
  CAST(document.subtotal_amount - document.discount_amount + document.charge_amount AS DECIMAL(18, 2)) AS total_ex_tax_amount,
  document.tax_rate,
  document.tax_amount,
  document.total_amount,
  document.amount_paid,
  document.balance_due_amount,
  lines.fx_rate,
  CAST(lines.total_amount_rpt AS DECIMAL(18, 2)) AS total_amount_rpt,
  CAST(lines.total_amount AS DECIMAL(18, 2)) AS lines_total_amount,
  coalesce(lines.total_amount = document.total_amount, false) AS reconciles,
  document.purchase_order_number,
  document.preceding_invoice_number,
  document.payment_method,
  document.payment_terms,
  document.bill_to.name AS bill_to_name,
  document.bill_to.address AS bill_to_address,
  document.ship_to.name AS ship_to_name,
  document.ship_to.address AS ship_to_address,
  document.source_file,
  document.ingested_at
FROM ${silver_schema}.invoices AS document
LEFT JOIN lines ON lines.invoice_sk = document.invoice_sk;
