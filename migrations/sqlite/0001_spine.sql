-- The spine: what this database is, whom the addresses belong to, what was seen on which chain,
-- where each deposit stands, and the ledger. SQLite dialect: STRICT, so that a wrong type is an
-- error and an overflowing integer never becomes a REAL.
--
-- Conventions, shared with the PostgreSQL migrations: ids and hashes are bytes; times are epoch
-- milliseconds; token amounts are 32 big-endian bytes; credits are nanocredits; enums are TEXT
-- with CHECK; flags are 0 or 1 with CHECK.

CREATE TABLE installation (
  only_row      INTEGER PRIMARY KEY CHECK (only_row = 1),
  network       TEXT    NOT NULL CHECK (network IN ('mainnet', 'testnet')),
  created_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE namespaces (
  namespace_id  INTEGER PRIMARY KEY,
  name          TEXT    NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 63),
  created_at_ms INTEGER NOT NULL
) STRICT;

-- One account key whose children are handed out in order, without gaps.
CREATE TABLE wallets (
  wallet_id    INTEGER PRIMARY KEY,
  account_xpub TEXT    NOT NULL UNIQUE,
  next_index   INTEGER NOT NULL CHECK (next_index BETWEEN 0 AND 2147483648)
) STRICT;

-- Bound to one namespace for ever: no update, no delete (triggers below).
CREATE TABLE addresses (
  address_id       INTEGER PRIMARY KEY CHECK (address_id BETWEEN 1 AND 4294967295),
  address          BLOB    NOT NULL UNIQUE CHECK (length(address) = 20),
  namespace_id     INTEGER NOT NULL REFERENCES namespaces,
  origin           TEXT    NOT NULL CHECK (origin IN ('derived', 'imported')),
  wallet_id        INTEGER REFERENCES wallets,
  derivation_index INTEGER,
  created_at_ms    INTEGER NOT NULL,
  UNIQUE (wallet_id, derivation_index),
  CHECK ((origin = 'derived') = (wallet_id IS NOT NULL)),
  CHECK ((origin = 'derived') = (derivation_index IS NOT NULL))
) STRICT;
CREATE INDEX addresses_by_namespace ON addresses (namespace_id);

-- No row means: never scanned.
CREATE TABLE cursors (
  chain_id      INTEGER PRIMARY KEY,
  block_number  INTEGER NOT NULL,
  block_hash    BLOB    NOT NULL CHECK (length(block_hash) = 32),
  start_number  INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL
) STRICT;

