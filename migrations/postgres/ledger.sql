-- Room: ledger. Journals and their records, what follows from them, and the log over all of them.
--
-- A row of a journal is taken by whoever writes to that journal. So no table refers to `journals`, and none of the
-- tables of a record refers to `records` either: a reference takes the row that it names. The rows of a record are
-- written with it in one transaction, and `ledger verify` compares them in both directions.

-- The house has journal 0; the journal of a namespace has its id. The first record names `genesis` as the one before.
CREATE TABLE journals (
  journal_id     BIGINT  PRIMARY KEY CHECK (journal_id >= 0),
  kind           TEXT COLLATE "C" NOT NULL CHECK (kind IN ('house', 'namespace')),
  genesis        BYTEA   NOT NULL UNIQUE CHECK (length(genesis) = 32),
  -- Part of the genesis, so that a hash in public cannot be guessed. The owner of the namespace gets it.
  salt           BYTEA   NOT NULL CHECK (length(salt) = 32),
  -- The newest record: its number, its seal and its time. 0, the genesis and 0 before the first.
  seq            BIGINT  NOT NULL CHECK (seq >= 0),
  seal           BYTEA   NOT NULL CHECK (length(seal) = 32),
  recorded_at_ms BIGINT  NOT NULL CHECK (recorded_at_ms >= 0),
  -- Sums over its entries and lots: posted_nano is what remains of the lots, less debt_nano.
  posted_nano    BIGINT  NOT NULL,
  debt_nano      BIGINT  NOT NULL CHECK (debt_nano >= 0),
  -- How many addresses its records have bound.
  addresses      BIGINT  NOT NULL CHECK (addresses >= 0),
  CHECK ((kind = 'house') = (journal_id = 0))
);

-- Sealed lines. `cause` is what happened, `outcome` what it did then; both JSON.
CREATE TABLE records (
  journal_id      BIGINT  NOT NULL CHECK (journal_id >= 0),
  seq             BIGINT  NOT NULL CHECK (seq > 0),
  record_id       BYTEA   NOT NULL UNIQUE CHECK (length(record_id) = 32),
  kind            TEXT COLLATE "C" NOT NULL CHECK (length(kind) > 0),
  -- The key that people know it by: a deposit's id, an epoch's id, the number of an act.
  subject         TEXT COLLATE "C" NOT NULL,
  cause           TEXT COLLATE "C" NOT NULL,
  cause_hash      BYTEA   NOT NULL CHECK (length(cause_hash) = 32),
  outcome         TEXT COLLATE "C" NOT NULL,
  effective_at_ms BIGINT  NOT NULL,
  recorded_at_ms  BIGINT  NOT NULL,
  operator        TEXT COLLATE "C",
  -- Of the operator's key; there are no keys yet.
  key_id          TEXT COLLATE "C",
  prev            BYTEA   NOT NULL CHECK (length(prev) = 32),
  seal            BYTEA   NOT NULL CHECK (length(seal) = 32),
  PRIMARY KEY (journal_id, seq)
);

-- What a record moves; balanced within each unit. Both units are counted in billionths.
CREATE TABLE entries (
  journal_id BIGINT  NOT NULL,
  seq        BIGINT  NOT NULL,
  leg        BIGINT  NOT NULL CHECK (leg >= 0),
  account    TEXT COLLATE "C" NOT NULL,
  unit       TEXT COLLATE "C" NOT NULL CHECK (unit IN ('credits', 'usd')),
  side       TEXT COLLATE "C" NOT NULL CHECK (side IN ('debit', 'credit')),
  amount     BIGINT  NOT NULL CHECK (amount > 0),
  PRIMARY KEY (journal_id, seq, leg)
);

