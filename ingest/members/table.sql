-- The nine columns of the assignment, and the cursor. Only the key and the cursor are NOT NULL: the rules of the
-- pipeline judge the rest, and a source that refused bad rows would hide them.
CREATE TABLE IF NOT EXISTS members (
  member_id CHAR(36) NOT NULL,
  first_name VARCHAR(100),
  last_name VARCHAR(100),
  email VARCHAR(254),
  phone_number VARCHAR(40),
  address VARCHAR(255),
  city VARCHAR(100),
  country VARCHAR(100),
  registration_date DATE,
  updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
  PRIMARY KEY (member_id),
  INDEX members_updated_at (updated_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