-- The kept window of each chain, and for ever the blocks that hold sightings.
CREATE TABLE blocks (
  chain_id      INTEGER NOT NULL,
  block_hash    BLOB    NOT NULL CHECK (length(block_hash) = 32),
  block_number  INTEGER NOT NULL,
  parent_hash   BLOB    NOT NULL CHECK (length(parent_hash) = 32),
  block_time_ms INTEGER NOT NULL,
  canonical     INTEGER NOT NULL CHECK (canonical IN (0, 1)),
  PRIMARY KEY (chain_id, block_hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX blocks_by_number ON blocks (chain_id, block_number);
CREATE UNIQUE INDEX one_canonical_block_per_height
  ON blocks (chain_id, block_number) WHERE canonical = 1;

-- Who looked where, and what was seen. Records of one provider that continue each other are one
-- row. A record whose to_hash was orphaned later stays; the next one starts at the fork.
CREATE TABLE scans (
  scan_id       INTEGER PRIMARY KEY,
  chain_id      INTEGER NOT NULL,
  from_number   INTEGER NOT NULL,
  from_hash     BLOB    NOT NULL CHECK (length(from_hash) = 32),
  to_number     INTEGER NOT NULL,
  to_hash       BLOB    NOT NULL CHECK (length(to_hash) = 32),
  method        TEXT    NOT NULL CHECK (method IN ('by_hash', 'by_range')),
  provider      TEXT    NOT NULL,
  logs_seen     INTEGER NOT NULL CHECK (logs_seen >= 0),
  logs_matched  INTEGER NOT NULL CHECK (logs_matched BETWEEN 0 AND logs_seen),
  started_at_ms INTEGER NOT NULL,
  ended_at_ms   INTEGER NOT NULL,
  CHECK (from_number <= to_number)
) STRICT;
CREATE INDEX scans_by_chain ON scans (chain_id, scan_id);

CREATE TABLE epochs (
  epoch_id       TEXT    PRIMARY KEY,
  starts_at_ms   INTEGER NOT NULL UNIQUE,
  body           TEXT    NOT NULL,
  body_hash      BLOB    NOT NULL CHECK (length(body_hash) = 32),
  recorded_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE deposits (
  deposit_id       BLOB    PRIMARY KEY CHECK (length(deposit_id) = 32),
  chain_id         INTEGER NOT NULL,
  tx_hash          BLOB    NOT NULL CHECK (length(tx_hash) = 32),
  token            BLOB    NOT NULL CHECK (length(token) = 20),
  recipient        BLOB    NOT NULL CHECK (length(recipient) = 20),
  shape            TEXT    NOT NULL CHECK (shape IN ('transfer', 'malformed')),
  n                INTEGER NOT NULL CHECK (n >= 0),
  address_id       INTEGER NOT NULL REFERENCES addresses,
  namespace_id     INTEGER NOT NULL REFERENCES namespaces,
  -- The sighting it stands on, or stood on last when orphaned.
  block_hash       BLOB    NOT NULL CHECK (length(block_hash) = 32),
  block_number     INTEGER NOT NULL,
  log_index        INTEGER NOT NULL,
  raw_amount       BLOB    NOT NULL CHECK (length(raw_amount) = 32),
  -- 'reversed' is room for undoing a credit by another posting; nothing writes it yet.
  stage            TEXT    NOT NULL CHECK (stage IN ('pending', 'confirmed', 'priced', 'credited',
                                                     'orphaned', 'held', 'ignored', 'reversed')),
  reason           TEXT,
  posting_seq      INTEGER UNIQUE REFERENCES postings,
  first_seen_at_ms INTEGER NOT NULL,
  updated_at_ms    INTEGER NOT NULL,
  UNIQUE (chain_id, tx_hash, token, recipient, shape, n),
  CHECK ((stage IN ('held', 'ignored')) = (reason IS NOT NULL)),
  CHECK ((stage IN ('credited', 'reversed')) = (posting_seq IS NOT NULL))
) STRICT;
-- The settle task's question; everything finished is outside of the index.
CREATE INDEX deposits_open ON deposits (chain_id, stage, block_number)
  WHERE stage IN ('pending', 'confirmed', 'priced', 'held');
-- What a namespace has under way in one token, in the order of the chain: for dust.
CREATE INDEX deposits_under_way
  ON deposits (chain_id, namespace_id, token, block_number, log_index)
  WHERE stage IN ('pending', 'confirmed', 'priced', 'held');
CREATE INDEX deposits_by_namespace ON deposits (namespace_id, first_seen_at_ms);
CREATE INDEX deposits_by_block ON deposits (chain_id, block_hash);

-- Facts; only the derived deposit_id may change, when a block had to be read anew.
CREATE TABLE sightings (
  chain_id     INTEGER NOT NULL,
  block_hash   BLOB    NOT NULL,
  log_index    INTEGER NOT NULL CHECK (log_index >= 0),
  block_number INTEGER NOT NULL,
  deposit_id   BLOB    NOT NULL REFERENCES deposits,
  tx_hash      BLOB    NOT NULL CHECK (length(tx_hash) = 32),
  token        BLOB    NOT NULL CHECK (length(token) = 20),
  recipient    BLOB    NOT NULL CHECK (length(recipient) = 20),
  sender       BLOB    CHECK (length(sender) = 20),
  raw_amount   BLOB    CHECK (length(raw_amount) = 32),
  malformed    TEXT    CHECK (malformed IN ('topic_count', 'data_length', 'dirty_topic')),
  topics       BLOB    CHECK (length(topics) BETWEEN 32 AND 128),
  data         BLOB    CHECK (length(data) <= 256),
  seen_at_ms   INTEGER NOT NULL,
  PRIMARY KEY (chain_id, block_hash, log_index),
  FOREIGN KEY (chain_id, block_hash) REFERENCES blocks,
  CHECK ((malformed IS NULL) = (sender IS NOT NULL)),
  CHECK ((malformed IS NULL) = (raw_amount IS NOT NULL)),
  CHECK ((malformed IS NOT NULL) = (topics IS NOT NULL)),
  CHECK ((malformed IS NOT NULL) = (data IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX sightings_by_deposit ON sightings (deposit_id);

-- How much of the worthless was recorded per address and UTC day, and how much was only counted.
CREATE TABLE unlisted_quota (
  address_id INTEGER NOT NULL REFERENCES addresses,
  day        INTEGER NOT NULL,
  recorded   INTEGER NOT NULL CHECK (recorded >= 0),
  dropped    INTEGER NOT NULL CHECK (dropped >= 0),
  PRIMARY KEY (address_id, day)
) STRICT, WITHOUT ROWID;

-- What made a deposit Confirmed, one row a sighting.
CREATE TABLE confirmations (
  deposit_id        BLOB    NOT NULL REFERENCES deposits,
  block_hash        BLOB    NOT NULL CHECK (length(block_hash) = 32),
  log_index         INTEGER NOT NULL,
  policy            TEXT    NOT NULL,
  head_number       INTEGER NOT NULL,
  head_hash         BLOB    NOT NULL CHECK (length(head_hash) = 32),
  receipt_provider  TEXT    NOT NULL,
  receipt_transfers INTEGER NOT NULL CHECK (receipt_transfers > 0),
  confirmed_at_ms   INTEGER NOT NULL,
  PRIMARY KEY (deposit_id, block_hash, log_index)
) STRICT, WITHOUT ROWID;

-- The price that was fixed, one row a sighting; written before it is used.
CREATE TABLE prices (
  deposit_id        BLOB    NOT NULL REFERENCES deposits,
  block_hash        BLOB    NOT NULL CHECK (length(block_hash) = 32),
  log_index         INTEGER NOT NULL,
  epoch_id          TEXT    NOT NULL REFERENCES epochs,
  rule              TEXT    NOT NULL CHECK (rule IN ('par', 'fixed')),
  asset             TEXT    NOT NULL,
  raw_amount        BLOB    NOT NULL CHECK (length(raw_amount) = 32),
  decimals          INTEGER NOT NULL CHECK (decimals BETWEEN 0 AND 36),
  credits_per_token TEXT    NOT NULL,
  rounding          TEXT    NOT NULL CHECK (rounding = 'down'),
  credits_nano      INTEGER NOT NULL CHECK (credits_nano > 0),
  priced_at_ms      INTEGER NOT NULL,
  PRIMARY KEY (deposit_id, block_hash, log_index)
) STRICT, WITHOUT ROWID;

-- The ledger. Accounts of namespaces carry their balance; totals over namespaces are summed from
-- entries, because an i64 need not hold them.
CREATE TABLE accounts (
  account      TEXT    PRIMARY KEY,
  namespace_id INTEGER UNIQUE REFERENCES namespaces,
  balance_nano INTEGER,
  CHECK ((namespace_id IS NULL) = (balance_nano IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE postings (
  seq             INTEGER PRIMARY KEY CHECK (seq > 0),
  posting_id      BLOB    NOT NULL UNIQUE CHECK (length(posting_id) = 32),
  kind            TEXT    NOT NULL,
  deposit_id      BLOB    NOT NULL REFERENCES deposits,
  effective_at_ms INTEGER NOT NULL,
  recorded_at_ms  INTEGER NOT NULL,
  evidence        TEXT    NOT NULL,
  prev_hash       BLOB    NOT NULL UNIQUE CHECK (length(prev_hash) = 32),
  hash            BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32)
) STRICT;
CREATE INDEX postings_by_deposit ON postings (deposit_id);

CREATE TABLE entries (
  posting_seq INTEGER NOT NULL REFERENCES postings,
  leg         INTEGER NOT NULL CHECK (leg >= 0),
  account     TEXT    NOT NULL REFERENCES accounts,
  side        TEXT    NOT NULL CHECK (side IN ('debit', 'credit')),
  amount_nano INTEGER NOT NULL CHECK (amount_nano > 0),
  PRIMARY KEY (posting_seq, leg)
) STRICT, WITHOUT ROWID;
CREATE INDEX entries_by_account ON entries (account, posting_seq);

-- The end of the chain of hashes: the row every writer takes first.
CREATE TABLE ledger_head (
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  seq      INTEGER NOT NULL CHECK (seq >= 0),
  hash     BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;

-- Parcels of credits. Nothing burns them yet; kind, priority and expiry are fixed at creation.
CREATE TABLE lots (
  posting_seq     INTEGER PRIMARY KEY REFERENCES postings,
  namespace_id    INTEGER NOT NULL REFERENCES namespaces,
  kind            TEXT    NOT NULL CHECK (kind IN ('paid', 'bonus', 'test')),
  priority        INTEGER NOT NULL,
  amount_nano     INTEGER NOT NULL CHECK (amount_nano > 0),
  remaining_nano  INTEGER NOT NULL CHECK (remaining_nano BETWEEN 0 AND amount_nano),
  effective_at_ms INTEGER NOT NULL,
  expires_at_ms   INTEGER
) STRICT;
CREATE INDEX lots_by_namespace ON lots (namespace_id) WHERE remaining_nano > 0;

-- One event a credit, written with it; delivery marks it later.
CREATE TABLE outbox (
  event_id        BLOB    PRIMARY KEY CHECK (length(event_id) = 32),
  kind            TEXT    NOT NULL,
  posting_seq     INTEGER NOT NULL UNIQUE REFERENCES postings,
  created_at_ms   INTEGER NOT NULL,
  delivered_at_ms INTEGER
) STRICT, WITHOUT ROWID;

-- What is written stays written, whoever asks.
CREATE TRIGGER postings_are_not_updated BEFORE UPDATE ON postings
  BEGIN SELECT RAISE(ABORT, 'a posting is never updated'); END;
CREATE TRIGGER postings_are_not_deleted BEFORE DELETE ON postings
  BEGIN SELECT RAISE(ABORT, 'a posting is never deleted'); END;
CREATE TRIGGER entries_are_not_updated BEFORE UPDATE ON entries
  BEGIN SELECT RAISE(ABORT, 'an entry is never updated'); END;
CREATE TRIGGER entries_are_not_deleted BEFORE DELETE ON entries
  BEGIN SELECT RAISE(ABORT, 'an entry is never deleted'); END;
CREATE TRIGGER epochs_are_not_updated BEFORE UPDATE ON epochs
  BEGIN SELECT RAISE(ABORT, 'an epoch is never updated'); END;
CREATE TRIGGER addresses_are_not_updated BEFORE UPDATE ON addresses
  BEGIN SELECT RAISE(ABORT, 'an address is bound to its namespace for ever'); END;
CREATE TRIGGER addresses_are_not_deleted BEFORE DELETE ON addresses
  BEGIN SELECT RAISE(ABORT, 'an address is bound to its namespace for ever'); END;
CREATE TRIGGER sightings_are_facts BEFORE UPDATE OF chain_id, block_hash, log_index, block_number,
    tx_hash, token, recipient, sender, raw_amount, malformed, topics, data ON sightings
  BEGIN SELECT RAISE(ABORT, 'a sighting is a fact'); END;
CREATE TRIGGER sightings_are_not_deleted BEFORE DELETE ON sightings
  BEGIN SELECT RAISE(ABORT, 'a sighting is a fact'); END;
CREATE TRIGGER installation_is_stamped_once BEFORE UPDATE ON installation
  BEGIN SELECT RAISE(ABORT, 'the network of a database never changes'); END;
