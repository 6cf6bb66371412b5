-- Market prices: what sources answered, what was accepted of it, the conversions made at it, what
-- operators did about deposits on hold, and what the treasury owes.

-- Prices may rest on the market.
CREATE TABLE prices_before AS SELECT * FROM prices;
DROP TABLE prices;
CREATE TABLE prices (
  deposit_id        BLOB    NOT NULL REFERENCES deposits,
  block_hash        BLOB    NOT NULL CHECK (length(block_hash) = 32),
  log_index         INTEGER NOT NULL,
  epoch_id          TEXT    NOT NULL REFERENCES epochs,
  rule              TEXT    NOT NULL CHECK (rule IN ('par', 'fixed', 'market', 'convert')),
  asset             TEXT    NOT NULL,
  raw_amount        BLOB    NOT NULL CHECK (length(raw_amount) = 32),
  decimals          INTEGER NOT NULL CHECK (decimals BETWEEN 0 AND 36),
  credits_per_token TEXT    NOT NULL,
  rounding          TEXT    NOT NULL CHECK (rounding = 'down'),
  credits_nano      INTEGER NOT NULL CHECK (credits_nano > 0),
  priced_at_ms      INTEGER NOT NULL,
  PRIMARY KEY (deposit_id, block_hash, log_index)
) STRICT, WITHOUT ROWID;
INSERT INTO prices SELECT * FROM prices_before;
DROP TABLE prices_before;

-- The arithmetic of a price that rests on the market, one row for such a row of prices.
CREATE TABLE conversions (
  deposit_id BLOB    NOT NULL REFERENCES deposits,
  block_hash BLOB    NOT NULL CHECK (length(block_hash) = 32),
  log_index  INTEGER NOT NULL,
  -- JSON; the same text stands in the posting's evidence.
  body       TEXT    NOT NULL,
  PRIMARY KEY (deposit_id, block_hash, log_index)
) STRICT, WITHOUT ROWID;

