-- The five customers with the highest total purchase amount in January 2024, excluding tax: after discount and charges,
-- less credit notes. All else as in the answer.
WITH purchases AS (
  SELECT customer_sk, sum(signed_ex_tax_amount_rpt) AS total_ex_tax_amount
  FROM IDENTIFIER(:catalog || '.' || :gold_schema || '.fact_invoice_line')
  WHERE invoice_date >= DATE'2024-01-01' AND invoice_date < DATE'2024-02-01' AND NOT is_cancelled AND NOT is_replaced
  GROUP BY customer_sk
)

SELECT
  customer.customer_id,
  customer.customer_name,
  purchases.total_ex_tax_amount,
  rank() OVER (ORDER BY purchases.total_ex_tax_amount DESC) AS position
FROM purchases
INNER JOIN IDENTIFIER(:catalog || '.' || :gold_schema || '.dim_customer') AS customer
  ON customer.customer_sk = purchases.customer_sk
WHERE customer.customer_id IS NOT NULL AND purchases.total_ex_tax_amount IS NOT NULL
QUALIFY position <= 5
ORDER BY purchases.total_ex_tax_amount DESC, customer.customer_id;