-- Parcels of credits. The number of a lot is that of the record that made it.
CREATE TABLE lots (
  journal_id             BIGINT  NOT NULL,
  lot_seq                BIGINT  NOT NULL,
  kind                   TEXT COLLATE "C" NOT NULL CHECK (kind IN ('paid', 'bonus', 'test')),
  priority               BIGINT  NOT NULL,
  -- What it may be used for; NULL: anything.
  scope                  TEXT COLLATE "C",
  amount_nano            BIGINT  NOT NULL CHECK (amount_nano > 0),
  -- Cached: amount_nano and the sum of its moves.
  remaining_nano         BIGINT  NOT NULL CHECK (remaining_nano BETWEEN 0 AND amount_nano),
  effective_at_ms        BIGINT  NOT NULL,
  expires_at_ms          BIGINT,
  -- What was paid for it, where it was paid for: the asset, how much in base units, its decimals, and what that was
  -- worth in billionths of a dollar where that is known.
  consideration_asset    TEXT COLLATE "C",
  consideration_raw      BYTEA   CHECK (length(consideration_raw) = 32),
  consideration_decimals BIGINT  CHECK (consideration_decimals BETWEEN 0 AND 36),
  consideration_usd_nano BIGINT  CHECK (consideration_usd_nano >= 0),
  PRIMARY KEY (journal_id, lot_seq),
  CHECK ((kind = 'paid') = (consideration_asset IS NOT NULL)),
  CHECK ((consideration_asset IS NULL) = (consideration_raw IS NULL)),
  CHECK ((consideration_asset IS NULL) = (consideration_decimals IS NULL)),
  CHECK (consideration_usd_nano IS NULL OR consideration_asset IS NOT NULL)
);
CREATE INDEX lots_with_something ON lots (journal_id, priority, expires_at_ms, lot_seq)
  WHERE remaining_nano > 0;

-- What a record takes from a lot (negative), or gives back to it.
CREATE TABLE lot_moves (
  journal_id  BIGINT  NOT NULL,
  seq         BIGINT  NOT NULL,
  n           BIGINT  NOT NULL CHECK (n >= 0),
  lot_seq     BIGINT  NOT NULL,
  amount_nano BIGINT  NOT NULL CHECK (amount_nano <> 0),
  reason      TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (journal_id, seq, n)
);
CREATE INDEX lot_moves_by_lot ON lot_moves (journal_id, lot_seq);

-- Which sighting a credit rests on, and the record of the same journal that undid it.
CREATE TABLE credits (
  journal_id  BIGINT  NOT NULL,
  seq         BIGINT  NOT NULL,
  deposit_id  BYTEA   NOT NULL REFERENCES deposits,
  block_hash  BYTEA   NOT NULL CHECK (length(block_hash) = 32),
  log_index   BIGINT  NOT NULL,
  reversed_by BIGINT,
  PRIMARY KEY (journal_id, seq),
  CHECK (reversed_by > seq)
);
CREATE UNIQUE INDEX one_standing_credit_per_deposit ON credits (deposit_id)
  WHERE reversed_by IS NULL;
CREATE INDEX credits_by_deposit ON credits (deposit_id);

-- Credits whose block is canonical no more, until they are reversed or the block is back.
CREATE TABLE unfounded (
  journal_id     BIGINT  NOT NULL,
  seq            BIGINT  NOT NULL,
  chain_id       BIGINT  NOT NULL,
  orphaned_at_ms BIGINT  NOT NULL,
  PRIMARY KEY (journal_id, seq)
);

