-- The five customers with the highest total purchase amount in January 2024, gross: what was invoiced, before any credit
-- note. All else as in the answer: totals after discount and with tax, in the reporting currency, without cancelled and
-- replaced documents; ties are kept.
WITH purchases AS (
  SELECT customer_sk, sum(line_total_amount_rpt) AS gross_purchase_amount
  FROM IDENTIFIER(:catalog || '.' || :gold_schema || '.fact_invoice_line')
  WHERE
    invoice_date >= DATE'2024-01-01' AND invoice_date < DATE'2024-02-01'
    AND document_sign = 1 AND NOT is_cancelled AND NOT is_replaced
  GROUP BY customer_sk
)

SELECT
  customer.customer_id,
  customer.customer_name,
  purchases.gross_purchase_amount,
  rank() OVER (ORDER BY purchases.gross_purchase_amount DESC) AS position
FROM purchases
INNER JOIN IDENTIFIER(:catalog || '.' || :gold_schema || '.dim_customer') AS customer
  ON customer.customer_sk = purchases.customer_sk
WHERE customer.customer_id IS NOT NULL AND purchases.gross_purchase_amount IS NOT NULL
QUALIFY position <= 5
ORDER BY purchases.gross_purchase_amount DESC, customer.customer_id;
