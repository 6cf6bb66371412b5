-- What is new money, and what is not: every transfer that leaves one of our addresses, and what
-- people decide about deposits that may be credited money seen again.

-- Transfers of listed tokens from our addresses, to whomever. Facts of a block, as sightings are.
CREATE TABLE outgoing (
  chain_id     INTEGER NOT NULL,
  block_hash   BLOB    NOT NULL CHECK (length(block_hash) = 32),
  log_index    INTEGER NOT NULL CHECK (log_index >= 0),
  block_number INTEGER NOT NULL,
  tx_hash      BLOB    NOT NULL CHECK (length(tx_hash) = 32),
  token        BLOB    NOT NULL CHECK (length(token) = 20),
  address_id   INTEGER NOT NULL REFERENCES addresses,
  recipient    BLOB    NOT NULL CHECK (length(recipient) = 20),
  raw_amount   BLOB    NOT NULL CHECK (length(raw_amount) = 32),
  provider     TEXT    NOT NULL,
  seen_at_ms   INTEGER NOT NULL,
  PRIMARY KEY (chain_id, block_hash, log_index),
  FOREIGN KEY (chain_id, block_hash) REFERENCES blocks
) STRICT, WITHOUT ROWID;
CREATE INDEX outgoing_by_address ON outgoing (chain_id, address_id, block_number);

-- Two people release a deposit, and one says that what left an address is in order.
CREATE TABLE acts_before AS SELECT * FROM operator_acts;
DROP TABLE operator_acts;
CREATE TABLE operator_acts (
  act_id     INTEGER PRIMARY KEY CHECK (act_id > 0),
  kind       TEXT    NOT NULL CHECK (kind IN ('retry', 'accept_market', 'propose_price',
                                              'approve_price', 'resume_breaker', 'veto_price',
                                              'propose_release', 'approve_release',
                                              'accept_outflows')),
  operator   TEXT    NOT NULL CHECK (length(operator) BETWEEN 1 AND 63),
  reason     TEXT    NOT NULL CHECK (length(reason) BETWEEN 1 AND 1000),
  deposit_id BLOB    REFERENCES deposits,
  -- The block that it is about: the deposit's then, or that of the price which moved.
  chain_id   INTEGER NOT NULL,
  block_hash BLOB    NOT NULL CHECK (length(block_hash) = 32),
  pair             TEXT,
  price      TEXT,
  instant_ms INTEGER,
  approves   INTEGER UNIQUE REFERENCES operator_acts,
  -- Why the latch was open, and since when.
  latch      TEXT,
  at_ms           INTEGER NOT NULL,
  CHECK ((kind IN ('resume_breaker', 'veto_price')) = (deposit_id IS NULL)),
  CHECK ((kind IN ('approve_price', 'approve_release')) = (approves IS NOT NULL)),
  CHECK ((kind IN ('propose_price', 'resume_breaker', 'veto_price')) = (price IS NOT NULL))
) STRICT;
INSERT INTO operator_acts SELECT * FROM acts_before ORDER BY act_id;
DROP TABLE acts_before;
CREATE INDEX operator_acts_by_deposit ON operator_acts (deposit_id);
CREATE INDEX operator_acts_by_pair ON operator_acts (pair, kind);
CREATE INDEX operator_acts_by_block ON operator_acts (chain_id, block_hash);

-- The outgoing transfers that an operator had before the eyes, and the act that accepts them.
CREATE TABLE accepted_outflows (
  chain_id   INTEGER NOT NULL,
  block_hash BLOB    NOT NULL CHECK (length(block_hash) = 32),
  log_index  INTEGER NOT NULL,
  act_id     INTEGER NOT NULL REFERENCES operator_acts,
  PRIMARY KEY (chain_id, block_hash, log_index),
  FOREIGN KEY (chain_id, block_hash, log_index) REFERENCES outgoing
) STRICT, WITHOUT ROWID;

CREATE TRIGGER operator_acts_are_not_updated BEFORE UPDATE ON operator_acts
  BEGIN SELECT RAISE(ABORT, 'an act is never updated'); END;
CREATE TRIGGER operator_acts_are_not_deleted BEFORE DELETE ON operator_acts
  BEGIN SELECT RAISE(ABORT, 'an act is never deleted'); END;
CREATE TRIGGER outgoing_are_facts BEFORE UPDATE ON outgoing
  BEGIN SELECT RAISE(ABORT, 'an outgoing transfer is a fact'); END;
CREATE TRIGGER outgoing_are_not_deleted BEFORE DELETE ON outgoing
  BEGIN SELECT RAISE(ABORT, 'an outgoing transfer is a fact'); END;
