-- How many invoices have at least one line with a quantity greater than 10.
-- A single line must exceed 10: two lines of six do not. Each invoice counts once, however many such lines it has.
-- Credit notes are not invoices; cancelled and replaced invoices do not count.
SELECT count(DISTINCT invoice_sk) AS invoices_with_quantity_over_10
FROM IDENTIFIER(:catalog || '.' || :gold_schema || '.fact_invoice_line')
WHERE quantity > 10 AND document_sign = 1 AND NOT is_cancelled AND NOT is_replaced;
