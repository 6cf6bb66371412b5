-- Room: ledger. Journals and their records, what follows from them, and the log over all of them.
--
-- A row of a journal is taken by whoever writes to that journal. So no table refers to `journals`, and none of the
-- tables of a record refers to `records` either: a reference takes the row that it names. The rows of a record are
-- written with it in one transaction, and `ledger verify` compares them in both directions.

-- The house has journal 0; the journal of a namespace has its id. The first record names `genesis` as the one before.
CREATE TABLE journals (
  journal_id     INTEGER PRIMARY KEY CHECK (journal_id >= 0),
  kind           TEXT    NOT NULL CHECK (kind IN ('house', 'namespace')),
  genesis        BLOB    NOT NULL UNIQUE CHECK (length(genesis) = 32),
  -- Part of the genesis, so that a hash in public cannot be guessed. The owner of the namespace gets it.
  salt           BLOB    NOT NULL CHECK (length(salt) = 32),
  -- The newest record: its number, its seal and its time. 0, the genesis and 0 before the first.
  seq            INTEGER NOT NULL CHECK (seq >= 0),
  seal           BLOB    NOT NULL CHECK (length(seal) = 32),
  recorded_at_ms INTEGER NOT NULL CHECK (recorded_at_ms >= 0),
  -- Sums over its entries and lots: posted_nano is what remains of the lots, less debt_nano.
  posted_nano    INTEGER NOT NULL,
  debt_nano      INTEGER NOT NULL CHECK (debt_nano >= 0),
  -- How many addresses its records have bound.
  addresses      INTEGER NOT NULL CHECK (addresses >= 0),
  CHECK ((kind = 'house') = (journal_id = 0))
) STRICT;

-- Sealed lines. `cause` is what happened, `outcome` what it did then; both JSON.
CREATE TABLE records (
  journal_id      INTEGER NOT NULL CHECK (journal_id >= 0),
  seq             INTEGER NOT NULL CHECK (seq > 0),
  record_id       BLOB    NOT NULL UNIQUE CHECK (length(record_id) = 32),
  kind            TEXT    NOT NULL CHECK (length(kind) > 0),
  -- The key that people know it by: a deposit's id, an epoch's id, the number of an act.
  subject         TEXT    NOT NULL,
  cause           TEXT    NOT NULL,
  cause_hash      BLOB    NOT NULL CHECK (length(cause_hash) = 32),
  outcome         TEXT    NOT NULL,
  effective_at_ms INTEGER NOT NULL,
  recorded_at_ms  INTEGER NOT NULL,
  operator        TEXT,
  -- Of the operator's key; there are no keys yet.
  key_id          TEXT,
  prev            BLOB    NOT NULL CHECK (length(prev) = 32),
  seal            BLOB    NOT NULL CHECK (length(seal) = 32),
  PRIMARY KEY (journal_id, seq)
) STRICT;

-- What a record moves; balanced within each unit. Both units are counted in billionths.
CREATE TABLE entries (
  journal_id INTEGER NOT NULL,
  seq        INTEGER NOT NULL,
  leg        INTEGER NOT NULL CHECK (leg >= 0),
  account    TEXT    NOT NULL,
  unit       TEXT    NOT NULL CHECK (unit IN ('credits', 'usd')),
  side       TEXT    NOT NULL CHECK (side IN ('debit', 'credit')),
  amount     INTEGER NOT NULL CHECK (amount > 0),
  PRIMARY KEY (journal_id, seq, leg)
) STRICT, WITHOUT ROWID;

