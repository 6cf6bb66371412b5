-- Who does what, when there are several daemons: one row for each task that only one of them may do
-- at a time. Every commit of the task takes its row first and compares the token, so that a holder
-- that slept through its lease can write nothing. Times are those of the database's clock.
CREATE TABLE leases (
  task           TEXT    PRIMARY KEY,
  holder         TEXT    NOT NULL,
  -- Grows by one whenever the holder changes.
  token          INTEGER NOT NULL CHECK (token > 0),
  acquired_at_ms INTEGER NOT NULL,
  expires_at_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Who is there, at work or standing by. Only for people: nothing is decided by it.
CREATE TABLE daemons (
  holder        TEXT    PRIMARY KEY,
  version       TEXT    NOT NULL,
  -- 0 for a replica that only answers questions.
  has_tasks     INTEGER NOT NULL CHECK (has_tasks IN (0, 1)),
  started_at_ms INTEGER NOT NULL,
  seen_at_ms    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
