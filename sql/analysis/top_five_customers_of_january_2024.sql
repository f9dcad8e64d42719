-- The five customers with the highest total purchase amount in January 2024.
-- Purchase amount: the documents' totals after discount and with tax, in the reporting currency. Credit notes reduce it
-- on their own day of issue. Cancelled documents do not count, nor invoices that a corrected one replaces, nor lines whose
-- exchange rate is missing.
-- Customers are told apart by their id. Ties are kept, so rank 5 may have several rows. Documents without a customer
-- are not ranked; their sum stands beside.
WITH purchases AS (
  SELECT
    customer_sk,
    sum(signed_total_amount_rpt) AS total_purchase_amount,
    sum(signed_ex_tax_amount_rpt) AS total_ex_tax_amount
  FROM IDENTIFIER(:catalog || '.' || :gold_schema || '.fact_invoice_line')
  WHERE invoice_date >= DATE'2024-01-01' AND invoice_date < DATE'2024-02-01' AND NOT is_cancelled AND NOT is_replaced
  GROUP BY customer_sk
),

customers AS (
  SELECT
    customer.customer_id,
    customer.customer_name,
    purchases.total_purchase_amount,
    purchases.total_ex_tax_amount,
    sum(purchases.total_purchase_amount) FILTER (WHERE customer.customer_id IS NULL) OVER () AS total_of_unknown_customers
  FROM purchases
  LEFT JOIN IDENTIFIER(:catalog || '.' || :gold_schema || '.dim_customer') AS customer
    ON customer.customer_sk = purchases.customer_sk
)

SELECT
  customer_id,
  customer_name,
  total_purchase_amount,
  total_ex_tax_amount,
  rank() OVER (ORDER BY total_purchase_amount DESC) AS position,
  coalesce(total_of_unknown_customers, 0) AS total_of_unknown_customers
FROM customers
WHERE customer_id IS NOT NULL AND total_purchase_amount IS NOT NULL
QUALIFY position <= 5
ORDER BY total_purchase_amount DESC, customer_id;
