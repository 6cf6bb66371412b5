-- Who was asked about a payment before it is credited, and what the answer was.

-- Facts about a payment in one block and its sender there. One that could not be had for too long is
-- one, too: the answer may follow.
CREATE TABLE screenings (
  deposit_id BYTEA    NOT NULL REFERENCES deposits,
  block_hash BYTEA    NOT NULL CHECK (length(block_hash) = 32),
  sender     BYTEA    NOT NULL CHECK (length(sender) = 20),
  -- Which check.
  asked      TEXT COLLATE "C"    NOT NULL CHECK (asked IN ('list', 'http')),
  outcome    TEXT COLLATE "C"    NOT NULL CHECK (outcome IN ('clear', 'hit', 'no_answer')),
  -- What was asked, and how the answer is read: the hash of the list, or the URL and where to look.
  question   TEXT COLLATE "C"    NOT NULL,
  -- As it came; of a list, the address that is on it; without an answer, why there is none.
  answer     TEXT COLLATE "C"    NOT NULL,
  at_ms      BIGINT NOT NULL,
  PRIMARY KEY (deposit_id, block_hash, sender, asked, outcome)
);
CREATE TRIGGER screenings_are_not_updated BEFORE UPDATE ON screenings
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an answer about a payment is never updated');
CREATE TRIGGER screenings_are_not_deleted BEFORE DELETE ON screenings
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an answer about a payment is never deleted');

-- One more thing to wait for; what waits is noted again by the next step.
DROP TABLE waits;
CREATE TABLE waits (
  deposit_id BYTEA PRIMARY KEY REFERENCES deposits,
  chain_id   BIGINT NOT NULL,
  code       TEXT COLLATE "C" NOT NULL CHECK (code IN ('witness', 'receipt', 'proof', 'screening')),
  -- The failure that was met, if one was.
  why        TEXT COLLATE "C" NOT NULL,
  since_ms   BIGINT NOT NULL
);
CREATE INDEX waits_by_chain ON waits (chain_id);
