-- A deposit can be credited more than once in the same block: undone, because the chain left the
-- block, and credited again, because it came back. Each posting keeps the confirmation that it rests
-- on; and what is read anew again and again is held.

-- What made a deposit Confirmed, one row for each time that it could be credited: how many of its
-- credits had been undone by then says which.
ALTER TABLE confirmations ADD COLUMN reversals BIGINT NOT NULL DEFAULT 0 CHECK (reversals >= 0);
ALTER TABLE confirmations ALTER COLUMN reversals DROP DEFAULT;
ALTER TABLE confirmations DROP CONSTRAINT confirmations_pkey;
ALTER TABLE confirmations ADD PRIMARY KEY (deposit_id, block_hash, log_index, reversals);
-- The row is of the newest credit in its place, unless the deposit is under way there again.
UPDATE confirmations c SET reversals =
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
  END
FROM deposits d WHERE d.deposit_id = c.deposit_id;

-- How often what was recorded of a deposit was changed because providers said otherwise, until it is
-- confirmed.
CREATE TABLE rereads (
  deposit_id BYTEA  PRIMARY KEY REFERENCES deposits,
  times      BIGINT NOT NULL CHECK (times > 0)
);
