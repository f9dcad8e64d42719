-- One row for each line of an issued document. The document's discount, charges and tax are allocated to its lines in
-- proportion to the line net amounts, each share rounded half up to the cent; what rounding leaves goes to the line of
-- the largest amount, the first of them if several are equal. So the lines of a document add up to its printed total.
-- Several taxes are allocated one by one, each to the lines of its category and rate.
-- In the reporting currency the lines add up to the printed total at its rate, rounded once.
-- Amounts are positive on a credit note, as printed: multiply by document_sign, or use the signed columns.
CREATE OR REFRESH MATERIALIZED VIEW ${gold_schema}.fact_invoice_line (
  invoice_line_sk STRING NOT NULL COMMENT 'SHA-256 of document and line number',
  invoice_sk STRING NOT NULL COMMENT 'Document that the line belongs to',
  invoice_date DATE NOT NULL COMMENT 'Day of issue, as printed (BT-2)',
  customer_sk STRING NOT NULL COMMENT 'Customer; the unknown one if the document names none',
  product_sk STRING NOT NULL COMMENT 'Product; the unknown one if the line names none',
  seller_sk STRING NOT NULL COMMENT 'Seller',
  invoice_number STRING NOT NULL COMMENT 'Number of the document (BT-1); degenerate dimension',
  line_number INT NOT NULL COMMENT 'Number of the line (BT-126), its position if it is not numbered, 0 for a document without lines',
  line_id STRING COMMENT 'Number of the line as written, which need not be a number (BT-126)',
  is_whole_document BOOLEAN NOT NULL COMMENT 'Whether the row stands for a document whose profile has no lines',
  document_type_code STRING NOT NULL COMMENT 'UNTDID 1001: 380 invoice, 381 credit note (BT-3)',
  document_sign TINYINT NOT NULL COMMENT '-1 for credit notes, else 1',
  is_cancelled BOOLEAN NOT NULL COMMENT 'Whether the document was cancelled; analyses leave it out',
  is_replaced BOOLEAN NOT NULL COMMENT 'Whether a corrected invoice (384) stands in its place; analyses leave it out',
  currency_code STRING NOT NULL COMMENT 'ISO 4217 code of the amounts (BT-5)',
  quantity DECIMAL(18, 4) COMMENT 'Quantity as printed (BT-129); additive within one unit of measure',
  unit_of_measure STRING NOT NULL COMMENT 'Unit of the quantity (BT-130), EA if not given',
  unit_price DECIMAL(18, 6) COMMENT 'Net price of price_base_quantity units (BT-146); not additive',
  price_base_quantity DECIMAL(18, 4) COMMENT 'Number of units that the price is for (BT-149), 1 if not given; not additive',
  line_net_amount DECIMAL(18, 2) NOT NULL COMMENT 'Amount of the line before the document''s discount, charges and tax (BT-131); additive within one currency',
  allocated_discount_amount DECIMAL(18, 2) NOT NULL COMMENT 'Share of the document''s discount (BT-107); additive within one currency',
  allocated_charge_amount DECIMAL(18, 2) NOT NULL COMMENT 'Share of the document''s charges (BT-108); additive within one currency',
  taxable_amount DECIMAL(18, 2) NOT NULL COMMENT 'Net amount less discount plus charges, which is the amount without tax; additive within one currency',
  tax_category_code STRING COMMENT 'UNTDID 5305 code of the tax category of the line (BT-151)',
  tax_rate DECIMAL(7, 4) COMMENT 'Tax rate in percent, of the line (BT-152) or else of the document; not additive',
  allocated_tax_amount DECIMAL(18, 2) NOT NULL COMMENT 'Share of the document''s tax (BT-110); additive within one currency',
  allocated_rounding_amount DECIMAL(18, 2) NOT NULL COMMENT 'Share of what the printed total differs from the sum of its parts, at most a few cents; additive within one currency',
  line_total_amount DECIMAL(18, 2) NOT NULL COMMENT 'Share of the document''s total with tax (BT-112); additive within one currency',
  fx_rate DECIMAL(18, 8) COMMENT 'Units of ${reporting_currency} for one unit of the currency on the day of issue, by the last rate of the week before; NULL if there is none; not additive',
  line_total_amount_rpt DECIMAL(18, 2) COMMENT 'Share of the document''s total in ${reporting_currency}; additive',
  signed_quantity DECIMAL(18, 4) COMMENT 'quantity x document_sign; additive within one unit of measure',
  signed_ex_tax_amount_rpt DECIMAL(18, 2) COMMENT 'Share of the amount without tax in ${reporting_currency}, x document_sign; additive',
  signed_total_amount_rpt DECIMAL(18, 2) COMMENT 'line_total_amount_rpt x document_sign; additive',
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
  CONSTRAINT fact_invoice_line_currency_fk FOREIGN KEY (currency_code) REFERENCES ${gold_schema}.dim_currency (currency_code),
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
    document.* EXCEPT (lines),
    replaced.invoice_number IS NOT NULL AS is_replaced,
    CAST(if(document.currency_code = '${reporting_currency}', 1, fx.rate) AS DECIMAL(18, 8)) AS fx_rate,
    -- A document without lines stands in the table as one row, so that what it adds up to is not lost.
    if(
      is_without_lines,
      array(named_struct(
        'line_number', 0, 'line_id', NULL, 'item_id', NULL, 'item_name', NULL, 'quantity', NULL,
        'unit_of_measure', 'EA', 'unit_price', NULL, 'price_base_quantity', NULL, 'line_net_amount', subtotal_amount,
        'tax_category_code', NULL, 'tax_rate', NULL, 'allowance_charges', NULL
      )),
      document.lines
    ) AS lines
  FROM ${silver_schema}.invoices AS document
  LEFT JOIN replaced ON replaced.seller_sk = document.seller_sk AND replaced.invoice_number = document.invoice_number
  LEFT JOIN ${gold_schema}.fx_rate_daily AS fx
    ON fx.from_currency_code = document.currency_code
    AND fx.to_currency_code = '${reporting_currency}'
    AND fx.rate_date = document.invoice_date
),