-- What conversions owe the treasury, by the record of the credit. Whoever settles one, or reverses its credit, takes
-- its row first.
CREATE TABLE obligations (
  journal_id       BIGINT  NOT NULL,
  seq              BIGINT  NOT NULL,
  chain_id         BIGINT  NOT NULL,
  asset            TEXT COLLATE "C" NOT NULL,
  raw_amount       BYTEA   NOT NULL CHECK (length(raw_amount) = 32),
  decimals         BIGINT  NOT NULL,
  into_asset       TEXT COLLATE "C" NOT NULL,
  tokens           BYTEA   NOT NULL CHECK (length(tokens) = 32),
  token_decimals   BIGINT  NOT NULL,
  -- The stablecoin at its face, in billionths of a dollar, rounded down.
  usd_nano         BIGINT  NOT NULL CHECK (usd_nano >= 0),
  effective_at_ms  BIGINT  NOT NULL,
  -- What was bought before for the same payment, under a credit that was corrected into this one.
  carried_tokens   BYTEA   NOT NULL CHECK (length(carried_tokens) = 32),
  carried_usd_nano BIGINT  NOT NULL CHECK (carried_usd_nano >= 0),
  -- Cached: the sums of its settlements.
  settled_tokens   BYTEA   NOT NULL CHECK (length(settled_tokens) = 32),
  settled_usd_nano BIGINT  NOT NULL CHECK (settled_usd_nano BETWEEN 0 AND usd_nano),
  PRIMARY KEY (journal_id, seq)
);

-- A purchase by the treasury, as the chain shows it.
CREATE TABLE purchases (
  chain_id       BIGINT  NOT NULL,
  tx_hash        BYTEA   NOT NULL CHECK (length(tx_hash) = 32),
  block_hash     BYTEA   NOT NULL CHECK (length(block_hash) = 32),
  asset          TEXT COLLATE "C" NOT NULL,
  paid           BYTEA   NOT NULL CHECK (length(paid) = 32),
  decimals       BIGINT  NOT NULL,
  into_asset     TEXT COLLATE "C" NOT NULL,
  tokens         BYTEA   NOT NULL CHECK (length(tokens) = 32),
  -- JSON: the treasury's address, the block's height, who showed the receipt.
  evidence       TEXT COLLATE "C" NOT NULL,
  recorded_at_ms BIGINT  NOT NULL,
  PRIMARY KEY (chain_id, tx_hash)
);

-- How much of which obligation a purchase settled; a record of the house each, whose number is `seq`.
CREATE TABLE settlements (
  seq        BIGINT  PRIMARY KEY,
  -- The obligation: the journal and the number of its credit.
  journal_id BIGINT  NOT NULL,
  credit_seq BIGINT  NOT NULL,
  chain_id   BIGINT  NOT NULL,
  tx_hash    BYTEA   NOT NULL CHECK (length(tx_hash) = 32),
  tokens     BYTEA   NOT NULL CHECK (length(tokens) = 32),
  -- In billionths of a dollar: what these tokens were owed for, and what was paid for them.
  owed_usd_nano BIGINT  NOT NULL CHECK (owed_usd_nano >= 0),
  paid_usd_nano BIGINT  NOT NULL CHECK (paid_usd_nano >= 0),
  FOREIGN KEY (chain_id, tx_hash) REFERENCES purchases,
  UNIQUE (journal_id, credit_seq, chain_id, tx_hash)
);

-- Records that have no leaf in the log yet. The sequencer takes them away; nobody relies on the order of `position`.
CREATE TABLE unlogged (
  position   BIGINT  GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
  journal_id BIGINT  NOT NULL,
  seq        BIGINT  NOT NULL
);

-- Events that have no number in the feed yet. An event tells of a moment; it is not a record, and the same moment
-- has the same id.
CREATE TABLE events_new (
  position     BIGINT  GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
  event_id     BYTEA   NOT NULL UNIQUE CHECK (length(event_id) = 32),
  kind         TEXT COLLATE "C" NOT NULL,
  -- Whose, and of which chain, where it is somebody's or of one.
  namespace_id BIGINT,
  chain_id     BIGINT,
  -- The key that people know it by.
  subject      TEXT COLLATE "C" NOT NULL,
  -- JSON.
  payload      TEXT COLLATE "C" NOT NULL,
  at_ms        BIGINT  NOT NULL
);

