-- Which server this database was on when somebody last looked, and the ids that must never be given out
-- again: a server that comes back as it was some seconds ago has lost the rows that had them.
CREATE TABLE database_server (
  only_row           INTEGER PRIMARY KEY CHECK (only_row = 1),
  -- Its system identifier and its timeline; empty where there is no server, or it does not say.
  server             TEXT    NOT NULL,
  since_ms           INTEGER NOT NULL,
  -- The next ids are higher than these.
  address_id         INTEGER NOT NULL CHECK (address_id >= 0),
  namespace_id       INTEGER NOT NULL CHECK (namespace_id >= 0)
) STRICT;

-- How long it lasts from when it was renewed: one that lasts longer was written before the clock was set back.
ALTER TABLE leases ADD COLUMN duration_ms INTEGER NOT NULL DEFAULT 0 CHECK (duration_ms >= 0);
