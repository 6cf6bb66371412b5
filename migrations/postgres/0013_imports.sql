-- Addresses that were imported together, from a file: one backfill a chain for all of them. Its subject is
-- the first one, and these are the ids of the first and the last.
ALTER TABLE backfills ADD COLUMN first_id BIGINT;
ALTER TABLE backfills ADD COLUMN last_id BIGINT
  CHECK (last_id IS NULL OR (kind = 'address' AND last_id >= first_id));
CREATE INDEX backfills_of_many ON backfills (chain_id, last_id) WHERE last_id IS NOT NULL;