-- The feed. A database that was put back begins a new incarnation: numbers of the one before may be given again.
CREATE TABLE events (
  incarnation     BIGINT  NOT NULL CHECK (incarnation > 0),
  feed_no         BIGINT  NOT NULL CHECK (feed_no > 0),
  event_id        BYTEA   NOT NULL UNIQUE CHECK (length(event_id) = 32),
  kind            TEXT COLLATE "C" NOT NULL,
  namespace_id    BIGINT,
  chain_id        BIGINT,
  subject         TEXT COLLATE "C" NOT NULL,
  payload         TEXT COLLATE "C" NOT NULL,
  at_ms           BIGINT  NOT NULL,
  delivered_at_ms BIGINT,
  PRIMARY KEY (incarnation, feed_no)
);

-- Which record each leaf of the log is; the leaf's entry is the record's seal.
CREATE TABLE log_leaves (
  leaf_index BIGINT  PRIMARY KEY CHECK (leaf_index >= 0),
  journal_id BIGINT  NOT NULL,
  seq        BIGINT  NOT NULL,
  UNIQUE (journal_id, seq)
);

-- Tiles of the log as C2SP has them: up to 256 hashes of 32 bytes of one level.
CREATE TABLE log_tiles (
  level  BIGINT  NOT NULL CHECK (level BETWEEN 0 AND 63),
  idx    BIGINT  NOT NULL CHECK (idx >= 0),
  hashes BYTEA   NOT NULL CHECK (length(hashes) BETWEEN 32 AND 8192 AND length(hashes) % 32 = 0),
  PRIMARY KEY (level, idx)
);

-- How far the log is, and its last checkpoint.
CREATE TABLE log_state (
  only_row    BIGINT  PRIMARY KEY CHECK (only_row = 1),
  -- The name that checkpoints have in their first line. Another one after each fork.
  origin      TEXT COLLATE "C" NOT NULL,
  size        BIGINT  NOT NULL CHECK (size >= 0),
  root        BYTEA   NOT NULL CHECK (length(root) = 32),
  -- The roots of the whole subtrees from the largest to the smallest, 32 bytes each.
  edge        BYTEA   NOT NULL CHECK (length(edge) % 32 = 0),
  -- The signed note; NULL where the log has no key, or nothing was signed yet.
  checkpoint  TEXT COLLATE "C",
  -- Why nothing is added to it; NULL while it goes on.
  paused      TEXT COLLATE "C",
  -- Of the feed: its incarnation, and the last number that was given.
  incarnation BIGINT  NOT NULL CHECK (incarnation > 0),
  feed_no     BIGINT  NOT NULL CHECK (feed_no >= 0),
  at_ms       BIGINT  NOT NULL
);

-- Sums over the entries of each account by UTC day (days since 1970), as far as the log goes. 16 bytes, big-endian:
-- a day's sum over all namespaces need not fit 64 bits.
CREATE TABLE account_days (
  account TEXT COLLATE "C" NOT NULL,
  unit    TEXT COLLATE "C" NOT NULL CHECK (unit IN ('credits', 'usd')),
  day     BIGINT  NOT NULL,
  debit   BYTEA   NOT NULL CHECK (length(debit) = 16),
  credit  BYTEA   NOT NULL CHECK (length(credit) = 16),
  PRIMARY KEY (account, unit, day)
);

-- What is written stays written, whoever asks.
CREATE TRIGGER journals_are_bound_for_ever BEFORE UPDATE OF journal_id, kind, genesis, salt ON journals
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a journal begins where it began');
CREATE TRIGGER journals_do_not_go_back BEFORE UPDATE OF seq ON journals
  FOR EACH ROW WHEN (NEW.seq < OLD.seq) EXECUTE FUNCTION refuse_change('a journal only grows');
CREATE TRIGGER journals_are_not_deleted BEFORE DELETE ON journals
  FOR EACH ROW WHEN (OLD.seq > 0) EXECUTE FUNCTION refuse_change('a journal is never deleted');