-- The texts that prices were decided by.
CREATE TABLE price_policies (
  policy_hash    BLOB    PRIMARY KEY CHECK (length(policy_hash) = 32),
  pair           TEXT    NOT NULL,
  body           TEXT    NOT NULL,
  recorded_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Raw answers of sources. The block is the one that is priced: a payment's, or one of the schedule;
-- samples have none.
CREATE TABLE quotes (
  quote_id       BLOB    PRIMARY KEY CHECK (length(quote_id) = 32),
  source         TEXT    NOT NULL,
  source_hash    BLOB    NOT NULL CHECK (length(source_hash) = 32),
  chain_id       INTEGER,
  block_hash     BLOB    CHECK (length(block_hash) = 32),
  at_ms          INTEGER NOT NULL,
  evidence       TEXT    NOT NULL,
  -- An accepted price rests on it.
  used           INTEGER NOT NULL DEFAULT 0 CHECK (used IN (0, 1)),
  recorded_at_ms INTEGER NOT NULL,
  CHECK ((chain_id IS NULL) = (block_hash IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX quotes_by_block ON quotes (chain_id, block_hash) WHERE block_hash IS NOT NULL;
CREATE INDEX quotes_by_time ON quotes (source_hash, at_ms);
-- Samples that may be forgotten.
CREATE INDEX quotes_unused ON quotes (at_ms) WHERE block_hash IS NULL AND used = 0;

-- Who gave an answer.
CREATE TABLE quote_witnesses (
  quote_id       BLOB    NOT NULL REFERENCES quotes,
  provider       TEXT    NOT NULL,
  recorded_at_ms INTEGER NOT NULL,
  PRIMARY KEY (quote_id, provider)
) STRICT, WITHOUT ROWID;

-- How far a source has been asked about a block that is priced; under the hash of all sources of an
-- asset, that all of them are done.
CREATE TABLE captures (
  chain_id         INTEGER NOT NULL,
  block_hash       BLOB    NOT NULL CHECK (length(block_hash) = 32),
  source_hash      BLOB    NOT NULL CHECK (length(source_hash) = 32),
  tries            INTEGER NOT NULL CHECK (tries >= 0),
  -- What is wrong, while it is not done.
  why              TEXT,
  first_try_at_ms  INTEGER NOT NULL,
  next_try_at_ms   INTEGER NOT NULL,
  done_at_ms       INTEGER,
  PRIMARY KEY (chain_id, block_hash, source_hash)
) STRICT, WITHOUT ROWID;

-- Numbers accepted prices without gaps: the row that whoever accepts one takes first.
CREATE TABLE market_head (
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  seq      INTEGER NOT NULL CHECK (seq >= 0)
) STRICT;
INSERT INTO market_head (only_row, seq) VALUES (1, 0);

-- Accepted prices, each with everything that it was decided on.
CREATE TABLE market_prices (
  price_seq      INTEGER PRIMARY KEY CHECK (price_seq > 0),
  price_hash     BLOB    NOT NULL UNIQUE CHECK (length(price_hash) = 32),
  pair           TEXT    NOT NULL,
  chain_id       INTEGER NOT NULL,
  block_hash     BLOB    NOT NULL CHECK (length(block_hash) = 32),
  instant_ms     INTEGER NOT NULL,
  price          TEXT    NOT NULL,
  policy_hash    BLOB    NOT NULL REFERENCES price_policies,
  manual         INTEGER NOT NULL CHECK (manual IN (0, 1)),
  body           TEXT    NOT NULL,
  accepted_at_ms INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_price_of_a_pair_per_block ON market_prices (pair, chain_id, block_hash)
  WHERE manual = 0;
CREATE INDEX market_prices_by_instant ON market_prices (pair, instant_ms);

-- The block of each chain at which pairs are priced though nobody pays, chosen last.
CREATE TABLE price_schedule (
  chain_id       INTEGER PRIMARY KEY,
  block_number   INTEGER NOT NULL,
  block_hash     BLOB    NOT NULL CHECK (length(block_hash) = 32),
  block_time_ms  INTEGER NOT NULL,
  next_try_at_ms INTEGER NOT NULL,
  -- Another one is chosen when it is of this time or later.
  again_at_ms    INTEGER NOT NULL,
  -- Nothing more is expected of it.
  done           INTEGER NOT NULL CHECK (done IN (0, 1))
) STRICT;

-- The last try to price a pair at a block that gave no price: for people.
CREATE TABLE price_tries (
  chain_id    INTEGER NOT NULL,
  block_hash  BLOB    NOT NULL CHECK (length(block_hash) = 32),
  pair        TEXT    NOT NULL,
  body        TEXT    NOT NULL,
  tried_at_ms INTEGER NOT NULL,
  PRIMARY KEY (chain_id, block_hash, pair)
) STRICT, WITHOUT ROWID;

-- Pairs whose price moved too far, until an operator lets it pass.
CREATE TABLE breakers (
  pair         TEXT    PRIMARY KEY,
  reason       TEXT    NOT NULL,
  chain_id     INTEGER NOT NULL,
  block_hash   BLOB    NOT NULL CHECK (length(block_hash) = 32),
  instant_ms     INTEGER NOT NULL,
  price        TEXT    NOT NULL,
  opened_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What people decided, one row an act.
CREATE TABLE operator_acts (
  act_id     INTEGER PRIMARY KEY CHECK (act_id > 0),
  kind       TEXT    NOT NULL CHECK (kind IN ('retry', 'accept_market', 'propose_price',
                                              'approve_price', 'resume_breaker',
                                              'veto_price')),
  operator   TEXT    NOT NULL CHECK (length(operator) BETWEEN 1 AND 63),
  reason     TEXT    NOT NULL CHECK (length(reason) BETWEEN 1 AND 1000),
  deposit_id BLOB    REFERENCES deposits,
  -- The block that it is about: the deposit's then, or that of the price which moved.
  chain_id   INTEGER NOT NULL,
  block_hash BLOB    NOT NULL CHECK (length(block_hash) = 32),
  pair             TEXT,
  price      TEXT,
  instant_ms INTEGER,
  approves   INTEGER UNIQUE REFERENCES operator_acts,
  -- Why the latch was open, and since when.
  latch      TEXT,
  at_ms           INTEGER NOT NULL,
  CHECK ((kind IN ('resume_breaker', 'veto_price')) = (deposit_id IS NULL)),
  CHECK ((kind = 'approve_price') = (approves IS NOT NULL)),
  CHECK ((kind IN ('propose_price', 'resume_breaker', 'veto_price')) = (price IS NOT NULL))
) STRICT;
CREATE INDEX operator_acts_by_deposit ON operator_acts (deposit_id);
CREATE INDEX operator_acts_by_pair ON operator_acts (pair, kind);
CREATE INDEX operator_acts_by_block ON operator_acts (chain_id, block_hash);

-- Each credit of a conversion owes the treasury a purchase of that many tokens.
CREATE TABLE obligations (
  posting_seq      INTEGER PRIMARY KEY REFERENCES postings,
  chain_id         INTEGER NOT NULL,
  asset            TEXT    NOT NULL,
  raw_amount       BLOB    NOT NULL CHECK (length(raw_amount) = 32),
  decimals         INTEGER NOT NULL,
  into_asset       TEXT    NOT NULL,
  tokens           BLOB    NOT NULL CHECK (length(tokens) = 32),
  token_decimals   INTEGER NOT NULL,
  effective_at_ms  INTEGER NOT NULL
) STRICT;

-- A purchase by the treasury, as the chain shows it.
CREATE TABLE purchases (
  chain_id      INTEGER NOT NULL,
  tx_hash       BLOB    NOT NULL CHECK (length(tx_hash) = 32),
  block_hash    BLOB    NOT NULL CHECK (length(block_hash) = 32),
  asset         TEXT    NOT NULL,
  paid          BLOB    NOT NULL CHECK (length(paid) = 32),
  decimals      INTEGER NOT NULL,
  into_asset    TEXT    NOT NULL,
  tokens        BLOB    NOT NULL CHECK (length(tokens) = 32),
  -- JSON: the treasury's address, the block's height, who showed the receipt.
  evidence      TEXT    NOT NULL,
  recorded_at_ms INTEGER NOT NULL,
  PRIMARY KEY (chain_id, tx_hash)
) STRICT, WITHOUT ROWID;

-- How much of which obligation a purchase settled; one posting each.
CREATE TABLE settlements (
  posting_seq    INTEGER PRIMARY KEY REFERENCES postings,
  obligation_seq INTEGER NOT NULL REFERENCES obligations,
  chain_id       INTEGER NOT NULL,
  tx_hash        BLOB    NOT NULL CHECK (length(tx_hash) = 32),
  tokens         BLOB    NOT NULL CHECK (length(tokens) = 32),
  FOREIGN KEY (chain_id, tx_hash) REFERENCES purchases,
  UNIQUE (obligation_seq, chain_id, tx_hash)
) STRICT;

CREATE TRIGGER market_prices_are_not_updated BEFORE UPDATE ON market_prices
  BEGIN SELECT RAISE(ABORT, 'an accepted price is never updated'); END;
CREATE TRIGGER market_prices_are_not_deleted BEFORE DELETE ON market_prices
  BEGIN SELECT RAISE(ABORT, 'an accepted price is never deleted'); END;
CREATE TRIGGER price_policies_are_not_updated BEFORE UPDATE ON price_policies
  BEGIN SELECT RAISE(ABORT, 'a policy is never updated'); END;
CREATE TRIGGER operator_acts_are_not_updated BEFORE UPDATE ON operator_acts
  BEGIN SELECT RAISE(ABORT, 'an act is never updated'); END;
CREATE TRIGGER operator_acts_are_not_deleted BEFORE DELETE ON operator_acts
  BEGIN SELECT RAISE(ABORT, 'an act is never deleted'); END;
CREATE TRIGGER conversions_are_not_updated BEFORE UPDATE ON conversions
  BEGIN SELECT RAISE(ABORT, 'a conversion is never updated'); END;
CREATE TRIGGER conversions_are_not_deleted BEFORE DELETE ON conversions
  BEGIN SELECT RAISE(ABORT, 'a conversion is never deleted'); END;
CREATE TRIGGER obligations_are_not_updated BEFORE UPDATE ON obligations
  BEGIN SELECT RAISE(ABORT, 'an obligation is never updated'); END;
CREATE TRIGGER obligations_are_not_deleted BEFORE DELETE ON obligations
  BEGIN SELECT RAISE(ABORT, 'an obligation is never deleted'); END;
CREATE TRIGGER purchases_are_not_updated BEFORE UPDATE ON purchases
  BEGIN SELECT RAISE(ABORT, 'a purchase is never updated'); END;
CREATE TRIGGER purchases_are_not_deleted BEFORE DELETE ON purchases
  BEGIN SELECT RAISE(ABORT, 'a purchase is never deleted'); END;
CREATE TRIGGER settlements_are_not_updated BEFORE UPDATE ON settlements
  BEGIN SELECT RAISE(ABORT, 'a settlement is never updated'); END;
CREATE TRIGGER settlements_are_not_deleted BEFORE DELETE ON settlements
  BEGIN SELECT RAISE(ABORT, 'a settlement is never deleted'); END;
CREATE TRIGGER quotes_are_facts BEFORE UPDATE OF quote_id, source, source_hash, chain_id, block_hash,
    at_ms, evidence ON quotes
  BEGIN SELECT RAISE(ABORT, 'an answer is a fact'); END;
