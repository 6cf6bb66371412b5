-- Market prices: what sources answered, what was accepted of it, the conversions made at it, what
-- operators did about deposits on hold, and what the treasury owes.

-- Prices may rest on the market.
ALTER TABLE prices DROP CONSTRAINT prices_rule_check;
ALTER TABLE prices ADD CHECK (rule IN ('par', 'fixed', 'market', 'convert'));

-- The arithmetic of a price that rests on the market, one row for such a row of prices.
CREATE TABLE conversions (
  deposit_id BYTEA    NOT NULL REFERENCES deposits,
  block_hash BYTEA    NOT NULL CHECK (length(block_hash) = 32),
  log_index  BIGINT NOT NULL,
  -- JSON; the same text stands in the posting's evidence.
  body       TEXT COLLATE "C"    NOT NULL,
  PRIMARY KEY (deposit_id, block_hash, log_index)
);

-- The texts that prices were decided by.
CREATE TABLE price_policies (
  policy_hash    BYTEA    PRIMARY KEY CHECK (length(policy_hash) = 32),
  pair           TEXT COLLATE "C"    NOT NULL,
  body           TEXT COLLATE "C"    NOT NULL,
  recorded_at_ms BIGINT NOT NULL
);

-- Raw answers of sources. The block is the one that is priced: a payment's, or one of the schedule;
-- samples have none.
CREATE TABLE quotes (
  quote_id       BYTEA    PRIMARY KEY CHECK (length(quote_id) = 32),
  source         TEXT COLLATE "C"    NOT NULL,
  source_hash    BYTEA    NOT NULL CHECK (length(source_hash) = 32),
  chain_id       BIGINT,
  block_hash     BYTEA    CHECK (length(block_hash) = 32),
  at_ms          BIGINT NOT NULL,
  evidence       TEXT COLLATE "C"    NOT NULL,
  -- An accepted price rests on it.
  used           BIGINT NOT NULL DEFAULT 0 CHECK (used IN (0, 1)),
  recorded_at_ms BIGINT NOT NULL,
  CHECK ((chain_id IS NULL) = (block_hash IS NULL))
);
CREATE INDEX quotes_by_block ON quotes (chain_id, block_hash) WHERE block_hash IS NOT NULL;
CREATE INDEX quotes_by_time ON quotes (source_hash, at_ms);
-- Samples that may be forgotten.
CREATE INDEX quotes_unused ON quotes (at_ms) WHERE block_hash IS NULL AND used = 0;

-- Who gave an answer.
CREATE TABLE quote_witnesses (
  quote_id       BYTEA    NOT NULL REFERENCES quotes,
  provider       TEXT COLLATE "C"    NOT NULL,
  recorded_at_ms BIGINT NOT NULL,
  PRIMARY KEY (quote_id, provider)
);

-- How far a source has been asked about a block that is priced; under the hash of all sources of an
-- asset, that all of them are done.
CREATE TABLE captures (
  chain_id         BIGINT NOT NULL,
  block_hash       BYTEA    NOT NULL CHECK (length(block_hash) = 32),
  source_hash      BYTEA    NOT NULL CHECK (length(source_hash) = 32),
  tries            BIGINT NOT NULL CHECK (tries >= 0),
  -- What is wrong, while it is not done.
  why              TEXT COLLATE "C",
  first_try_at_ms  BIGINT NOT NULL,
  next_try_at_ms   BIGINT NOT NULL,
  done_at_ms       BIGINT,
  PRIMARY KEY (chain_id, block_hash, source_hash)
);

-- Numbers accepted prices without gaps: the row that whoever accepts one takes first.
CREATE TABLE market_head (
  only_row BIGINT PRIMARY KEY CHECK (only_row = 1),
  seq      BIGINT NOT NULL CHECK (seq >= 0)
);
INSERT INTO market_head (only_row, seq) VALUES (1, 0);