CREATE TRIGGER records_are_not_updated BEFORE UPDATE ON records
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a record is never updated');
CREATE TRIGGER records_are_not_deleted BEFORE DELETE ON records
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a record is never deleted');
CREATE TRIGGER entries_are_not_updated BEFORE UPDATE ON entries
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an entry is never updated');
CREATE TRIGGER entries_are_not_deleted BEFORE DELETE ON entries
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an entry is never deleted');
CREATE TRIGGER lots_stay_as_they_began BEFORE UPDATE OF journal_id, lot_seq, kind, priority, scope, amount_nano,
    effective_at_ms, expires_at_ms, consideration_asset, consideration_raw, consideration_decimals,
    consideration_usd_nano ON lots
  FOR EACH ROW EXECUTE FUNCTION refuse_change('of a lot, only what remains of it changes');
CREATE TRIGGER lots_are_not_deleted BEFORE DELETE ON lots
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a lot is never deleted');
CREATE TRIGGER lot_moves_are_not_updated BEFORE UPDATE ON lot_moves
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a move is never updated');
CREATE TRIGGER lot_moves_are_not_deleted BEFORE DELETE ON lot_moves
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a move is never deleted');
CREATE TRIGGER credits_stay_as_they_were BEFORE UPDATE OF journal_id, seq, deposit_id, block_hash, log_index ON credits
  FOR EACH ROW EXECUTE FUNCTION refuse_change('of a credit, only what undid it is added');
CREATE TRIGGER credits_are_undone_once BEFORE UPDATE OF reversed_by ON credits
  FOR EACH ROW WHEN (OLD.reversed_by IS NOT NULL) EXECUTE FUNCTION refuse_change('a credit is undone once');
CREATE TRIGGER credits_are_not_deleted BEFORE DELETE ON credits
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a credit is never deleted');
CREATE TRIGGER obligations_stay_as_they_began BEFORE UPDATE OF journal_id, seq, chain_id, asset, raw_amount, decimals,
    into_asset, tokens, token_decimals, usd_nano, effective_at_ms, carried_tokens, carried_usd_nano ON obligations
  FOR EACH ROW EXECUTE FUNCTION refuse_change('of an obligation, only what is settled of it changes');
CREATE TRIGGER obligations_are_not_deleted BEFORE DELETE ON obligations
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an obligation is never deleted');
CREATE TRIGGER settlements_are_not_updated BEFORE UPDATE ON settlements
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a settlement is never updated');
CREATE TRIGGER settlements_are_not_deleted BEFORE DELETE ON settlements
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a settlement is never deleted');
CREATE TRIGGER log_leaves_are_not_updated BEFORE UPDATE ON log_leaves
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a leaf is never updated');
CREATE TRIGGER log_leaves_are_not_deleted BEFORE DELETE ON log_leaves
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a leaf is never deleted');
-- Only PostgreSQL has TRUNCATE, which deletes without looking at rows.
CREATE TRIGGER journals_are_not_truncated BEFORE TRUNCATE ON journals
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('a journal is never deleted');
CREATE TRIGGER records_are_not_truncated BEFORE TRUNCATE ON records
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('a record is never deleted');
CREATE TRIGGER entries_are_not_truncated BEFORE TRUNCATE ON entries
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('an entry is never deleted');
CREATE TRIGGER lots_are_not_truncated BEFORE TRUNCATE ON lots
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('a lot is never deleted');
CREATE TRIGGER lot_moves_are_not_truncated BEFORE TRUNCATE ON lot_moves
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('a move is never deleted');
CREATE TRIGGER credits_are_not_truncated BEFORE TRUNCATE ON credits
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('a credit is never deleted');
CREATE TRIGGER obligations_are_not_truncated BEFORE TRUNCATE ON obligations
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('an obligation is never deleted');
CREATE TRIGGER settlements_are_not_truncated BEFORE TRUNCATE ON settlements
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('a settlement is never deleted');
CREATE TRIGGER log_leaves_are_not_truncated BEFORE TRUNCATE ON log_leaves
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('a leaf is never deleted');
