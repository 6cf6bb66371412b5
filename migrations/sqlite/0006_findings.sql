-- A finding has an id that people name it by, a severity and a state, and may be about no chain.
-- What opened it closes it: `gone`. A person closes it with a reason: `explained`. One that comes back
-- after it was gone is a new row.
CREATE TABLE findings_before AS SELECT * FROM findings;
DROP TABLE findings;
CREATE TABLE findings (
  finding_id      INTEGER PRIMARY KEY,
  chain_id        INTEGER,
  kind            TEXT    NOT NULL,
  -- What it is about: a deposit, a block, a token, a provider.
  subject         TEXT    NOT NULL,
  severity        TEXT    NOT NULL CHECK (severity IN ('info', 'warning', 'error')),
  state           TEXT    NOT NULL CHECK (state IN ('open', 'explained', 'gone')),
  -- JSON; both answers, where two contradict each other.
  detail          TEXT    NOT NULL,
  found_at_ms     INTEGER NOT NULL,
  gone_at_ms      INTEGER,
  explained_at_ms INTEGER,
  operator        TEXT,
  explanation     TEXT,
  CHECK ((gone_at_ms IS NOT NULL) = (state = 'gone')),
  CHECK ((explanation IS NOT NULL) = (explained_at_ms IS NOT NULL)),
  CHECK ((explanation IS NOT NULL) = (operator IS NOT NULL)),
  CHECK (state <> 'explained' OR explanation IS NOT NULL)
) STRICT;
CREATE UNIQUE INDEX one_finding_stands ON findings (COALESCE(chain_id, 0), kind, subject)
  WHERE state <> 'gone';
INSERT INTO findings (chain_id, kind, subject, severity, state, detail, found_at_ms)
  SELECT chain_id, kind, subject,
         CASE WHEN kind IN ('fork_contested', 'block_contradicted', 'providers_disagree',
                            'credit_reversed') THEN 'error'
              WHEN kind = 'log_count_differs' THEN 'info'
              ELSE 'warning' END,
         'open', detail, found_at_ms
  FROM findings_before ORDER BY found_at_ms, chain_id, kind, subject;
DROP TABLE findings_before;

-- What payments that are deep enough wait for, as only the settle task knows it.
CREATE TABLE waits (
  deposit_id BLOB PRIMARY KEY REFERENCES deposits,
  chain_id   INTEGER NOT NULL,
  code       TEXT NOT NULL CHECK (code IN ('witness', 'receipt', 'proof')),
  -- The failure that was met, if one was.
  why        TEXT NOT NULL,
  since_ms   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX waits_by_chain ON waits (chain_id);
-- When a payment went on last: a chain on which none does is a finding.
ALTER TABLE cursors ADD COLUMN went_on_at_ms INTEGER;
-- The heights that a provider told last.
ALTER TABLE providers ADD COLUMN safe_number INTEGER;
ALTER TABLE providers ADD COLUMN finalized_number INTEGER;
