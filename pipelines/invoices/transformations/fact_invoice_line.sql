-- One row for each line of an issued document. The document's discount, charges and tax are allocated to its lines in
-- proportion to the line net amounts, each share rounded half up to the cent; what rounding leaves goes to the line of
-- the largest amount, the first of them if several are equal. So the lines of a document add up to its printed total.
-- Amounts are positive on a credit note, as printed: multiply by document_sign, or use the signed columns.
CREATE OR REFRESH MATERIALIZED VIEW ${gold_schema}.fact_invoice_line (
  invoice_line_sk STRING NOT NULL COMMENT 'SHA-256 of document and line number',
  invoice_sk STRING NOT NULL COMMENT 'Document that the line belongs to',
  invoice_date DATE NOT NULL COMMENT 'Day of issue, as printed (BT-2)',
  customer_sk STRING NOT NULL COMMENT 'Customer; the unknown one if the document names none',
  product_sk STRING NOT NULL COMMENT 'Product; the unknown one if the line names none',
  seller_sk STRING NOT NULL COMMENT 'Seller',
  invoice_number STRING NOT NULL COMMENT 'Number of the document (BT-1); degenerate dimension',
  line_number INT NOT NULL COMMENT 'Number of the line (BT-126), its position if it is not numbered',
  document_type_code STRING NOT NULL COMMENT 'UNTDID 1001: 380 invoice, 381 credit note (BT-3)',
  document_sign TINYINT NOT NULL COMMENT '-1 for credit notes, else 1',
  is_cancelled BOOLEAN NOT NULL COMMENT 'Whether the document was cancelled; analyses leave it out',
  is_replaced BOOLEAN NOT NULL COMMENT 'Whether a corrected invoice (384) stands in its place; analyses leave it out',
  currency_code STRING NOT NULL COMMENT 'ISO 4217 code of the amounts (BT-5)',
  quantity DECIMAL(18, 4) COMMENT 'Quantity as printed (BT-129); additive within one unit of measure',
  unit_of_measure STRING NOT NULL COMMENT 'Unit of the quantity (BT-130), EA if not given',
  unit_price DECIMAL(18, 6) COMMENT 'Net price of one unit (BT-146); not additive',
  line_net_amount DECIMAL(18, 2) NOT NULL COMMENT 'Amount of the line before the document''s discount, charges and tax (BT-131); additive within one currency',
  allocated_discount_amount DECIMAL(18, 2) NOT NULL COMMENT 'Share of the document''s discount (BT-107); additive within one currency',
  allocated_charge_amount DECIMAL(18, 2) NOT NULL COMMENT 'Share of the document''s charges (BT-108); additive within one currency',
  taxable_amount DECIMAL(18, 2) NOT NULL COMMENT 'Net amount less discount plus charges, which is the amount without tax; additive within one currency',
  tax_rate DECIMAL(7, 4) COMMENT 'Tax rate in percent, of the line (BT-152) or else of the document; not additive',
  allocated_tax_amount DECIMAL(18, 2) NOT NULL COMMENT 'Share of the document''s tax (BT-110); additive within one currency',
  allocated_rounding_amount DECIMAL(18, 2) NOT NULL COMMENT 'Share of what the printed total differs from the sum of its parts, at most a few cents; additive within one currency',
  line_total_amount DECIMAL(18, 2) NOT NULL COMMENT 'Share of the document''s total with tax (BT-112); additive within one currency',
  fx_rate DECIMAL(18, 8) COMMENT 'Units of ${reporting_currency} for one unit of the currency on the day of issue; not additive',
  line_total_amount_rpt DECIMAL(18, 2) COMMENT 'line_total_amount in ${reporting_currency}; additive',
  signed_quantity DECIMAL(18, 4) COMMENT 'quantity x document_sign; additive within one unit of measure',
  signed_ex_tax_amount_rpt DECIMAL(18, 2) COMMENT 'taxable_amount x document_sign in ${reporting_currency}; additive',
  signed_total_amount_rpt DECIMAL(18, 2) COMMENT 'line_total_amount x document_sign in ${reporting_currency}; additive',
  purchase_order_number STRING COMMENT 'Order of the customer (BT-13); degenerate dimension',
  preceding_invoice_number STRING COMMENT 'Invoice that a credit note or a correction refers to (BT-25)',
  item_id STRING COMMENT 'The seller''s identifier of the item (BT-155)',
  item_name STRING COMMENT 'Name of the item, as printed (BT-153)',
  source_file STRING NOT NULL COMMENT 'File that the document was read from',
  ingested_at TIMESTAMP NOT NULL COMMENT 'When this version of the document landed',
  CONSTRAINT fact_invoice_line_pk PRIMARY KEY (invoice_line_sk) RELY,
  CONSTRAINT fact_invoice_line_invoice_fk FOREIGN KEY (invoice_sk) REFERENCES ${gold_schema}.fact_invoice (invoice_sk),
  CONSTRAINT fact_invoice_line_date_fk FOREIGN KEY (invoice_date) REFERENCES ${gold_schema}.dim_date (date_key),
  CONSTRAINT fact_invoice_line_customer_fk FOREIGN KEY (customer_sk) REFERENCES ${gold_schema}.dim_customer (customer_sk),
  CONSTRAINT fact_invoice_line_product_fk FOREIGN KEY (product_sk) REFERENCES ${gold_schema}.dim_product (product_sk),
  CONSTRAINT fact_invoice_line_seller_fk FOREIGN KEY (seller_sk) REFERENCES ${gold_schema}.dim_seller (seller_sk),
  CONSTRAINT exchange_rate_is_known EXPECT (fx_rate IS NOT NULL)
)
COMMENT 'Lines of issued invoices and credit notes with their share of the document''s discount, charges and tax; one row for each line'
CLUSTER BY (invoice_date, customer_sk)
AS
WITH replaced AS (
  SELECT DISTINCT seller_sk, preceding_invoice_number AS invoice_number
  FROM ${silver_schema}.invoices
  WHERE document_type_code = '384' AND NOT is_cancelled AND preceding_invoice_number <> invoice_number
),

