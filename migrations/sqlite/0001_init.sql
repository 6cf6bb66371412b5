-- The whole schema: what this database is, which chains it follows, whose the addresses are, what was
-- seen and where each deposit stands, the prices, the ledger, the treasury, what people did, who is at
-- work, and what somebody should look at. SQLite dialect: STRICT, so that a wrong type is an error and
-- an overflowing integer never becomes a REAL.
--
-- Conventions, shared with the PostgreSQL file of this name: ids and hashes are bytes; times are epoch
-- milliseconds; token amounts are 32 big-endian bytes; credits are nanocredits; enums are TEXT with
-- CHECK; flags are 0 or 1 with CHECK. What is written for ever is guarded by triggers beside its table.


-- ---- The installation ----

-- The network this database belongs to. One row, written once but for the clock of testers.
CREATE TABLE installation (
  only_row      INTEGER PRIMARY KEY CHECK (only_row = 1),
  network       TEXT    NOT NULL CHECK (network IN ('mainnet', 'testnet')),
  -- Drawn when it was created: no two installations have the same. Part of the genesis of each journal.
  installation_id BLOB    NOT NULL CHECK (length(installation_id) = 32),
  created_at_ms INTEGER NOT NULL,
  -- How far testers have moved the clock that all times in this database go by, but for those of leases
  -- and daemons. A hundred years at most; on mainnet time cannot be moved.
  clock_offset_ms INTEGER NOT NULL DEFAULT 0 CHECK (clock_offset_ms BETWEEN 0 AND 3155760000000),
  CHECK (clock_offset_ms = 0 OR network = 'testnet')
) STRICT;
CREATE TRIGGER installation_is_stamped_once
  BEFORE UPDATE OF only_row, network, installation_id, created_at_ms ON installation
  BEGIN SELECT RAISE(ABORT, 'the network of a database never changes'); END;
CREATE TRIGGER clock_never_goes_back BEFORE UPDATE OF clock_offset_ms ON installation
  WHEN NEW.clock_offset_ms < OLD.clock_offset_ms
  BEGIN SELECT RAISE(ABORT, 'the clock of testers never goes back'); END;

-- Which server this database was on when somebody last looked, and the ids that must never be given
-- out again: a server that comes back as it was some seconds ago has lost the rows that had them.
CREATE TABLE database_server (
  only_row           INTEGER PRIMARY KEY CHECK (only_row = 1),
  -- Its system identifier and its timeline; empty where there is no server, or it does not say.
  server             TEXT    NOT NULL,
  since_ms           INTEGER NOT NULL,
  -- The next ids are higher than these.
  address_id         INTEGER NOT NULL CHECK (address_id >= 0),
  namespace_id       INTEGER NOT NULL CHECK (namespace_id >= 0)
) STRICT;


-- ---- Chains ----

-- How far each chain is followed. No row means: never scanned.
CREATE TABLE cursors (
  chain_id      INTEGER PRIMARY KEY,
  block_number  INTEGER NOT NULL,
  block_hash    BLOB    NOT NULL CHECK (length(block_hash) = 32),
  start_number  INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL,
  -- When a payment went on last: a chain on which none does is a finding.
  went_on_at_ms INTEGER,
  -- The hash of the rules by which deposits were found not to be due.
  due_rules     BLOB    CHECK (length(due_rules) = 32),
  -- Whether issuers have frozen our addresses is asked of a few addresses at a time, in turn. The
  -- address_id that was asked about last, 0 at the beginning of a round; and when that was.
  frozen_to     INTEGER NOT NULL DEFAULT 0,
  frozen_at_ms  INTEGER NOT NULL DEFAULT 0,
  -- The newest address that the step knew which moved the cursor last. For all addresses up to it, nothing
  -- that the steps scanned without them is left to be asked for.
  known_address_id INTEGER NOT NULL DEFAULT 0 CHECK (known_address_id >= 0)
) STRICT;

-- Where each chain stood when addresses were registered, as whoever registered them saw it. Steps that were
-- under way then did not know them: what those scan above (or, after a fork, again) is read once more, for
-- these addresses only. Written by registering alone; a row goes once the chain knows its addresses.
CREATE TABLE book_marks (
  chain_id      INTEGER NOT NULL,
  -- The cursor, and the newest scan record.
  block_number  INTEGER NOT NULL,
  scan_id       INTEGER NOT NULL,
  -- The addresses with these ids and those between.
  first_id      INTEGER NOT NULL,
  last_id       INTEGER NOT NULL,
  PRIMARY KEY (chain_id, block_number, scan_id),
  CHECK (first_id <= last_id)
) STRICT, WITHOUT ROWID;

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
-- By height first: a planner without statistics takes an index that begins with the chain for a way to
-- find one block by its hash.
CREATE INDEX blocks_by_number ON blocks (block_number, chain_id);
CREATE UNIQUE INDEX one_canonical_block_per_height
  ON blocks (chain_id, block_number) WHERE canonical = 1;

