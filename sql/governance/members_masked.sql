-- The members as analysts may see them. A view, and not masks on silver.members: masks are evaluated for who reads, and
-- the pipeline that makes gold reads that table too.
USE IDENTIFIER(:catalog || '.' || :silver_schema);

CREATE OR REPLACE VIEW members_masked
COMMENT 'Current members with what identifies them masked, by the groups of who reads'
AS SELECT
  member_key,
  mask_name(first_name) AS first_name,
  mask_name(last_name) AS last_name,
  mask_email(email_normalised) AS email,
  mask_phone(phone_normalised) AS phone_number,
  mask_all(address) AS address,
  city,
  country_code,
  registration_date
FROM members
WHERE sees_country(country_code);
