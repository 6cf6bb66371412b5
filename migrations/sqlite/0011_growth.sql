-- What a stranger can make many of costs as much as the few of it that can go on: dust is added up once,
-- and what waits is found by what it waits for.

-- The dust of a namespace in one token, added up in the order of the chain. One row is open: it says up
-- to which place everything is counted. The others have reached the minimum and are not credited yet.
-- Derived from the deposits: a row that may be wrong is emptied, and counted anew.
CREATE TABLE dust_sums (
  chain_id      INTEGER NOT NULL,
  namespace_id  INTEGER NOT NULL REFERENCES namespaces,
  token         BLOB    NOT NULL CHECK (length(token) = 20),
  -- What stands after this place…
  from_number   INTEGER NOT NULL,
  from_index    INTEGER NOT NULL,
  -- …up to this one.
  to_number     INTEGER NOT NULL,
  to_index      INTEGER NOT NULL,
  sum           BLOB    NOT NULL CHECK (length(sum) = 32),
  -- Of what reached the minimum, all is credited once all of it has a price: 'released'.
  state         TEXT    NOT NULL CHECK (state IN ('open', 'enough', 'released')),
  -- Up to here each has a price.
  priced_number INTEGER NOT NULL,
  priced_index  INTEGER NOT NULL,
  -- The hash of the rules it was counted by; NULL when it must be counted anew.
  rules         BLOB CHECK (length(rules) = 32),
  PRIMARY KEY (chain_id, namespace_id, token, from_number, from_index, state)
) STRICT, WITHOUT ROWID;

-- When a pending deposit is to be looked at: 'new' where nobody has yet, else at a height of the chain as
-- it is followed ('depth'), or when a tag has reached its block.
ALTER TABLE deposits ADD COLUMN due_by TEXT NOT NULL DEFAULT 'new'
  CHECK (due_by IN ('new', 'depth', 'safe', 'finalized'));
ALTER TABLE deposits ADD COLUMN due_number INTEGER NOT NULL DEFAULT 0;
UPDATE deposits SET due_number = block_number WHERE stage = 'pending';
CREATE INDEX deposits_due ON deposits (chain_id, due_by, due_number, deposit_id)
  WHERE stage = 'pending';
-- The hash of the rules by which deposits were found not to be due.
ALTER TABLE cursors ADD COLUMN due_rules BLOB CHECK (length(due_rules) = 32);

-- Each reason by itself: the many on hold for one of them are not read for another.
DROP INDEX deposits_open;
CREATE INDEX deposits_open ON deposits (chain_id, stage, reason, block_number, deposit_id)
  WHERE stage IN ('pending', 'confirmed', 'priced', 'held');
-- What may have come between what is counted.
CREATE INDEX deposits_fresh ON deposits (chain_id, namespace_id, token, block_number, log_index)
  WHERE stage IN ('pending', 'confirmed');