-- Who looked where, and what was seen. Records of one provider that continue each other are one row.
-- A record whose to_hash was orphaned later stays; the next one starts at the fork.
CREATE TABLE scans (
  scan_id          INTEGER PRIMARY KEY,
  chain_id         INTEGER NOT NULL,
  from_number      INTEGER NOT NULL,
  from_hash        BLOB    NOT NULL CHECK (length(from_hash) = 32),
  to_number        INTEGER NOT NULL,
  to_hash          BLOB    NOT NULL CHECK (length(to_hash) = 32),
  method           TEXT    NOT NULL CHECK (method IN ('by_hash', 'by_range')),
  provider         TEXT    NOT NULL,
  logs_seen        INTEGER NOT NULL CHECK (logs_seen >= 0),
  logs_matched     INTEGER NOT NULL CHECK (logs_matched BETWEEN 0 AND logs_seen),
  started_at_ms    INTEGER NOT NULL,
  ended_at_ms      INTEGER NOT NULL,
  -- The part of a record whose blocks are still canonical ends here, below its start when nothing of
  -- it is. The parts of all records of a chain lie side by side, from its first block to its cursor.
  valid_to         INTEGER NOT NULL DEFAULT -1,
  -- Which logs were asked for.
  filter           TEXT    CHECK (filter IN ('tokens', 'recipients')),
  -- The second pass over the record: how far (NULL while it has not begun), by whom, how many logs it
  -- saw, and how many transfers to us it added.
  rechecked_to     INTEGER,
  recheck_provider TEXT,
  recheck_logs     INTEGER NOT NULL DEFAULT 0,
  recheck_added    INTEGER NOT NULL DEFAULT 0,
  CHECK (from_number <= to_number)
) STRICT;
CREATE INDEX scans_by_chain ON scans (chain_id, scan_id);
CREATE INDEX scans_by_height ON scans (chain_id, from_number);
CREATE INDEX scans_not_rechecked ON scans (chain_id, from_number)
  WHERE COALESCE(rechecked_to, -1) < valid_to;

