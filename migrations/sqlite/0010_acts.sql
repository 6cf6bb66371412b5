-- A proposal can be withdrawn, and an approval says what it approves: the act's number and its hash.

-- What left our addresses names acts; it stays, and so do they.
PRAGMA defer_foreign_keys = ON;
CREATE TABLE acts_before AS SELECT * FROM operator_acts;
DROP TABLE operator_acts;
CREATE TABLE operator_acts (
  act_id     INTEGER PRIMARY KEY CHECK (act_id > 0),
  kind       TEXT    NOT NULL CHECK (kind IN ('retry', 'accept_market', 'propose_price',
                                              'approve_price', 'resume_breaker', 'veto_price',
                                              'propose_release', 'approve_release',
                                              'accept_outflows', 'withdraw')),
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
  -- The hash of the act that it approves, as the operator named it. Those of before have none.
  approved_hash BLOB CHECK (length(approved_hash) = 32),
  -- The proposal that it withdraws.
  withdraws  INTEGER UNIQUE REFERENCES operator_acts,
  CHECK ((kind IN ('resume_breaker', 'veto_price')) = (deposit_id IS NULL)),
  CHECK ((kind IN ('approve_price', 'approve_release')) = (approves IS NOT NULL)),
  CHECK ((kind IN ('propose_price', 'resume_breaker', 'veto_price')) = (price IS NOT NULL)),
  CHECK (approved_hash IS NULL OR approves IS NOT NULL),
  CHECK ((kind = 'withdraw') = (withdraws IS NOT NULL))
) STRICT;
INSERT INTO operator_acts SELECT *, NULL, NULL FROM acts_before ORDER BY act_id;
DROP TABLE acts_before;
CREATE INDEX operator_acts_by_deposit ON operator_acts (deposit_id);
CREATE INDEX operator_acts_by_pair ON operator_acts (pair, kind);
CREATE INDEX operator_acts_by_block ON operator_acts (chain_id, block_hash);

CREATE TRIGGER operator_acts_are_not_updated BEFORE UPDATE ON operator_acts
  BEGIN SELECT RAISE(ABORT, 'an act is never updated'); END;
CREATE TRIGGER operator_acts_are_not_deleted BEFORE DELETE ON operator_acts
  BEGIN SELECT RAISE(ABORT, 'an act is never deleted'); END;