-- What is allocated, each with the amounts of the lines that it is shared by: a tax of several by the lines of its
-- category and rate, if there are any, and all else by every line.
shared AS (
  SELECT
    *,
    transform(
      concat(
        array(
          named_struct('kind', 'discount', 'amount', discount_amount, 'nets', lines.line_net_amount),
          named_struct('kind', 'charge', 'amount', charge_amount, 'nets', lines.line_net_amount),
          named_struct(
            'kind', 'rounding',
            'amount', CAST(
              total_amount - (lines_amount - discount_amount + charge_amount + tax_amount) AS DECIMAL(18, 2)
            ),
            'nets', lines.line_net_amount
          )
        ),
        if(
          size(taxes) > 1 AND aggregate(
            taxes, CAST(0 AS DECIMAL(28, 2)), (sum, tax) -> CAST(sum + tax.tax_amount AS DECIMAL(28, 2))
          ) = tax_amount,
          transform(taxes, tax -> named_struct(
            'kind', 'tax',
            'amount', tax.tax_amount,
            'nets', transform(lines, line -> if(
              line.tax_category_code <=> tax.tax_category_code AND line.tax_rate <=> tax.tax_rate, line.line_net_amount, 0.00
            ))
          )),
          array(named_struct('kind', 'tax', 'amount', tax_amount, 'nets', lines.line_net_amount))
        )
      ),
      part -> named_struct(
        'kind', part.kind,
        'amount', part.amount,
        'nets', if(exists(part.nets, net -> net <> 0), part.nets, lines.line_net_amount)
      )
    ) AS parts
  FROM documents
),

-- In whole cents by integer division, because a decimal quotient is rounded before it can be rounded half up.
rounded AS (
  SELECT
    *,
    transform(
      transform(parts, part -> named_struct(
        'part', part,
        'whole', aggregate(part.nets, CAST(0 AS DECIMAL(28, 2)), (sum, net) -> CAST(sum + net AS DECIMAL(28, 2)))
      )),
      sized -> named_struct(
        'kind', sized.part.kind,
        'amount', sized.part.amount,
        'largest', array_position(
          transform(sized.part.nets, net -> abs(net)), array_max(transform(sized.part.nets, net -> abs(net)))
        ) - 1,
        'shares', transform(sized.part.nets, net -> CAST(
          CASE
            WHEN sized.whole = 0 THEN 0
            ELSE CAST(
              (200 * abs(net * sized.part.amount) + abs(sized.whole)) div (2 * abs(sized.whole)) AS DECIMAL(20, 0)
            ) * if((net * sized.part.amount < 0) = (sized.whole < 0), 0.01, -0.01)
          END AS DECIMAL(18, 2)
        ))
      )
    ) AS allocations
  FROM shared
),

