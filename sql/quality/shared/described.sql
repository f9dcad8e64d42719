-- The columns of each table of the pipelines, as the last update that started said.
SELECT
  substring_index(get_json_object(details, '$.flow_definition.output_dataset'), '.', -2) AS `table`,
  max_by(
    from_json(
      get_json_object(details, '$.flow_definition.schema_json'), 'struct<fields: array<struct<name: string>>>'
    ).fields.name,
    timestamp
  ) AS names,
  max(timestamp) AS described_at
FROM events
WHERE event_type = 'flow_definition'
GROUP BY ALL
