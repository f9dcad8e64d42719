-- How personal each column is, as tags; made by `make docs` out of quality/contracts, edit those.
-- Runs after the pipeline, any number of times.

USE IDENTIFIER(:catalog || '.' || :bronze_schema);
ALTER STREAMING TABLE customer_members ALTER COLUMN customer_id SET TAGS ('privacy' = 'pseudonym');
ALTER STREAMING TABLE customer_members ALTER COLUMN member_id SET TAGS ('privacy' = 'identifier');
ALTER STREAMING TABLE customer_members ALTER COLUMN _rescued_data SET TAGS ('privacy' = 'contact');
ALTER STREAMING TABLE exchange_rates ALTER COLUMN _rescued_data SET TAGS ('privacy' = 'contact');
ALTER STREAMING TABLE invoices ALTER COLUMN customer SET TAGS ('privacy' = 'contact');
ALTER STREAMING TABLE invoices ALTER COLUMN bill_to SET TAGS ('privacy' = 'contact');
ALTER STREAMING TABLE invoices ALTER COLUMN ship_to SET TAGS ('privacy' = 'contact');
ALTER STREAMING TABLE invoices ALTER COLUMN notes SET TAGS ('privacy' = 'contact');
ALTER STREAMING TABLE invoices ALTER COLUMN _rescued_data SET TAGS ('privacy' = 'contact');
ALTER STREAMING TABLE invoices_refused ALTER COLUMN _rescued_data SET TAGS ('privacy' = 'contact');

USE IDENTIFIER(:catalog || '.' || :silver_schema);
ALTER MATERIALIZED VIEW invoices ALTER COLUMN customer_sk SET TAGS ('privacy' = 'pseudonym');
ALTER MATERIALIZED VIEW invoices ALTER COLUMN customer_id SET TAGS ('privacy' = 'pseudonym');
ALTER MATERIALIZED VIEW invoices ALTER COLUMN customer_name SET TAGS ('privacy' = 'contact');
ALTER MATERIALIZED VIEW invoices ALTER COLUMN bill_to SET TAGS ('privacy' = 'contact');
ALTER MATERIALIZED VIEW invoices ALTER COLUMN ship_to SET TAGS ('privacy' = 'contact');
ALTER MATERIALIZED VIEW invoices_quarantine ALTER COLUMN raw SET TAGS ('privacy' = 'contact');

USE IDENTIFIER(:catalog || '.' || :gold_schema);
ALTER MATERIALIZED VIEW bridge_customer_member ALTER COLUMN customer_member_sk SET TAGS ('privacy' = 'pseudonym');
ALTER MATERIALIZED VIEW bridge_customer_member ALTER COLUMN customer_sk SET TAGS ('privacy' = 'pseudonym');
ALTER MATERIALIZED VIEW bridge_customer_member ALTER COLUMN customer_id SET TAGS ('privacy' = 'pseudonym');
ALTER MATERIALIZED VIEW bridge_customer_member ALTER COLUMN member_id SET TAGS ('privacy' = 'identifier');
ALTER MATERIALIZED VIEW dim_customer ALTER COLUMN customer_sk SET TAGS ('privacy' = 'pseudonym');
ALTER MATERIALIZED VIEW dim_customer ALTER COLUMN customer_id SET TAGS ('privacy' = 'pseudonym');
ALTER MATERIALIZED VIEW dim_customer ALTER COLUMN customer_name SET TAGS ('privacy' = 'contact');
ALTER MATERIALIZED VIEW fact_invoice ALTER COLUMN customer_sk SET TAGS ('privacy' = 'pseudonym');
ALTER MATERIALIZED VIEW fact_invoice ALTER COLUMN bill_to_name SET TAGS ('privacy' = 'contact');
ALTER MATERIALIZED VIEW fact_invoice ALTER COLUMN bill_to_address SET TAGS ('privacy' = 'contact');
ALTER MATERIALIZED VIEW fact_invoice ALTER COLUMN ship_to_name SET TAGS ('privacy' = 'contact');
ALTER MATERIALIZED VIEW fact_invoice ALTER COLUMN ship_to_address SET TAGS ('privacy' = 'contact');
ALTER MATERIALIZED VIEW fact_invoice_line ALTER COLUMN customer_sk SET TAGS ('privacy' = 'pseudonym');