-- The shares of each line, with what rounding left given to the largest.
allocated AS (
  SELECT
    *,
    transform(allocations, part -> named_struct(
      'kind', part.kind,
      'shares', transform(part.shares, (share, i) -> CAST(share + if(
        i = part.largest,
        part.amount - aggregate(part.shares, CAST(0 AS DECIMAL(28, 2)), (sum, each) -> CAST(sum + each AS DECIMAL(28, 2))),
        0
      ) AS DECIMAL(18, 2)))
    )) AS amounts
  FROM rounded
),

measured AS (
  SELECT
    *,
    transform(lines, (line, i) -> CAST(aggregate(
      filter(amounts, part -> part.kind = 'tax'),
      CAST(0 AS DECIMAL(28, 2)),
      (sum, part) -> CAST(sum + part.shares[i] AS DECIMAL(28, 2))
    ) AS DECIMAL(18, 2))) AS line_taxes,
    transform(lines, (line, i) -> CAST(
      line.line_net_amount - amounts[0].shares[i] + amounts[1].shares[i] AS DECIMAL(18, 2)
    )) AS taxable_amounts
  FROM allocated
),

totalled AS (
  SELECT
    *,
    transform(lines, (line, i) -> CAST(
      taxable_amounts[i] + line_taxes[i] + amounts[2].shares[i] AS DECIMAL(18, 2)
    )) AS line_total_amounts
  FROM measured
),

-- Converted line by line, cents would be lost; what rounding leaves goes to the largest line here too.
converted AS (
  SELECT
    *,
    transform(
      transform(array(taxable_amounts, line_total_amounts), lines -> named_struct(
        'largest', array_position(transform(lines, amount -> abs(amount)), array_max(transform(lines, amount -> abs(amount)))) - 1,
        'whole', round(
          aggregate(lines, CAST(0 AS DECIMAL(28, 2)), (sum, amount) -> CAST(sum + amount AS DECIMAL(28, 2))) * fx_rate, 2
        ),
        'shares', transform(lines, amount -> CAST(round(amount * fx_rate, 2) AS DECIMAL(18, 2)))
      )),
      part -> transform(part.shares, (share, i) -> CAST(share + if(
        i = part.largest,
        part.whole - aggregate(part.shares, CAST(0 AS DECIMAL(28, 2)), (sum, each) -> CAST(sum + each AS DECIMAL(28, 2))),
        0
      ) AS DECIMAL(18, 2)))
    ) AS amounts_rpt
  FROM totalled
),

lines AS (
  SELECT
    * EXCEPT (lines, tax_rate),
    inline(transform(lines, (line, i) -> named_struct(
      'line', line,
      'line_tax_rate', coalesce(line.tax_rate, tax_rate),
      'discount', amounts[0].shares[i],
      'charge', amounts[1].shares[i],
      'rounding', amounts[2].shares[i],
      'tax', line_taxes[i],
      'taxable_amount', taxable_amounts[i],
      'line_total_amount', line_total_amounts[i],
      'ex_tax_amount_rpt', amounts_rpt[0][i],
      'line_total_amount_rpt', amounts_rpt[1][i]
    )))
  FROM converted
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
  line.line_id,
  is_without_lines AS is_whole_document,
  document_type_code,
  document_sign,
  is_cancelled,
  is_replaced,
  currency_code,
  line.quantity,
  line.unit_of_measure,
  line.unit_price,
  line.price_base_quantity,
  line.line_net_amount,
  discount AS allocated_discount_amount,
  charge AS allocated_charge_amount,
  taxable_amount,
  line.tax_category_code,
  line_tax_rate AS tax_rate,
  tax AS allocated_tax_amount,
  rounding AS allocated_rounding_amount,
  line_total_amount,
  fx_rate,
  line_total_amount_rpt,
  CAST(document_sign * line.quantity AS DECIMAL(18, 4)) AS signed_quantity,
  CAST(document_sign * ex_tax_amount_rpt AS DECIMAL(18, 2)) AS signed_ex_tax_amount_rpt,
  CAST(document_sign * line_total_amount_rpt AS DECIMAL(18, 2)) AS signed_total_amount_rpt,
  purchase_order_number,
  preceding_invoice_number,
  line.item_id,
  line.item_name,
  source_file,
  ingested_at
FROM lines;
