-- Since when a deposit stands where it stands; updated_at_ms says when it was last looked at. None for
-- what was there before.
ALTER TABLE deposits ADD COLUMN since_ms BIGINT;