-- Parcels of credits. The number of a lot is that of the record that made it.
CREATE TABLE lots (
  journal_id             INTEGER NOT NULL,
  lot_seq                INTEGER NOT NULL,
  kind                   TEXT    NOT NULL CHECK (kind IN ('paid', 'bonus', 'test')),
  priority               INTEGER NOT NULL,
  -- What it may be used for; NULL: anything.
  scope                  TEXT,
  amount_nano            INTEGER NOT NULL CHECK (amount_nano > 0),
  -- Cached: amount_nano and the sum of its moves.
  remaining_nano         INTEGER NOT NULL CHECK (remaining_nano BETWEEN 0 AND amount_nano),
  effective_at_ms        INTEGER NOT NULL,
  expires_at_ms          INTEGER,
  -- What was paid for it, where it was paid for: the asset, how much in base units, its decimals, and what that was
  -- worth in billionths of a dollar where that is known.
  consideration_asset    TEXT,
  consideration_raw      BLOB    CHECK (length(consideration_raw) = 32),
  consideration_decimals INTEGER CHECK (consideration_decimals BETWEEN 0 AND 36),
  consideration_usd_nano INTEGER CHECK (consideration_usd_nano >= 0),
  PRIMARY KEY (journal_id, lot_seq),
  CHECK ((kind = 'paid') = (consideration_asset IS NOT NULL)),
  CHECK ((consideration_asset IS NULL) = (consideration_raw IS NULL)),
  CHECK ((consideration_asset IS NULL) = (consideration_decimals IS NULL)),
  CHECK (consideration_usd_nano IS NULL OR consideration_asset IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX lots_with_something ON lots (journal_id, priority, expires_at_ms, lot_seq)
  WHERE remaining_nano > 0;

-- What a record takes from a lot (negative), or gives back to it.
CREATE TABLE lot_moves (
  journal_id  INTEGER NOT NULL,
  seq         INTEGER NOT NULL,
  n           INTEGER NOT NULL CHECK (n >= 0),
  lot_seq     INTEGER NOT NULL,
  amount_nano INTEGER NOT NULL CHECK (amount_nano <> 0),
  reason      TEXT    NOT NULL,
  PRIMARY KEY (journal_id, seq, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX lot_moves_by_lot ON lot_moves (journal_id, lot_seq);

-- Which sighting a credit rests on, and the record of the same journal that undid it.
CREATE TABLE credits (
  journal_id  INTEGER NOT NULL,
  seq         INTEGER NOT NULL,
  deposit_id  BLOB    NOT NULL REFERENCES deposits,
  block_hash  BLOB    NOT NULL CHECK (length(block_hash) = 32),
  log_index   INTEGER NOT NULL,
  reversed_by INTEGER,
  PRIMARY KEY (journal_id, seq),
  CHECK (reversed_by > seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_standing_credit_per_deposit ON credits (deposit_id)
  WHERE reversed_by IS NULL;
CREATE INDEX credits_by_deposit ON credits (deposit_id);

-- Credits whose block is canonical no more, until they are reversed or the block is back.
CREATE TABLE unfounded (
  journal_id     INTEGER NOT NULL,
  seq            INTEGER NOT NULL,
  chain_id       INTEGER NOT NULL,
  orphaned_at_ms INTEGER NOT NULL,
  PRIMARY KEY (journal_id, seq)
) STRICT, WITHOUT ROWID;

-- What conversions owe the treasury, by the record of the credit. Whoever settles one, or reverses its credit, takes
-- its row first.
CREATE TABLE obligations (
  journal_id       INTEGER NOT NULL,
  seq              INTEGER NOT NULL,
  chain_id         INTEGER NOT NULL,
  asset            TEXT    NOT NULL,
  raw_amount       BLOB    NOT NULL CHECK (length(raw_amount) = 32),
  decimals         INTEGER NOT NULL,
  into_asset       TEXT    NOT NULL,
  tokens           BLOB    NOT NULL CHECK (length(tokens) = 32),
  token_decimals   INTEGER NOT NULL,
  -- The stablecoin at its face, in billionths of a dollar, rounded down.
  usd_nano         INTEGER NOT NULL CHECK (usd_nano >= 0),
  effective_at_ms  INTEGER NOT NULL,
  -- What was bought before for the same payment, under a credit that was corrected into this one.
  carried_tokens   BLOB    NOT NULL CHECK (length(carried_tokens) = 32),
  carried_usd_nano INTEGER NOT NULL CHECK (carried_usd_nano >= 0),
  -- Cached: the sums of its settlements.
  settled_tokens   BLOB    NOT NULL CHECK (length(settled_tokens) = 32),
  settled_usd_nano INTEGER NOT NULL CHECK (settled_usd_nano BETWEEN 0 AND usd_nano),
  PRIMARY KEY (journal_id, seq)
) STRICT, WITHOUT ROWID;

-- A purchase by the treasury, as the chain shows it.
CREATE TABLE purchases (
  chain_id       INTEGER NOT NULL,
  tx_hash        BLOB    NOT NULL CHECK (length(tx_hash) = 32),
  block_hash     BLOB    NOT NULL CHECK (length(block_hash) = 32),
  asset          TEXT    NOT NULL,
  paid           BLOB    NOT NULL CHECK (length(paid) = 32),
  decimals       INTEGER NOT NULL,
  into_asset     TEXT    NOT NULL,
  tokens         BLOB    NOT NULL CHECK (length(tokens) = 32),
  -- JSON: the treasury's address, the block's height, who showed the receipt.
  evidence       TEXT    NOT NULL,
  recorded_at_ms INTEGER NOT NULL,
  PRIMARY KEY (chain_id, tx_hash)
) STRICT, WITHOUT ROWID;

-- How much of which obligation a purchase settled; a record of the house each, whose number is `seq`.
CREATE TABLE settlements (
  seq        INTEGER PRIMARY KEY,
  -- The obligation: the journal and the number of its credit.
  journal_id INTEGER NOT NULL,
  credit_seq INTEGER NOT NULL,
  chain_id   INTEGER NOT NULL,
  tx_hash    BLOB    NOT NULL CHECK (length(tx_hash) = 32),
  tokens     BLOB    NOT NULL CHECK (length(tokens) = 32),
  -- In billionths of a dollar: what these tokens were owed for, and what was paid for them.
  owed_usd_nano INTEGER NOT NULL CHECK (owed_usd_nano >= 0),
  paid_usd_nano INTEGER NOT NULL CHECK (paid_usd_nano >= 0),
  FOREIGN KEY (chain_id, tx_hash) REFERENCES purchases,
  UNIQUE (journal_id, credit_seq, chain_id, tx_hash)
) STRICT;

-- Records that have no leaf in the log yet. The sequencer takes them away; nobody relies on the order of `position`.
CREATE TABLE unlogged (
  position   INTEGER PRIMARY KEY,
  journal_id INTEGER NOT NULL,
  seq        INTEGER NOT NULL
) STRICT;

-- Events that have no number in the feed yet. An event tells of a moment; it is not a record, and the same moment
-- has the same id.
CREATE TABLE events_new (
  position     INTEGER PRIMARY KEY,
  event_id     BLOB    NOT NULL UNIQUE CHECK (length(event_id) = 32),
  kind         TEXT    NOT NULL,
  -- Whose, and of which chain, where it is somebody's or of one.
  namespace_id INTEGER,
  chain_id     INTEGER,
  -- The key that people know it by.
  subject      TEXT    NOT NULL,
  -- JSON.
  payload      TEXT    NOT NULL,
  at_ms        INTEGER NOT NULL
) STRICT;

-- The feed. A database that was put back begins a new incarnation: numbers of the one before may be given again.
CREATE TABLE events (
  incarnation     INTEGER NOT NULL CHECK (incarnation > 0),
  feed_no         INTEGER NOT NULL CHECK (feed_no > 0),
  event_id        BLOB    NOT NULL UNIQUE CHECK (length(event_id) = 32),
  kind            TEXT    NOT NULL,
  namespace_id    INTEGER,
  chain_id        INTEGER,
  subject         TEXT    NOT NULL,
  payload         TEXT    NOT NULL,
  at_ms           INTEGER NOT NULL,
  delivered_at_ms INTEGER,
  PRIMARY KEY (incarnation, feed_no)
) STRICT;

-- Which record each leaf of the log is; the leaf's entry is the record's seal.
CREATE TABLE log_leaves (
  leaf_index INTEGER PRIMARY KEY CHECK (leaf_index >= 0),
  journal_id INTEGER NOT NULL,
  seq        INTEGER NOT NULL,
  UNIQUE (journal_id, seq)
) STRICT;

-- Tiles of the log as C2SP has them: up to 256 hashes of 32 bytes of one level.
CREATE TABLE log_tiles (
  level  INTEGER NOT NULL CHECK (level BETWEEN 0 AND 63),
  idx    INTEGER NOT NULL CHECK (idx >= 0),
  hashes BLOB    NOT NULL CHECK (length(hashes) BETWEEN 32 AND 8192 AND length(hashes) % 32 = 0),
  PRIMARY KEY (level, idx)
) STRICT, WITHOUT ROWID;

-- How far the log is, and its last checkpoint.
CREATE TABLE log_state (
  only_row    INTEGER PRIMARY KEY CHECK (only_row = 1),
  -- The name that checkpoints have in their first line. Another one after each fork.
  origin      TEXT    NOT NULL,
  size        INTEGER NOT NULL CHECK (size >= 0),
  root        BLOB    NOT NULL CHECK (length(root) = 32),
  -- The roots of the whole subtrees from the largest to the smallest, 32 bytes each.
  edge        BLOB    NOT NULL CHECK (length(edge) % 32 = 0),
  -- The signed note; NULL where the log has no key, or nothing was signed yet.
  checkpoint  TEXT,
  -- Why nothing is added to it; NULL while it goes on.
  paused      TEXT,
  -- Of the feed: its incarnation, and the last number that was given.
  incarnation INTEGER NOT NULL CHECK (incarnation > 0),
  feed_no     INTEGER NOT NULL CHECK (feed_no >= 0),
  at_ms       INTEGER NOT NULL
) STRICT;

-- Sums over the entries of each account by UTC day (days since 1970), as far as the log goes. 16 bytes, big-endian:
-- a day's sum over all namespaces need not fit 64 bits.
CREATE TABLE account_days (
  account TEXT    NOT NULL,
  unit    TEXT    NOT NULL CHECK (unit IN ('credits', 'usd')),
  day     INTEGER NOT NULL,
  debit   BLOB    NOT NULL CHECK (length(debit) = 16),
  credit  BLOB    NOT NULL CHECK (length(credit) = 16),
  PRIMARY KEY (account, unit, day)
) STRICT, WITHOUT ROWID;

-- What is written stays written, whoever asks.
CREATE TRIGGER journals_are_bound_for_ever BEFORE UPDATE OF journal_id, kind, genesis, salt ON journals
  BEGIN SELECT RAISE(ABORT, 'a journal begins where it began'); END;
CREATE TRIGGER journals_do_not_go_back BEFORE UPDATE OF seq ON journals WHEN NEW.seq < OLD.seq
  BEGIN SELECT RAISE(ABORT, 'a journal only grows'); END;
CREATE TRIGGER journals_are_not_deleted BEFORE DELETE ON journals WHEN OLD.seq > 0
  BEGIN SELECT RAISE(ABORT, 'a journal is never deleted'); END;
CREATE TRIGGER records_are_not_updated BEFORE UPDATE ON records
  BEGIN SELECT RAISE(ABORT, 'a record is never updated'); END;
CREATE TRIGGER records_are_not_deleted BEFORE DELETE ON records
  BEGIN SELECT RAISE(ABORT, 'a record is never deleted'); END;
CREATE TRIGGER entries_are_not_updated BEFORE UPDATE ON entries
  BEGIN SELECT RAISE(ABORT, 'an entry is never updated'); END;
CREATE TRIGGER entries_are_not_deleted BEFORE DELETE ON entries
  BEGIN SELECT RAISE(ABORT, 'an entry is never deleted'); END;
CREATE TRIGGER lots_stay_as_they_began BEFORE UPDATE OF journal_id, lot_seq, kind, priority, scope, amount_nano,
    effective_at_ms, expires_at_ms, consideration_asset, consideration_raw, consideration_decimals,
    consideration_usd_nano ON lots
  BEGIN SELECT RAISE(ABORT, 'of a lot, only what remains of it changes'); END;
CREATE TRIGGER lots_are_not_deleted BEFORE DELETE ON lots
  BEGIN SELECT RAISE(ABORT, 'a lot is never deleted'); END;
CREATE TRIGGER lot_moves_are_not_updated BEFORE UPDATE ON lot_moves
  BEGIN SELECT RAISE(ABORT, 'a move is never updated'); END;
CREATE TRIGGER lot_moves_are_not_deleted BEFORE DELETE ON lot_moves
  BEGIN SELECT RAISE(ABORT, 'a move is never deleted'); END;
CREATE TRIGGER credits_stay_as_they_were BEFORE UPDATE OF journal_id, seq, deposit_id, block_hash, log_index ON credits
  BEGIN SELECT RAISE(ABORT, 'of a credit, only what undid it is added'); END;
CREATE TRIGGER credits_are_undone_once BEFORE UPDATE OF reversed_by ON credits WHEN OLD.reversed_by IS NOT NULL
  BEGIN SELECT RAISE(ABORT, 'a credit is undone once'); END;
CREATE TRIGGER credits_are_not_deleted BEFORE DELETE ON credits
  BEGIN SELECT RAISE(ABORT, 'a credit is never deleted'); END;
CREATE TRIGGER obligations_stay_as_they_began BEFORE UPDATE OF journal_id, seq, chain_id, asset, raw_amount, decimals,
    into_asset, tokens, token_decimals, usd_nano, effective_at_ms, carried_tokens, carried_usd_nano ON obligations
  BEGIN SELECT RAISE(ABORT, 'of an obligation, only what is settled of it changes'); END;
CREATE TRIGGER obligations_are_not_deleted BEFORE DELETE ON obligations
  BEGIN SELECT RAISE(ABORT, 'an obligation is never deleted'); END;
CREATE TRIGGER settlements_are_not_updated BEFORE UPDATE ON settlements
  BEGIN SELECT RAISE(ABORT, 'a settlement is never updated'); END;
CREATE TRIGGER settlements_are_not_deleted BEFORE DELETE ON settlements
  BEGIN SELECT RAISE(ABORT, 'a settlement is never deleted'); END;
CREATE TRIGGER log_leaves_are_not_updated BEFORE UPDATE ON log_leaves
  BEGIN SELECT RAISE(ABORT, 'a leaf is never updated'); END;
CREATE TRIGGER log_leaves_are_not_deleted BEFORE DELETE ON log_leaves
  BEGIN SELECT RAISE(ABORT, 'a leaf is never deleted'); END;