documents AS (
  SELECT
    document.*,
    replaced.invoice_number IS NOT NULL AS is_replaced,
    array(
      discount_amount,
      charge_amount,
      tax_amount,
      CAST(total_amount - (lines_amount - discount_amount + charge_amount + tax_amount) AS DECIMAL(18, 2))
    ) AS document_amounts,
    transform(lines, line -> abs(line.line_net_amount)) AS sizes
  FROM ${silver_schema}.invoices AS document
  LEFT JOIN replaced ON replaced.seller_sk = document.seller_sk AND replaced.invoice_number = document.invoice_number
),

-- In whole cents by integer division, because a decimal quotient is rounded before it can be rounded half up.
rounded AS (
  SELECT
    *,
    array_position(sizes, array_max(sizes)) - 1 AS largest,
    transform(document_amounts, amount -> transform(lines, line -> CAST(
      CASE
        WHEN lines_amount = 0 THEN 0
        ELSE CAST((200 * abs(line.line_net_amount * amount) + abs(lines_amount)) div (2 * abs(lines_amount)) AS DECIMAL(20, 0))
          * if((line.line_net_amount * amount < 0) = (lines_amount < 0), 0.01, -0.01)
      END AS DECIMAL(18, 2)
    ))) AS shares
  FROM documents
),

remaining AS (
  SELECT
    *,
    transform(document_amounts, (amount, i) -> CAST(
      amount - aggregate(shares[i], CAST(0 AS DECIMAL(28, 2)), (sum, share) -> CAST(sum + share AS DECIMAL(28, 2)))
      AS DECIMAL(18, 2)
    )) AS remainders
  FROM rounded
),

lines AS (
  SELECT
    * EXCEPT (lines, tax_rate),
    inline(transform(lines, (line, i) -> named_struct(
      'line', line,
      'line_tax_rate', coalesce(line.tax_rate, tax_rate),
      'discount', CAST(shares[0][i] + if(i = largest, remainders[0], 0) AS DECIMAL(18, 2)),
      'charge', CAST(shares[1][i] + if(i = largest, remainders[1], 0) AS DECIMAL(18, 2)),
      'tax', CAST(shares[2][i] + if(i = largest, remainders[2], 0) AS DECIMAL(18, 2)),
      'rounding', CAST(shares[3][i] + if(i = largest, remainders[3], 0) AS DECIMAL(18, 2))
    )))
  FROM remaining
),

measured AS (
  SELECT
    *,
    CAST(line.line_net_amount - discount + charge AS DECIMAL(18, 2)) AS taxable_amount,
    CAST(line.line_net_amount - discount + charge + tax + rounding AS DECIMAL(18, 2)) AS line_total_amount,
    CAST(if(currency_code = '${reporting_currency}', 1, NULL) AS DECIMAL(18, 8)) AS fx_rate
  FROM lines
)

SELECT
  sha2(concat_ws('||', invoice_sk, line.line_number), 256) AS invoice_line_sk,
  invoice_sk,
  invoice_date,
  customer_sk,
  sha2(
    CASE
      WHEN line.item_id IS NOT NULL THEN concat_ws('||', seller_sk, 'id', line.item_id)
      WHEN line.item_name IS NOT NULL THEN concat_ws('||', seller_sk, 'name', upper(regexp_replace(line.item_name, ' +', ' ')))
      ELSE '-1'
    END,
    256
  ) AS product_sk,
  seller_sk,
  invoice_number,
  line.line_number,
  document_type_code,
  document_sign,
  is_cancelled,
  is_replaced,
  currency_code,
  line.quantity,
  line.unit_of_measure,
  line.unit_price,
  line.line_net_amount,
  discount AS allocated_discount_amount,
  charge AS allocated_charge_amount,
  taxable_amount,
  line_tax_rate AS tax_rate,
  tax AS allocated_tax_amount,
  rounding AS allocated_rounding_amount,
  line_total_amount,
  fx_rate,
  CAST(round(line_total_amount * fx_rate, 2) AS DECIMAL(18, 2)) AS line_total_amount_rpt,
  CAST(document_sign * line.quantity AS DECIMAL(18, 4)) AS signed_quantity,
  CAST(document_sign * round(taxable_amount * fx_rate, 2) AS DECIMAL(18, 2)) AS signed_ex_tax_amount_rpt,
  CAST(document_sign * round(line_total_amount * fx_rate, 2) AS DECIMAL(18, 2)) AS signed_total_amount_rpt,
  purchase_order_number,
  preceding_invoice_number,
  line.item_id,
  line.item_name,
  source_file,
  ingested_at
FROM measured;