-- Accepted prices, each with everything that it was decided on.
CREATE TABLE market_prices (
  price_seq      BIGINT PRIMARY KEY CHECK (price_seq > 0),
  price_hash     BYTEA    NOT NULL UNIQUE CHECK (length(price_hash) = 32),
  pair           TEXT COLLATE "C"    NOT NULL,
  chain_id       BIGINT NOT NULL,
  block_hash     BYTEA    NOT NULL CHECK (length(block_hash) = 32),
  instant_ms     BIGINT NOT NULL,
  price          TEXT COLLATE "C"    NOT NULL,
  policy_hash    BYTEA    NOT NULL REFERENCES price_policies,
  manual         BIGINT NOT NULL CHECK (manual IN (0, 1)),
  body           TEXT COLLATE "C"    NOT NULL,
  accepted_at_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX one_price_of_a_pair_per_block ON market_prices (pair, chain_id, block_hash)
  WHERE manual = 0;
CREATE INDEX market_prices_by_instant ON market_prices (pair, instant_ms);

-- The block of each chain at which pairs are priced though nobody pays, chosen last.
CREATE TABLE price_schedule (
  chain_id       BIGINT PRIMARY KEY,
  block_number   BIGINT  NOT NULL,
  block_hash     BYTEA   NOT NULL CHECK (length(block_hash) = 32),
  block_time_ms  BIGINT  NOT NULL,
  next_try_at_ms BIGINT  NOT NULL,
  -- Another one is chosen when it is of this time or later.
  again_at_ms    BIGINT  NOT NULL,
  -- Nothing more is expected of it.
  done           BIGINT  NOT NULL CHECK (done IN (0, 1))
);

-- The last try to price a pair at a block that gave no price: for people.
CREATE TABLE price_tries (
  chain_id    BIGINT NOT NULL,
  block_hash  BYTEA    NOT NULL CHECK (length(block_hash) = 32),
  pair        TEXT COLLATE "C"    NOT NULL,
  body        TEXT COLLATE "C"    NOT NULL,
  tried_at_ms BIGINT NOT NULL,
  PRIMARY KEY (chain_id, block_hash, pair)
);

-- Pairs whose price moved too far, until an operator lets it pass.
CREATE TABLE breakers (
  pair         TEXT COLLATE "C"    PRIMARY KEY,
  reason       TEXT COLLATE "C"    NOT NULL,
  chain_id     BIGINT NOT NULL,
  block_hash   BYTEA    NOT NULL CHECK (length(block_hash) = 32),
  instant_ms     BIGINT NOT NULL,
  price        TEXT COLLATE "C"    NOT NULL,
  opened_at_ms BIGINT NOT NULL
);

-- What people decided, one row an act.
CREATE TABLE operator_acts (
  act_id     BIGINT PRIMARY KEY CHECK (act_id > 0),
  kind       TEXT COLLATE "C"    NOT NULL CHECK (kind IN ('retry', 'accept_market', 'propose_price',
                                              'approve_price', 'resume_breaker',
                                              'veto_price')),
  operator   TEXT COLLATE "C"    NOT NULL CHECK (length(operator) BETWEEN 1 AND 63),
  reason     TEXT COLLATE "C"    NOT NULL CHECK (length(reason) BETWEEN 1 AND 1000),
  deposit_id BYTEA    REFERENCES deposits,
  -- The block that it is about: the deposit's then, or that of the price which moved.
  chain_id   BIGINT NOT NULL,
  block_hash BYTEA    NOT NULL CHECK (length(block_hash) = 32),
  pair             TEXT COLLATE "C",
  price      TEXT COLLATE "C",
  instant_ms BIGINT,
  approves   BIGINT UNIQUE REFERENCES operator_acts,
  -- Why the latch was open, and since when.
  latch      TEXT COLLATE "C",
  at_ms           BIGINT NOT NULL,
  CHECK ((kind IN ('resume_breaker', 'veto_price')) = (deposit_id IS NULL)),
  CHECK ((kind = 'approve_price') = (approves IS NOT NULL)),
  CHECK ((kind IN ('propose_price', 'resume_breaker', 'veto_price')) = (price IS NOT NULL))
);
CREATE INDEX operator_acts_by_deposit ON operator_acts (deposit_id);
CREATE INDEX operator_acts_by_pair ON operator_acts (pair, kind);
CREATE INDEX operator_acts_by_block ON operator_acts (chain_id, block_hash);

-- Each credit of a conversion owes the treasury a purchase of that many tokens.
CREATE TABLE obligations (
  posting_seq      BIGINT PRIMARY KEY REFERENCES postings,
  chain_id         BIGINT NOT NULL,
  asset            TEXT COLLATE "C"    NOT NULL,
  raw_amount       BYTEA    NOT NULL CHECK (length(raw_amount) = 32),
  decimals         BIGINT NOT NULL,
  into_asset       TEXT COLLATE "C"    NOT NULL,
  tokens           BYTEA    NOT NULL CHECK (length(tokens) = 32),
  token_decimals   BIGINT NOT NULL,
  effective_at_ms  BIGINT NOT NULL
);

-- A purchase by the treasury, as the chain shows it.
CREATE TABLE purchases (
  chain_id      BIGINT NOT NULL,
  tx_hash       BYTEA    NOT NULL CHECK (length(tx_hash) = 32),
  block_hash    BYTEA    NOT NULL CHECK (length(block_hash) = 32),
  asset         TEXT COLLATE "C"    NOT NULL,
  paid          BYTEA    NOT NULL CHECK (length(paid) = 32),
  decimals      BIGINT NOT NULL,
  into_asset    TEXT COLLATE "C"    NOT NULL,
  tokens        BYTEA    NOT NULL CHECK (length(tokens) = 32),
  -- JSON: the treasury's address, the block's height, who showed the receipt.
  evidence      TEXT COLLATE "C"    NOT NULL,
  recorded_at_ms BIGINT NOT NULL,
  PRIMARY KEY (chain_id, tx_hash)
);

-- How much of which obligation a purchase settled; one posting each.
CREATE TABLE settlements (
  posting_seq    BIGINT PRIMARY KEY REFERENCES postings,
  obligation_seq BIGINT NOT NULL REFERENCES obligations,
  chain_id       BIGINT NOT NULL,
  tx_hash        BYTEA    NOT NULL CHECK (length(tx_hash) = 32),
  tokens         BYTEA    NOT NULL CHECK (length(tokens) = 32),
  FOREIGN KEY (chain_id, tx_hash) REFERENCES purchases,
  UNIQUE (obligation_seq, chain_id, tx_hash)
);

CREATE TRIGGER market_prices_are_not_updated BEFORE UPDATE ON market_prices
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an accepted price is never updated');
CREATE TRIGGER market_prices_are_not_deleted BEFORE DELETE ON market_prices
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an accepted price is never deleted');
CREATE TRIGGER price_policies_are_not_updated BEFORE UPDATE ON price_policies
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a policy is never updated');
CREATE TRIGGER operator_acts_are_not_updated BEFORE UPDATE ON operator_acts
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an act is never updated');
CREATE TRIGGER operator_acts_are_not_deleted BEFORE DELETE ON operator_acts
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an act is never deleted');
CREATE TRIGGER conversions_are_not_updated BEFORE UPDATE ON conversions
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a conversion is never updated');
CREATE TRIGGER conversions_are_not_deleted BEFORE DELETE ON conversions
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a conversion is never deleted');
CREATE TRIGGER obligations_are_not_updated BEFORE UPDATE ON obligations
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an obligation is never updated');
CREATE TRIGGER obligations_are_not_deleted BEFORE DELETE ON obligations
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an obligation is never deleted');
CREATE TRIGGER purchases_are_not_updated BEFORE UPDATE ON purchases
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a purchase is never updated');
CREATE TRIGGER purchases_are_not_deleted BEFORE DELETE ON purchases
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a purchase is never deleted');
CREATE TRIGGER settlements_are_not_updated BEFORE UPDATE ON settlements
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a settlement is never updated');
CREATE TRIGGER settlements_are_not_deleted BEFORE DELETE ON settlements
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a settlement is never deleted');
CREATE TRIGGER quotes_are_facts BEFORE UPDATE OF quote_id, source, source_hash, chain_id, block_hash,
    at_ms, evidence ON quotes
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an answer is a fact');
-- Only PostgreSQL has TRUNCATE, which deletes without looking at rows.
CREATE TRIGGER market_prices_are_not_truncated BEFORE TRUNCATE ON market_prices
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('an accepted price is never deleted');
CREATE TRIGGER operator_acts_are_not_truncated BEFORE TRUNCATE ON operator_acts
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('an act is never deleted');
