-- Who was asked about a payment before it is credited, and what the answer was.

-- Facts about a payment in one block and its sender there. One that could not be had for too long is
-- one, too: the answer may follow.
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
  PRIMARY KEY (deposit_id, block_hash, sender, asked, outcome)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER screenings_are_not_updated BEFORE UPDATE ON screenings
  BEGIN SELECT RAISE(ABORT, 'an answer about a payment is never updated'); END;
CREATE TRIGGER screenings_are_not_deleted BEFORE DELETE ON screenings
  BEGIN SELECT RAISE(ABORT, 'an answer about a payment is never deleted'); END;

-- One more thing to wait for; what waits is noted again by the next step.
DROP TABLE waits;
CREATE TABLE waits (
  deposit_id BLOB PRIMARY KEY REFERENCES deposits,
  chain_id   INTEGER NOT NULL,
  code       TEXT NOT NULL CHECK (code IN ('witness', 'receipt', 'proof', 'screening')),
  -- The failure that was met, if one was.
  why        TEXT NOT NULL,
  since_ms   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX waits_by_chain ON waits (chain_id);
