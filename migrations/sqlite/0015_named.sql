-- What is said twice is named: the market's price that an operator accepts, and the check that gave an
-- answer.

-- The price that is accepted below its floor. Those of before name none.
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
  CHECK (kind = 'accept_market'
         OR (kind IN ('propose_price', 'resume_breaker', 'veto_price')) = (price IS NOT NULL)),
  CHECK (approved_hash IS NULL OR approves IS NOT NULL),
  CHECK ((kind = 'withdraw') = (withdraws IS NOT NULL))
) STRICT;
INSERT INTO operator_acts SELECT * FROM acts_before ORDER BY act_id;
DROP TABLE acts_before;
CREATE INDEX operator_acts_by_deposit ON operator_acts (deposit_id);
CREATE INDEX operator_acts_by_pair ON operator_acts (pair, kind);
CREATE INDEX operator_acts_by_block ON operator_acts (chain_id, block_hash);

CREATE TRIGGER operator_acts_are_not_updated BEFORE UPDATE ON operator_acts
  BEGIN SELECT RAISE(ABORT, 'an act is never updated'); END;
CREATE TRIGGER operator_acts_are_not_deleted BEFORE DELETE ON operator_acts
  BEGIN SELECT RAISE(ABORT, 'an act is never deleted'); END;

-- The question tells one list, or one service, from the one that was configured before it: each may
-- say the same of one payment.
CREATE TABLE screenings_before AS SELECT * FROM screenings;
DROP TABLE screenings;
CREATE TABLE screenings (
  deposit_id BLOB    NOT NULL REFERENCES deposits,
  block_hash BLOB    NOT NULL CHECK (length(block_hash) = 32),
  sender     BLOB    NOT NULL CHECK (length(sender) = 20),
  -- Which check.
  asked      TEXT    NOT NULL CHECK (asked IN ('list', 'http')),
  outcome    TEXT    NOT NULL CHECK (outcome IN ('clear', 'hit', 'no_answer')),
  -- What was asked, and how the answer is read: the hash of the list, or the URL and where to look.
  question   TEXT    NOT NULL,
  -- As it came; of a list, the address that is on it; without an answer, why there is none.
  answer     TEXT    NOT NULL,
  at_ms      INTEGER NOT NULL,
  PRIMARY KEY (deposit_id, block_hash, sender, asked, outcome, question)
) STRICT, WITHOUT ROWID;
INSERT INTO screenings SELECT * FROM screenings_before;
DROP TABLE screenings_before;
CREATE TRIGGER screenings_are_not_updated BEFORE UPDATE ON screenings
  BEGIN SELECT RAISE(ABORT, 'an answer about a payment is never updated'); END;
CREATE TRIGGER screenings_are_not_deleted BEFORE DELETE ON screenings
  BEGIN SELECT RAISE(ABORT, 'an answer about a payment is never deleted'); END;

-- Since when it waits for what it waits for now; of what was noted before, since when it waits.
ALTER TABLE waits ADD COLUMN code_since_ms INTEGER;
