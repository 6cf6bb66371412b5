-- Whoever is asked about a payment once more may say the same again: each answer has its time.
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
  PRIMARY KEY (deposit_id, block_hash, sender, asked, outcome, question, at_ms)
) STRICT, WITHOUT ROWID;
INSERT INTO screenings SELECT * FROM screenings_before;
DROP TABLE screenings_before;
CREATE TRIGGER screenings_are_not_updated BEFORE UPDATE ON screenings
  BEGIN SELECT RAISE(ABORT, 'an answer about a payment is never updated'); END;
CREATE TRIGGER screenings_are_not_deleted BEFORE DELETE ON screenings
  BEGIN SELECT RAISE(ABORT, 'an answer about a payment is never deleted'); END;
