-- The MySQL user of the ingest: reads the declared tables (ingest/sources.yml) over TLS and writes nothing. Run as an
-- administrator of MySQL, in the database of the tables; the password is set by hand, so that no file has it:
--   ALTER USER ingest_reader IDENTIFIED BY '…' ACCOUNT UNLOCK;
-- `information_schema`, the named lock and the server's clock need no grant. A table for each line.
CREATE USER IF NOT EXISTS ingest_reader REQUIRE SSL WITH MAX_USER_CONNECTIONS 20 ACCOUNT LOCK;

GRANT SELECT ON members TO ingest_reader;
