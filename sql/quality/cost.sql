-- List price in US dollars by day, product and run (of a job, else the update of a pipeline), of what carries the tag of
-- this project; some hours late.
SELECT
  usage.usage_date AS date,
  usage.billing_origin_product AS product,
  coalesce(usage.usage_metadata.job_run_id, usage.usage_metadata.dlt_update_id) AS run,
  CAST(sum(usage.usage_quantity) AS DECIMAL(18, 2)) AS dbu,
  CAST(sum(usage.usage_quantity * price.pricing.effective_list.default) AS DECIMAL(18, 2)) AS usd
FROM system.billing.usage AS usage
LEFT JOIN system.billing.list_prices AS price
  ON price.cloud = usage.cloud
  AND price.sku_name = usage.sku_name
  AND usage.usage_start_time >= price.price_start_time
  AND (price.price_end_time IS NULL OR usage.usage_start_time < price.price_end_time)
WHERE usage.custom_tags.project = 'member_lakehouse'
GROUP BY ALL
ORDER BY date, usd DESC