-- Old blocks to be read again, both ends inclusive: for an address or a token that was registered
-- after they had been scanned, or because an operator wants it.
CREATE TABLE backfills (
  chain_id        INTEGER NOT NULL,
  kind            TEXT    NOT NULL CHECK (kind IN ('address', 'newer', 'token', 'rescan')),
  -- The address or token; empty for a rescan.
  subject         BLOB    NOT NULL CHECK (length(subject) IN (0, 20)),
  from_number     INTEGER NOT NULL,
  to_number       INTEGER NOT NULL,
  -- The first block not read yet.
  next_number     INTEGER NOT NULL,
  logs_seen       INTEGER NOT NULL DEFAULT 0,
  found           INTEGER NOT NULL DEFAULT 0,
  requested_at_ms INTEGER NOT NULL,
  finished_at_ms  INTEGER,
  -- Addresses that were imported together, from a file, have one backfill a chain: its subject is the
  -- first one, and these are the ids of the first and the last. NULL for any other.
  first_id        INTEGER,
  last_id         INTEGER,
  PRIMARY KEY (chain_id, kind, subject, from_number, to_number),
  CHECK (from_number <= to_number),
  CHECK ((kind = 'rescan') = (length(subject) = 0)),
  CHECK ((finished_at_ms IS NOT NULL) = (next_number > to_number)),
  CHECK (last_id IS NULL OR (kind IN ('address', 'newer') AND last_id >= first_id)),
  CHECK (kind <> 'newer' OR last_id IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX backfills_of_many ON backfills (chain_id, last_id) WHERE last_id IS NOT NULL;

-- The tokens that the scan of a chain asks for, and their code when it was last looked at.
CREATE TABLE chain_tokens (
  chain_id       INTEGER NOT NULL,
  token          BLOB    NOT NULL CHECK (length(token) = 20),
  since_ms       INTEGER NOT NULL,
  code_hash      BLOB    CHECK (length(code_hash) = 32),
  -- The contract behind a proxy; zero where there is none.
  implementation BLOB    CHECK (length(implementation) = 20),
  checked_at_ms  INTEGER,
  PRIMARY KEY (chain_id, token)
) STRICT, WITHOUT ROWID;

-- How the providers of a chain stand, by the daemon that follows it. Only for people: nothing is
-- decided by it.
CREATE TABLE providers (
  chain_id         INTEGER NOT NULL,
  provider         TEXT    NOT NULL,
  -- 'ok', or why it is not asked first.
  state            TEXT    NOT NULL,
  head_number      INTEGER,
  latency_ms       INTEGER NOT NULL,
  failures         INTEGER NOT NULL,
  updated_at_ms    INTEGER NOT NULL,
  -- The heights of these tags, as it told them last.
  safe_number      INTEGER,
  finalized_number INTEGER,
  PRIMARY KEY (chain_id, provider)
) STRICT, WITHOUT ROWID;

-- A chain that stands still until somebody decides.
CREATE TABLE halts (
  chain_id     INTEGER PRIMARY KEY,
  reason       TEXT    NOT NULL CHECK (reason IN ('too_deep')),
  -- The oldest block that was kept, and what the provider says the chain's tip is.
  floor_number INTEGER NOT NULL,
  provider     TEXT    NOT NULL,
  found_number INTEGER NOT NULL,
  found_hash   BLOB    NOT NULL CHECK (length(found_hash) = 32),
  halted_at_ms INTEGER NOT NULL
) STRICT;


-- ---- Registers: whose the addresses are ----

-- The owners of balances.
CREATE TABLE namespaces (
  namespace_id  INTEGER PRIMARY KEY,
  name          TEXT    NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 63),
  created_at_ms INTEGER NOT NULL
) STRICT;

-- One account key whose children are handed out in order. An index is never used twice; after a
-- failover, some are left out.
CREATE TABLE wallets (
  wallet_id    INTEGER PRIMARY KEY,
  account_xpub TEXT    NOT NULL UNIQUE,
  next_index   INTEGER NOT NULL CHECK (next_index BETWEEN 0 AND 2147483648)
) STRICT;

-- Bound to one namespace for ever: no update, no delete.
CREATE TABLE addresses (
  address_id       INTEGER PRIMARY KEY CHECK (address_id BETWEEN 1 AND 4294967295),
  address          BLOB    NOT NULL UNIQUE CHECK (length(address) = 20),
  namespace_id     INTEGER NOT NULL REFERENCES namespaces,
  origin           TEXT    NOT NULL CHECK (origin IN ('derived', 'imported')),
  wallet_id        INTEGER REFERENCES wallets,
  derivation_index INTEGER,
  -- The record of the namespace's journal that bound it.
  record_seq       INTEGER NOT NULL CHECK (record_seq > 0),
  created_at_ms    INTEGER NOT NULL,
  UNIQUE (wallet_id, derivation_index),
  CHECK ((origin = 'derived') = (wallet_id IS NOT NULL)),
  CHECK ((origin = 'derived') = (derivation_index IS NOT NULL))
) STRICT;
CREATE INDEX addresses_by_namespace ON addresses (namespace_id, record_seq, address_id);
CREATE TRIGGER addresses_are_not_updated BEFORE UPDATE ON addresses
  BEGIN SELECT RAISE(ABORT, 'an address is bound to its namespace for ever'); END;
CREATE TRIGGER addresses_are_not_deleted BEFORE DELETE ON addresses
  BEGIN SELECT RAISE(ABORT, 'an address is bound to its namespace for ever'); END;


-- ---- Deposits ----

-- Payments to our addresses, one row each, in whatever block they stand now.
CREATE TABLE deposits (
  deposit_id       BLOB    PRIMARY KEY CHECK (length(deposit_id) = 32),
  chain_id         INTEGER NOT NULL,
  tx_hash          BLOB    NOT NULL CHECK (length(tx_hash) = 32),
  token            BLOB    NOT NULL CHECK (length(token) = 20),
  recipient        BLOB    NOT NULL CHECK (length(recipient) = 20),
  shape            TEXT    NOT NULL CHECK (shape IN ('transfer', 'malformed')),
  -- Which one of those of its transaction with the same token, recipient and shape.
  n                INTEGER NOT NULL CHECK (n >= 0),
  address_id       INTEGER NOT NULL REFERENCES addresses,
  namespace_id     INTEGER NOT NULL REFERENCES namespaces,
  -- The sighting it stands on, or stood on last when orphaned.
  block_hash       BLOB    NOT NULL CHECK (length(block_hash) = 32),
  block_number     INTEGER NOT NULL,
  log_index        INTEGER NOT NULL,
  raw_amount       BLOB    NOT NULL CHECK (length(raw_amount) = 32),
  -- 'reversed': its credit was undone by another record.
  stage            TEXT    NOT NULL CHECK (stage IN ('pending', 'confirmed', 'priced', 'credited',
                                                     'orphaned', 'held', 'ignored', 'reversed')),
  reason           TEXT,
  -- The record of its namespace's journal that credited it, or the one that undid the credit.
  record_seq       INTEGER,
  first_seen_at_ms INTEGER NOT NULL,
  -- When it was last looked at.
  updated_at_ms    INTEGER NOT NULL,
  -- When it is to be looked at while it is pending: 'new' where nobody has yet, else at a height of the
  -- chain as it is followed ('depth'), or when a tag has reached its block.
  due_by           TEXT    NOT NULL DEFAULT 'new' CHECK (due_by IN ('new', 'depth', 'safe', 'finalized')),
  due_number       INTEGER NOT NULL DEFAULT 0,
  -- Since when it stands in this stage for this reason; NULL before the first change.
  since_ms         INTEGER,
  UNIQUE (chain_id, tx_hash, token, recipient, shape, n),
  CHECK ((stage IN ('held', 'ignored')) = (reason IS NOT NULL)),
  CHECK ((stage IN ('credited', 'reversed')) = (record_seq IS NOT NULL))
) STRICT;
-- The settle task's question: pages of open deposits are read in exactly this order, from where the
-- last one ended, each reason by itself: the many on hold for one of them are not read for another.
-- Everything finished is outside of the index.
CREATE INDEX deposits_open ON deposits (chain_id, stage, reason, block_number, deposit_id)
  WHERE stage IN ('pending', 'confirmed', 'priced', 'held');
CREATE INDEX deposits_due ON deposits (chain_id, due_by, due_number, deposit_id)
  WHERE stage = 'pending';
-- What a namespace has under way in one token, in the order of the chain: for dust.
CREATE INDEX deposits_under_way
  ON deposits (chain_id, namespace_id, token, block_number, log_index)
  WHERE stage IN ('pending', 'confirmed', 'priced', 'held');
-- What may have come between what is counted.
CREATE INDEX deposits_fresh ON deposits (chain_id, namespace_id, token, block_number, log_index)
  WHERE stage IN ('pending', 'confirmed');
CREATE INDEX deposits_by_namespace ON deposits (namespace_id, first_seen_at_ms);
CREATE INDEX deposits_by_block ON deposits (chain_id, block_hash);
-- Which addresses were ever paid on a chain: the next one is found without reading all that it was paid.
CREATE INDEX deposits_by_address ON deposits (chain_id, address_id);

-- A log in a block, as a provider showed it: facts. What one provider shows is its word until a second
-- one says the same: two may overrule it, and what it had said is kept as a finding. Once a credit
-- rests on it, it stays; only the derived deposit_id and the time may change then.
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
  -- Who showed the log.
  provider     TEXT,
  PRIMARY KEY (chain_id, block_hash, log_index),
  FOREIGN KEY (chain_id, block_hash) REFERENCES blocks,
  CHECK ((malformed IS NULL) = (sender IS NOT NULL)),
  CHECK ((malformed IS NULL) = (raw_amount IS NOT NULL)),
  CHECK ((malformed IS NOT NULL) = (topics IS NOT NULL)),
  CHECK ((malformed IS NOT NULL) = (data IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX sightings_by_deposit ON sightings (deposit_id);
CREATE TRIGGER sightings_are_facts BEFORE UPDATE OF chain_id, block_hash, log_index, block_number,
    tx_hash, token, recipient, sender, raw_amount, malformed, topics, data, provider ON sightings
  WHEN OLD.chain_id <> NEW.chain_id OR OLD.block_hash <> NEW.block_hash
    OR OLD.log_index <> NEW.log_index
    OR EXISTS (SELECT 1 FROM credits k WHERE k.deposit_id = OLD.deposit_id
                AND k.block_hash = OLD.block_hash AND k.log_index = OLD.log_index)
  BEGIN SELECT RAISE(ABORT, 'a sighting is a fact'); END;
CREATE TRIGGER sightings_are_not_deleted BEFORE DELETE ON sightings
  BEGIN SELECT RAISE(ABORT, 'a sighting is a fact'); END;

-- How much of the worthless was recorded per address and UTC day, and how much was only counted.
CREATE TABLE unlisted_quota (
  address_id INTEGER NOT NULL REFERENCES addresses,
  day        INTEGER NOT NULL,
  recorded   INTEGER NOT NULL CHECK (recorded >= 0),
  dropped    INTEGER NOT NULL CHECK (dropped >= 0),
  PRIMARY KEY (address_id, day)
) STRICT, WITHOUT ROWID;

-- The dust of a namespace in one token, added up in the order of the chain. One row is open: it says
-- up to which place everything is counted. The others have reached the minimum and are not credited
-- yet. Derived from the deposits: a row that may be wrong is emptied, and counted anew.
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
  rules         BLOB    CHECK (length(rules) = 32),
  PRIMARY KEY (chain_id, namespace_id, token, from_number, from_index, state)
) STRICT, WITHOUT ROWID;

-- What made a deposit Confirmed, one row for each time that it could be credited: it may be credited
-- more than once in the same block, undone because the chain left the block, and credited again because
-- it came back. Each credit keeps the confirmation that it rests on.
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
  -- Who showed the log, and how the receipt was checked.
  log_provider      TEXT,
  verify            TEXT    CHECK (verify IN ('second-provider', 'receipts-root', 'same-provider')),
  -- How many credits of the deposit had been undone by then.
  reversals         INTEGER NOT NULL CHECK (reversals >= 0),
  PRIMARY KEY (deposit_id, block_hash, log_index, reversals)
) STRICT, WITHOUT ROWID;

-- What proves a receipt that payments were confirmed by (verify = receipts-root): a pruned node cannot
-- give it later, and with it a credit is proved without any node. Written with the confirmation.
CREATE TABLE receipt_proofs (
  chain_id      INTEGER NOT NULL,
  block_hash    BLOB    NOT NULL CHECK (length(block_hash) = 32),
  tx_hash       BLOB    NOT NULL CHECK (length(tx_hash) = 32),
  -- The block's header, as it is hashed: keccak-256 of it is block_hash.
  header        BLOB    NOT NULL,
  -- The receipt's place in its block: its key in the trie of receipts.
  receipt_index INTEGER NOT NULL CHECK (receipt_index >= 0),
  -- The receipt, as it stands in that trie.
  receipt       BLOB    NOT NULL,
  -- From the header's receipts root to the receipt: an RLP list of the trie's nodes.
  nodes         BLOB    NOT NULL,
  PRIMARY KEY (chain_id, block_hash, tx_hash),
  FOREIGN KEY (chain_id, block_hash) REFERENCES blocks
) STRICT;
CREATE TRIGGER receipt_proofs_are_facts BEFORE UPDATE ON receipt_proofs
  BEGIN SELECT RAISE(ABORT, 'a proof is a fact'); END;
CREATE TRIGGER receipt_proofs_are_not_deleted BEFORE DELETE ON receipt_proofs
  BEGIN SELECT RAISE(ABORT, 'a proof is a fact'); END;

-- How often what was recorded of a deposit was changed because providers said otherwise, until it is
-- confirmed. What is read anew again and again is held.
CREATE TABLE rereads (
  deposit_id BLOB    PRIMARY KEY REFERENCES deposits,
  times      INTEGER NOT NULL CHECK (times > 0)
) STRICT, WITHOUT ROWID;

-- What payments that are deep enough wait for, as only the settle task knows it.
CREATE TABLE waits (
  deposit_id    BLOB    PRIMARY KEY REFERENCES deposits,
  chain_id      INTEGER NOT NULL,
  code          TEXT    NOT NULL CHECK (code IN ('witness', 'receipt', 'proof', 'screening')),
  -- The failure that was met, if one was.
  why           TEXT    NOT NULL,
  -- Since when it waits for anything, and since when for what it waits for now.
  since_ms      INTEGER NOT NULL,
  code_since_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX waits_by_chain ON waits (chain_id);

-- Who was asked about a payment before it is credited, and what the answer was: facts about a payment
-- in one block and its sender there. One that could not be had for too long is one, too: the answer may
-- follow. Whoever is asked once more may say the same again: each answer has its time.
CREATE TABLE screenings (
  deposit_id BLOB    NOT NULL REFERENCES deposits,
  block_hash BLOB    NOT NULL CHECK (length(block_hash) = 32),
  sender     BLOB    NOT NULL CHECK (length(sender) = 20),
  -- Which check.
  asked      TEXT    NOT NULL CHECK (asked IN ('list', 'http')),
  outcome    TEXT    NOT NULL CHECK (outcome IN ('clear', 'hit', 'no_answer')),
  -- What was asked, and how the answer is read: the hash of the list, or the URL and where to look. It
  -- tells one list, or one service, from the one that was configured before it.
  question   TEXT    NOT NULL,
  -- As it came; of a list, the address that is on it; without an answer, why there is none.
  answer     TEXT    NOT NULL,
  at_ms      INTEGER NOT NULL,
  PRIMARY KEY (deposit_id, block_hash, sender, asked, outcome, question, at_ms)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER screenings_are_not_updated BEFORE UPDATE ON screenings
  BEGIN SELECT RAISE(ABORT, 'an answer about a payment is never updated'); END;
CREATE TRIGGER screenings_are_not_deleted BEFORE DELETE ON screenings
  BEGIN SELECT RAISE(ABORT, 'an answer about a payment is never deleted'); END;


-- ---- Prices ----

-- The rules that hold from an instant on, as they were configured. Only added to.
CREATE TABLE epochs (
  epoch_id       TEXT    PRIMARY KEY,
  starts_at_ms   INTEGER NOT NULL UNIQUE,
  body           TEXT    NOT NULL,
  body_hash      BLOB    NOT NULL CHECK (length(body_hash) = 32),
  recorded_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER epochs_are_not_updated BEFORE UPDATE ON epochs
  BEGIN SELECT RAISE(ABORT, 'an epoch is never updated'); END;

-- The texts that market prices were decided by.
CREATE TABLE price_policies (
  policy_hash    BLOB    PRIMARY KEY CHECK (length(policy_hash) = 32),
  pair           TEXT    NOT NULL,
  body           TEXT    NOT NULL,
  recorded_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER price_policies_are_not_updated BEFORE UPDATE ON price_policies
  BEGIN SELECT RAISE(ABORT, 'a policy is never updated'); END;

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
CREATE TRIGGER quotes_are_facts BEFORE UPDATE OF quote_id, source, source_hash, chain_id, block_hash,
    at_ms, evidence ON quotes
  BEGIN SELECT RAISE(ABORT, 'an answer is a fact'); END;

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
  chain_id        INTEGER NOT NULL,
  block_hash      BLOB    NOT NULL CHECK (length(block_hash) = 32),
  source_hash     BLOB    NOT NULL CHECK (length(source_hash) = 32),
  tries           INTEGER NOT NULL CHECK (tries >= 0),
  -- What is wrong, while it is not done.
  why             TEXT,
  first_try_at_ms INTEGER NOT NULL,
  next_try_at_ms  INTEGER NOT NULL,
  done_at_ms      INTEGER,
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
  -- Two people said it, not the market.
  manual         INTEGER NOT NULL CHECK (manual IN (0, 1)),
  body           TEXT    NOT NULL,
  accepted_at_ms INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_price_of_a_pair_per_block ON market_prices (pair, chain_id, block_hash)
  WHERE manual = 0;
CREATE INDEX market_prices_by_instant ON market_prices (pair, instant_ms);
CREATE TRIGGER market_prices_are_not_updated BEFORE UPDATE ON market_prices
  BEGIN SELECT RAISE(ABORT, 'an accepted price is never updated'); END;
CREATE TRIGGER market_prices_are_not_deleted BEFORE DELETE ON market_prices
  BEGIN SELECT RAISE(ABORT, 'an accepted price is never deleted'); END;

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
  instant_ms   INTEGER NOT NULL,
  price        TEXT    NOT NULL,
  opened_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The price that was fixed for a deposit, one row a sighting; written before it is used.
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

-- The arithmetic of a price that rests on the market, one row for such a row of prices.
CREATE TABLE conversions (
  deposit_id BLOB    NOT NULL REFERENCES deposits,
  block_hash BLOB    NOT NULL CHECK (length(block_hash) = 32),
  log_index  INTEGER NOT NULL,
  -- JSON; the same text stands in the cause of the credit.
  body       TEXT    NOT NULL,
  PRIMARY KEY (deposit_id, block_hash, log_index)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER conversions_are_not_updated BEFORE UPDATE ON conversions
  BEGIN SELECT RAISE(ABORT, 'a conversion is never updated'); END;
CREATE TRIGGER conversions_are_not_deleted BEFORE DELETE ON conversions
  BEGIN SELECT RAISE(ABORT, 'a conversion is never deleted'); END;


-- ---- The ledger ----

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
CREATE TRIGGER journals_are_bound_for_ever BEFORE UPDATE OF journal_id, kind, genesis, salt ON journals
  BEGIN SELECT RAISE(ABORT, 'a journal begins where it began'); END;
CREATE TRIGGER journals_do_not_go_back BEFORE UPDATE OF seq ON journals WHEN NEW.seq < OLD.seq
  BEGIN SELECT RAISE(ABORT, 'a journal only grows'); END;
CREATE TRIGGER journals_are_not_deleted BEFORE DELETE ON journals WHEN OLD.seq > 0
  BEGIN SELECT RAISE(ABORT, 'a journal is never deleted'); END;

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
CREATE TRIGGER records_are_not_updated BEFORE UPDATE ON records
  BEGIN SELECT RAISE(ABORT, 'a record is never updated'); END;
CREATE TRIGGER records_are_not_deleted BEFORE DELETE ON records
  BEGIN SELECT RAISE(ABORT, 'a record is never deleted'); END;

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
CREATE TRIGGER entries_are_not_updated BEFORE UPDATE ON entries
  BEGIN SELECT RAISE(ABORT, 'an entry is never updated'); END;
CREATE TRIGGER entries_are_not_deleted BEFORE DELETE ON entries
  BEGIN SELECT RAISE(ABORT, 'an entry is never deleted'); END;

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
CREATE TRIGGER lots_stay_as_they_began BEFORE UPDATE OF journal_id, lot_seq, kind, priority, scope, amount_nano,
    effective_at_ms, expires_at_ms, consideration_asset, consideration_raw, consideration_decimals,
    consideration_usd_nano ON lots
  BEGIN SELECT RAISE(ABORT, 'of a lot, only what remains of it changes'); END;
CREATE TRIGGER lots_are_not_deleted BEFORE DELETE ON lots
  BEGIN SELECT RAISE(ABORT, 'a lot is never deleted'); END;

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
CREATE TRIGGER lot_moves_are_not_updated BEFORE UPDATE ON lot_moves
  BEGIN SELECT RAISE(ABORT, 'a move is never updated'); END;
CREATE TRIGGER lot_moves_are_not_deleted BEFORE DELETE ON lot_moves
  BEGIN SELECT RAISE(ABORT, 'a move is never deleted'); END;

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
CREATE TRIGGER credits_stay_as_they_were BEFORE UPDATE OF journal_id, seq, deposit_id, block_hash, log_index ON credits
  BEGIN SELECT RAISE(ABORT, 'of a credit, only what undid it is added'); END;
CREATE TRIGGER credits_are_undone_once BEFORE UPDATE OF reversed_by ON credits WHEN OLD.reversed_by IS NOT NULL
  BEGIN SELECT RAISE(ABORT, 'a credit is undone once'); END;
CREATE TRIGGER credits_are_not_deleted BEFORE DELETE ON credits
  BEGIN SELECT RAISE(ABORT, 'a credit is never deleted'); END;

-- Credits whose block is canonical no more, until they are reversed or the block is back.
CREATE TABLE unfounded (
  journal_id     INTEGER NOT NULL,
  seq            INTEGER NOT NULL,
  chain_id       INTEGER NOT NULL,
  orphaned_at_ms INTEGER NOT NULL,
  PRIMARY KEY (journal_id, seq)
) STRICT, WITHOUT ROWID;


-- ---- The treasury ----

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
CREATE TRIGGER obligations_stay_as_they_began BEFORE UPDATE OF journal_id, seq, chain_id, asset, raw_amount, decimals,
    into_asset, tokens, token_decimals, usd_nano, effective_at_ms, carried_tokens, carried_usd_nano ON obligations
  BEGIN SELECT RAISE(ABORT, 'of an obligation, only what is settled of it changes'); END;
CREATE TRIGGER obligations_are_not_deleted BEFORE DELETE ON obligations
  BEGIN SELECT RAISE(ABORT, 'an obligation is never deleted'); END;

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
CREATE TRIGGER purchases_are_not_updated BEFORE UPDATE ON purchases
  BEGIN SELECT RAISE(ABORT, 'a purchase is never updated'); END;
CREATE TRIGGER purchases_are_not_deleted BEFORE DELETE ON purchases
  BEGIN SELECT RAISE(ABORT, 'a purchase is never deleted'); END;

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
CREATE TRIGGER settlements_are_not_updated BEFORE UPDATE ON settlements
  BEGIN SELECT RAISE(ABORT, 'a settlement is never updated'); END;
CREATE TRIGGER settlements_are_not_deleted BEFORE DELETE ON settlements
  BEGIN SELECT RAISE(ABORT, 'a settlement is never deleted'); END;


-- ---- The log, and the feed of events ----

-- Records that have no leaf in the log yet. The sequencer takes them away; nobody relies on the order of `position`.
CREATE TABLE unlogged (
  position   INTEGER PRIMARY KEY,
  journal_id INTEGER NOT NULL,
  seq        INTEGER NOT NULL
) STRICT;

-- Which record each leaf of the log is; the leaf's entry is the record's seal.
CREATE TABLE log_leaves (
  leaf_index INTEGER PRIMARY KEY CHECK (leaf_index >= 0),
  journal_id INTEGER NOT NULL,
  seq        INTEGER NOT NULL,
  UNIQUE (journal_id, seq)
) STRICT;
CREATE TRIGGER log_leaves_are_not_updated BEFORE UPDATE ON log_leaves
  BEGIN SELECT RAISE(ABORT, 'a leaf is never updated'); END;
CREATE TRIGGER log_leaves_are_not_deleted BEFORE DELETE ON log_leaves
  BEGIN SELECT RAISE(ABORT, 'a leaf is never deleted'); END;

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
  -- The key that signs it, as the house's records register it; NULL while it has none.
  public_key  TEXT,
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


-- ---- Acts, and what they are about ----

-- What people decided, one row an act. Two people release a deposit or set a price by hand: one
-- proposes, another one approves.
CREATE TABLE operator_acts (
  act_id        INTEGER PRIMARY KEY CHECK (act_id > 0),
  kind          TEXT    NOT NULL CHECK (kind IN ('retry', 'accept_market', 'propose_price',
                                                 'approve_price', 'resume_breaker', 'veto_price',
                                                 'propose_release', 'approve_release',
                                                 'propose_correction', 'approve_correction',
                                                 'accept_outflows', 'withdraw')),
  operator      TEXT    NOT NULL CHECK (length(operator) BETWEEN 1 AND 63),
  reason        TEXT    NOT NULL CHECK (length(reason) BETWEEN 1 AND 1000),
  deposit_id    BLOB    REFERENCES deposits,
  -- The block that it is about: the deposit's then, or that of the price which moved.
  chain_id      INTEGER NOT NULL,
  block_hash    BLOB    NOT NULL CHECK (length(block_hash) = 32),
  pair          TEXT,
  -- The price that is proposed, let pass or refused, or accepted below its floor.
  price         TEXT,
  instant_ms    INTEGER,
  -- The proposal that it approves.
  approves      INTEGER UNIQUE REFERENCES operator_acts,
  -- Why the latch was open, and since when.
  latch         TEXT,
  at_ms         INTEGER NOT NULL,
  -- The hash of the act that it approves, as the operator named it.
  approved_hash BLOB    CHECK (length(approved_hash) = 32),
  -- The proposal that it withdraws.
  withdraws     INTEGER UNIQUE REFERENCES operator_acts,
  -- What a correction undoes and gives instead, of a proposal of one.
  correction    TEXT,
  CHECK ((kind IN ('resume_breaker', 'veto_price')) = (deposit_id IS NULL)),
  CHECK ((kind IN ('approve_price', 'approve_release', 'approve_correction')) = (approves IS NOT NULL)),
  CHECK (kind IN ('accept_market', 'propose_correction')
         OR (kind IN ('propose_price', 'resume_breaker', 'veto_price')) = (price IS NOT NULL)),
  CHECK (approved_hash IS NULL OR approves IS NOT NULL),
  CHECK ((kind = 'withdraw') = (withdraws IS NOT NULL)),
  CHECK ((kind = 'propose_correction') = (correction IS NOT NULL))
) STRICT;
CREATE INDEX operator_acts_by_deposit ON operator_acts (deposit_id);
CREATE INDEX operator_acts_by_pair ON operator_acts (pair, kind);
CREATE INDEX operator_acts_by_block ON operator_acts (chain_id, block_hash);
CREATE TRIGGER operator_acts_are_not_updated BEFORE UPDATE ON operator_acts
  BEGIN SELECT RAISE(ABORT, 'an act is never updated'); END;
CREATE TRIGGER operator_acts_are_not_deleted BEFORE DELETE ON operator_acts
  BEGIN SELECT RAISE(ABORT, 'an act is never deleted'); END;

-- Transfers of listed tokens from our addresses, to whomever. Facts of a block, as sightings are. One is
-- one provider's word until another one shows it too, or receipts that hash to the block's hash do: a
-- lie must not hold anybody's money. A transfer is known by what it says, not by its place: nodes number
-- logs in their own ways, and a lie at its place must not hide it.
CREATE TABLE outgoing (
  chain_id        INTEGER NOT NULL,
  block_hash      BLOB    NOT NULL CHECK (length(block_hash) = 32),
  tx_hash         BLOB    NOT NULL CHECK (length(tx_hash) = 32),
  token           BLOB    NOT NULL CHECK (length(token) = 20),
  address_id      INTEGER NOT NULL REFERENCES addresses,
  recipient       BLOB    NOT NULL CHECK (length(recipient) = 20),
  raw_amount      BLOB    NOT NULL CHECK (length(raw_amount) = 32),
  -- Which one of those of its transaction that say the same.
  n               INTEGER NOT NULL CHECK (n >= 0),
  -- As it was shown first.
  log_index       INTEGER NOT NULL CHECK (log_index >= 0),
  block_number    INTEGER NOT NULL,
  provider        TEXT    NOT NULL,
  seen_at_ms      INTEGER NOT NULL,
  -- Who else shows it. NULL while nobody was asked.
  checked         TEXT    CHECK (checked IN ('shown', 'disputed', 'refuted')),
  second_provider TEXT,
  -- The act of the operator who had it before the eyes.
  accepted_by     INTEGER REFERENCES operator_acts,
  PRIMARY KEY (chain_id, block_hash, tx_hash, token, address_id, recipient, raw_amount, n),
  FOREIGN KEY (chain_id, block_hash) REFERENCES blocks
) STRICT, WITHOUT ROWID;
CREATE INDEX outgoing_by_address ON outgoing (chain_id, address_id, block_number);
-- Its block's height may have been told wrongly.
CREATE TRIGGER outgoing_are_facts BEFORE UPDATE OF chain_id, block_hash, tx_hash, token, address_id,
    recipient, raw_amount, n, log_index, provider, seen_at_ms ON outgoing
  BEGIN SELECT RAISE(ABORT, 'an outgoing transfer is a fact'); END;
CREATE TRIGGER outgoing_are_not_deleted BEFORE DELETE ON outgoing
  BEGIN SELECT RAISE(ABORT, 'an outgoing transfer is a fact'); END;


-- ---- Leases: who is at work ----

-- Who does what, when there are several daemons: one row for each task that only one of them may do
-- at a time. Every commit of the task takes its row first and compares the token, so that a holder
-- that slept through its lease can write nothing. Times are those of the database's clock.
CREATE TABLE leases (
  task           TEXT    PRIMARY KEY,
  holder         TEXT    NOT NULL,
  -- Grows by one whenever the holder changes.
  token          INTEGER NOT NULL CHECK (token > 0),
  acquired_at_ms INTEGER NOT NULL,
  expires_at_ms  INTEGER NOT NULL,
  -- How long it lasts from when it was renewed: one that lasts longer was written before the clock was
  -- set back.
  duration_ms    INTEGER NOT NULL DEFAULT 0 CHECK (duration_ms >= 0)
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


-- ---- Findings ----

-- What somebody should look at. Each has an id that people name it by, and may be about no chain. What
-- opened it closes it: 'gone'. A person closes it with a reason: 'explained'. One that comes back after
-- it was gone is a new row.
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
