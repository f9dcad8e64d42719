-- Functions that decide what a reader sees, for views, masks and row filters; run before the pipelines, any number of
-- times. Whoever is in the group pii_readers sees a value, all others what is left of it.
USE IDENTIFIER(:catalog || '.' || :silver_schema);

CREATE OR REPLACE FUNCTION mask_email(email STRING) RETURNS STRING
COMMENT 'Keeps the domain'
RETURN CASE WHEN is_account_group_member('pii_readers') THEN email ELSE regexp_replace(email, '^.*@', '***@') END;

CREATE OR REPLACE FUNCTION mask_phone(phone STRING) RETURNS STRING
COMMENT 'Keeps the last four digits'
RETURN CASE WHEN is_account_group_member('pii_readers') THEN phone ELSE concat('***', right(phone, 4)) END;

CREATE OR REPLACE FUNCTION mask_name(name STRING) RETURNS STRING
COMMENT 'Keeps the initial'
RETURN CASE WHEN is_account_group_member('pii_readers') THEN name ELSE concat(left(trim(name), 1), '.') END;

CREATE OR REPLACE FUNCTION mask_all(text STRING) RETURNS STRING
COMMENT 'Keeps nothing'
RETURN CASE WHEN is_account_group_member('pii_readers') THEN text END;

CREATE OR REPLACE FUNCTION sees_country(country_code STRING) RETURNS BOOLEAN
COMMENT 'Row filter: all countries for members_all_countries, one for a group such as members_de'
RETURN is_account_group_member('members_all_countries')
  OR coalesce(is_account_group_member('members_' || lower(country_code)), false);
