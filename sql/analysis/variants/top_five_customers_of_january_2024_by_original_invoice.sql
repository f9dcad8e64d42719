-- The five customers with the highest total purchase amount in January 2024, where a credit note counts in the month of
-- the invoice that it refers to, not in its own. A credit note without a reference, or to an invoice that never arrived,
-- keeps its own day. All else as in the answer.
WITH originals AS (
  SELECT seller_sk, invoice_number, max(invoice_date) AS invoice_date
  FROM IDENTIFIER(:catalog || '.' || :gold_schema || '.fact_invoice')
  GROUP BY seller_sk, invoice_number
),

purchases AS (
  SELECT line.customer_sk, sum(line.signed_total_amount_rpt) AS total_purchase_amount
  FROM IDENTIFIER(:catalog || '.' || :gold_schema || '.fact_invoice_line') AS line
  LEFT JOIN originals
    ON originals.seller_sk = line.seller_sk
    AND originals.invoice_number = line.preceding_invoice_number
    AND line.document_sign = -1
  WHERE
    coalesce(originals.invoice_date, line.invoice_date) >= DATE'2024-01-01'
    AND coalesce(originals.invoice_date, line.invoice_date) < DATE'2024-02-01'
    AND NOT line.is_cancelled AND NOT line.is_replaced
  GROUP BY line.customer_sk
)

SELECT
  customer.customer_id,
  customer.customer_name,
  purchases.total_purchase_amount,
  rank() OVER (ORDER BY purchases.total_purchase_amount DESC) AS position
FROM purchases
INNER JOIN IDENTIFIER(:catalog || '.' || :gold_schema || '.dim_customer') AS customer
  ON customer.customer_sk = purchases.customer_sk
WHERE customer.customer_id IS NOT NULL AND purchases.total_purchase_amount IS NOT NULL
QUALIFY position <= 5
ORDER BY purchases.total_purchase_amount DESC, customer.customer_id;
