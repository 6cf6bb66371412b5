-- Who does what, when there are several daemons: one row for each task that only one of them may do
-- at a time. Every commit of the task takes its row first and compares the token, so that a holder
-- that slept through its lease can write nothing. Times are those of the database's clock.
CREATE TABLE leases (
  task           TEXT COLLATE "C" PRIMARY KEY,
  holder         TEXT COLLATE "C" NOT NULL,
  -- Grows by one whenever the holder changes.
  token          BIGINT  NOT NULL CHECK (token > 0),
  acquired_at_ms BIGINT  NOT NULL,
  expires_at_ms  BIGINT  NOT NULL
);

-- Who is there, at work or standing by. Only for people: nothing is decided by it.
CREATE TABLE daemons (
  holder        TEXT COLLATE "C" PRIMARY KEY,
  version       TEXT COLLATE "C" NOT NULL,
  -- 0 for a replica that only answers questions.
  has_tasks     BIGINT  NOT NULL CHECK (has_tasks IN (0, 1)),
  started_at_ms BIGINT  NOT NULL,
  seen_at_ms    BIGINT  NOT NULL
);

-- Pages of open deposits are read in exactly this order, from where the last one ended.
DROP INDEX deposits_open;
CREATE INDEX deposits_open ON deposits (chain_id, stage, block_number, deposit_id)
  WHERE stage IN ('pending', 'confirmed', 'priced', 'held');
-- By height first: a planner without statistics took the index that began with the chain for a way
-- to find one block by its hash.
DROP INDEX blocks_by_number;
CREATE INDEX blocks_by_number ON blocks (block_number, chain_id);
