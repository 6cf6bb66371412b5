-- A deposit can be credited more than once in the same block: undone, because the chain left the
-- block, and credited again, because it came back. Each posting keeps the confirmation that it rests
-- on; and what is read anew again and again is held.

-- What made a deposit Confirmed, one row for each time that it could be credited: how many of its
-- credits had been undone by then says which.
CREATE TABLE confirmations_before AS
  SELECT c.*,
    -- The row is of the newest credit in its place, unless the deposit is under way there again.
    CASE WHEN d.block_hash = c.block_hash AND d.log_index = c.log_index
              AND (d.stage IN ('confirmed', 'priced')
                   OR (d.stage = 'held' AND d.reason NOT IN ('receipt_mismatch', 'receipt_missing',
                                                             'providers_disagree')))
         THEN (SELECT COUNT(*) FROM credits k WHERE k.deposit_id = c.deposit_id)
         ELSE (SELECT COUNT(*) FROM credits k WHERE k.deposit_id = c.deposit_id
                 AND k.posting_seq < (SELECT MAX(z.posting_seq) FROM credits z
                                       WHERE z.deposit_id = c.deposit_id
                                         AND z.block_hash = c.block_hash
                                         AND z.log_index = c.log_index))
    END AS reversals
  FROM confirmations c JOIN deposits d ON d.deposit_id = c.deposit_id;
DROP TABLE confirmations;
CREATE TABLE confirmations (
  deposit_id        BLOB    NOT NULL REFERENCES deposits,
  block_hash        BLOB    NOT NULL CHECK (length(block_hash) = 32),
  log_index         INTEGER NOT NULL,
  policy            TEXT    NOT NULL,
  head_number       INTEGER NOT NULL,
  head_hash         BLOB    NOT NULL CHECK (length(head_hash) = 32),
  receipt_provider  TEXT    NOT NULL,
  receipt_transfers INTEGER NOT NULL CHECK (receipt_transfers > 0),
  confirmed_at_ms   INTEGER NOT NULL,
  log_provider      TEXT,
  verify            TEXT CHECK (verify IN ('second-provider', 'receipts-root', 'same-provider')),
  reversals         INTEGER NOT NULL CHECK (reversals >= 0),
  PRIMARY KEY (deposit_id, block_hash, log_index, reversals)
) STRICT, WITHOUT ROWID;
INSERT INTO confirmations SELECT * FROM confirmations_before;
DROP TABLE confirmations_before;

-- How often what was recorded of a deposit was changed because providers said otherwise, until it is
-- confirmed.
CREATE TABLE rereads (
  deposit_id BLOB    PRIMARY KEY REFERENCES deposits,
  times      INTEGER NOT NULL CHECK (times > 0)
) STRICT, WITHOUT ROWID;
