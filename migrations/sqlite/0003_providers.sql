-- Several providers a chain: who showed what, who looked again, what they disagreed on; and what
-- follows when a chain turns out to be other than it was: credits undone, chains halted, old blocks
-- read for addresses and tokens that were registered late.

-- Who showed the log; NULL in rows older than this column.
ALTER TABLE sightings ADD COLUMN provider TEXT;
-- What one provider shows is its word until a second one says the same: two may overrule it, and
-- what it had said is kept as a finding. Once credited, it stays.
DROP TRIGGER sightings_are_facts;
CREATE TRIGGER sightings_are_facts BEFORE UPDATE OF chain_id, block_hash, log_index, block_number,
    tx_hash, token, recipient, sender, raw_amount, malformed, topics, data, provider ON sightings
  WHEN OLD.chain_id <> NEW.chain_id OR OLD.block_hash <> NEW.block_hash
    OR OLD.log_index <> NEW.log_index
    OR EXISTS (SELECT 1 FROM credits k WHERE k.deposit_id = OLD.deposit_id
                AND k.block_hash = OLD.block_hash AND k.log_index = OLD.log_index)
  BEGIN SELECT RAISE(ABORT, 'a sighting is a fact'); END;
ALTER TABLE confirmations ADD COLUMN log_provider TEXT;
ALTER TABLE confirmations ADD COLUMN verify TEXT
  CHECK (verify IN ('second-provider', 'receipts-root', 'same-provider'));

-- The part of a record whose blocks are still canonical ends here, below its start when nothing of
-- it is. The parts of all records of a chain lie side by side, from its first block to its cursor.
ALTER TABLE scans ADD COLUMN valid_to INTEGER NOT NULL DEFAULT -1;
UPDATE scans SET valid_to = COALESCE(
  (SELECT MIN(s.from_number) - 1 FROM scans s
    WHERE s.chain_id = scans.chain_id AND s.scan_id > scans.scan_id
      AND s.from_number <= scans.to_number), to_number);
-- Which logs were asked for; NULL in rows older than this column.
ALTER TABLE scans ADD COLUMN filter TEXT CHECK (filter IN ('tokens', 'recipients'));
-- The second pass over the record: how far, by whom, how many logs it saw, and how many transfers
-- to us it added.
ALTER TABLE scans ADD COLUMN rechecked_to INTEGER;
ALTER TABLE scans ADD COLUMN recheck_provider TEXT;
ALTER TABLE scans ADD COLUMN recheck_logs INTEGER NOT NULL DEFAULT 0;
ALTER TABLE scans ADD COLUMN recheck_added INTEGER NOT NULL DEFAULT 0;
CREATE INDEX scans_by_height ON scans (chain_id, from_number);
CREATE INDEX scans_not_rechecked ON scans (chain_id, from_number)
  WHERE COALESCE(rechecked_to, -1) < valid_to;

-- Which sighting a credit rests on, and the posting that undid it.
CREATE TABLE credits (
  posting_seq INTEGER PRIMARY KEY REFERENCES postings,
  deposit_id  BLOB    NOT NULL REFERENCES deposits,
  block_hash  BLOB    NOT NULL CHECK (length(block_hash) = 32),
  log_index   INTEGER NOT NULL,
  reversed_by INTEGER UNIQUE REFERENCES postings,
  CHECK (reversed_by > posting_seq)
) STRICT;
CREATE UNIQUE INDEX one_standing_credit_per_deposit ON credits (deposit_id)
  WHERE reversed_by IS NULL;
CREATE INDEX credits_by_deposit ON credits (deposit_id);
INSERT INTO credits (posting_seq, deposit_id, block_hash, log_index)
  SELECT posting_seq, deposit_id, block_hash, log_index FROM deposits WHERE stage = 'credited';

-- Credits whose block is canonical no more, until they are reversed or the block is back.
CREATE TABLE unfounded (
  posting_seq    INTEGER PRIMARY KEY REFERENCES postings,
  chain_id       INTEGER NOT NULL,
  orphaned_at_ms INTEGER NOT NULL
) STRICT;

-- What somebody should look at, once each: answers that contradict each other, credits undone,
-- tokens whose code changed.
CREATE TABLE findings (
  chain_id    INTEGER NOT NULL,
  kind        TEXT    NOT NULL,
  -- What it is about: a deposit, a block, a token, a provider.
  subject     TEXT    NOT NULL,
  -- JSON; both answers, where two contradict each other.
  detail      TEXT    NOT NULL,
  found_at_ms INTEGER NOT NULL,
  PRIMARY KEY (chain_id, kind, subject)
) STRICT, WITHOUT ROWID;

-- A chain that stands still until somebody decides.
CREATE TABLE halts (
  chain_id     INTEGER PRIMARY KEY,
  reason       TEXT    NOT NULL CHECK (reason IN ('too_deep')),
  -- The oldest block that was kept, and what the provider says the chain's tip is.
  floor_number INTEGER NOT NULL,
  provider     TEXT    NOT NULL,
  found_number INTEGER NOT NULL,
  found_hash   BLOB    NOT NULL CHECK (length(found_hash) = 32),
  halted_at_ms INTEGER NOT NULL
) STRICT;

-- The tokens that the scan of a chain asks for, and their code when it was last looked at.
CREATE TABLE chain_tokens (
  chain_id       INTEGER NOT NULL,
  token          BLOB    NOT NULL CHECK (length(token) = 20),
  since_ms       INTEGER NOT NULL,
  code_hash      BLOB    CHECK (length(code_hash) = 32),
  -- The contract behind a proxy; zero where there is none.
  implementation BLOB    CHECK (length(implementation) = 20),
  checked_at_ms  INTEGER,
  PRIMARY KEY (chain_id, token)
) STRICT, WITHOUT ROWID;

-- Old blocks to be read again, both ends inclusive: for an address or a token that was registered
-- after they had been scanned, or because an operator wants it.
CREATE TABLE backfills (
  chain_id        INTEGER NOT NULL,
  kind            TEXT    NOT NULL CHECK (kind IN ('address', 'token', 'rescan')),
  -- The address or token; empty for a rescan.
  subject         BLOB    NOT NULL CHECK (length(subject) IN (0, 20)),
  from_number     INTEGER NOT NULL,
  to_number       INTEGER NOT NULL,
  -- The first block not read yet.
  next_number     INTEGER NOT NULL,
  logs_seen       INTEGER NOT NULL DEFAULT 0,
  found           INTEGER NOT NULL DEFAULT 0,
  requested_at_ms INTEGER NOT NULL,
  finished_at_ms  INTEGER,
  PRIMARY KEY (chain_id, kind, subject, from_number, to_number),
  CHECK (from_number <= to_number),
  CHECK ((kind = 'rescan') = (length(subject) = 0)),
  CHECK ((finished_at_ms IS NOT NULL) = (next_number > to_number))
) STRICT, WITHOUT ROWID;

-- How the providers of a chain stand, by the daemon that follows it. Only for people: nothing is
-- decided by it.
CREATE TABLE providers (
  chain_id      INTEGER NOT NULL,
  provider      TEXT    NOT NULL,
  -- 'ok', or why it is not asked first.
  state         TEXT    NOT NULL,
  head_number   INTEGER,
  latency_ms    INTEGER NOT NULL,
  failures      INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL,
  PRIMARY KEY (chain_id, provider)
) STRICT, WITHOUT ROWID;
