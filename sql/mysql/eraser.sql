-- The MySQL user of the erasure: reads and deletes members over TLS, and nothing else. Run as an administrator of MySQL, in
-- the database of the tables; the password is set by hand, so that no file has it:
--   ALTER USER eraser IDENTIFIED BY '…' ACCOUNT UNLOCK;
CREATE USER IF NOT EXISTS eraser REQUIRE SSL WITH MAX_USER_CONNECTIONS 2 ACCOUNT LOCK;

GRANT SELECT, DELETE ON members TO eraser;
