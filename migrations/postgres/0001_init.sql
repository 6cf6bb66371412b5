-- The whole schema: what this database is, which chains it follows, whose the addresses are, what was
-- seen and where each deposit stands, the prices, the ledger, the treasury, what people did, who is at
-- work, and what somebody should look at. PostgreSQL dialect of the SQLite file of this name; a test
-- compares the two, column by column and check by check.
--
-- Conventions: ids and hashes are bytes; times are epoch milliseconds; token amounts are 32 big-endian
-- bytes; credits are nanocredits; enums are TEXT with CHECK; flags are 0 or 1 with CHECK. What is
-- written for ever is guarded by triggers beside its table.
-- Texts compare as bytes (COLLATE "C"), as SQLite does: the order never depends on the server's locale,
-- nor does an index break when the C library is upgraded.

-- What the triggers call: what is written stays written, whoever asks. Some guard against TRUNCATE too,
-- which deletes without looking at rows, and which only PostgreSQL has.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '%', TG_ARGV[0];
END $$;


-- ---- The installation ----

-- The network this database belongs to. One row, written once but for the clock of testers.
CREATE TABLE installation (
  only_row      BIGINT  PRIMARY KEY CHECK (only_row = 1),
  network       TEXT COLLATE "C" NOT NULL CHECK (network IN ('mainnet', 'testnet')),
  -- Drawn when it was created: no two installations have the same. Part of the genesis of each journal.
  installation_id BYTEA   NOT NULL CHECK (length(installation_id) = 32),
  created_at_ms BIGINT  NOT NULL,
  -- How far testers have moved the clock that all times in this database go by, but for those of leases
  -- and daemons. A hundred years at most; on mainnet time cannot be moved.
  clock_offset_ms BIGINT NOT NULL DEFAULT 0 CHECK (clock_offset_ms BETWEEN 0 AND 3155760000000),
  CHECK (clock_offset_ms = 0 OR network = 'testnet')
);
CREATE TRIGGER installation_is_stamped_once
  BEFORE UPDATE OF only_row, network, installation_id, created_at_ms ON installation
  FOR EACH ROW EXECUTE FUNCTION refuse_change('the network of a database never changes');
CREATE TRIGGER clock_never_goes_back BEFORE UPDATE OF clock_offset_ms ON installation
  FOR EACH ROW WHEN (NEW.clock_offset_ms < OLD.clock_offset_ms)
  EXECUTE FUNCTION refuse_change('the clock of testers never goes back');

-- Which server this database was on when somebody last looked, and the ids that must never be given
-- out again: a server that comes back as it was some seconds ago has lost the rows that had them.
CREATE TABLE database_server (
  only_row           BIGINT  PRIMARY KEY CHECK (only_row = 1),
  -- Its system identifier and its timeline; empty where there is no server, or it does not say.
  server             TEXT COLLATE "C" NOT NULL,
  since_ms           BIGINT  NOT NULL,
  -- The next ids are higher than these.
  address_id         BIGINT  NOT NULL CHECK (address_id >= 0),
  namespace_id       BIGINT  NOT NULL CHECK (namespace_id >= 0)
);


-- ---- Chains ----

-- How far each chain is followed. No row means: never scanned.
CREATE TABLE cursors (
  chain_id      BIGINT  PRIMARY KEY,
  block_number  BIGINT  NOT NULL,
  block_hash    BYTEA   NOT NULL CHECK (length(block_hash) = 32),
  start_number  BIGINT  NOT NULL,
  updated_at_ms BIGINT  NOT NULL,
  -- When a payment went on last: a chain on which none does is a finding.
  went_on_at_ms BIGINT,
  -- The hash of the rules by which deposits were found not to be due.
  due_rules     BYTEA   CHECK (length(due_rules) = 32),
  -- Whether issuers have frozen our addresses is asked of a few addresses at a time, in turn. The
  -- address_id that was asked about last, 0 at the beginning of a round; and when that was.
  frozen_to     BIGINT  NOT NULL DEFAULT 0,
  frozen_at_ms  BIGINT  NOT NULL DEFAULT 0,
  -- The newest address that the step knew which moved the cursor last. For all addresses up to it, nothing
  -- that the steps scanned without them is left to be asked for.
  known_address_id BIGINT NOT NULL DEFAULT 0 CHECK (known_address_id >= 0)
);

-- Where each chain stood when addresses were registered, as whoever registered them saw it. Steps that were
-- under way then did not know them: what those scan above (or, after a fork, again) is read once more, for
-- these addresses only. Written by registering alone; a row goes once the chain knows its addresses.
CREATE TABLE book_marks (
  chain_id      BIGINT  NOT NULL,
  -- The cursor, and the newest scan record.
  block_number  BIGINT  NOT NULL,
  scan_id       BIGINT  NOT NULL,
  -- The addresses with these ids and those between.
  first_id      BIGINT  NOT NULL,
  last_id       BIGINT  NOT NULL,
  PRIMARY KEY (chain_id, block_number, scan_id),
  CHECK (first_id <= last_id)
);

-- The kept window of each chain, and for ever the blocks that hold sightings.
CREATE TABLE blocks (
  chain_id      BIGINT  NOT NULL,
  block_hash    BYTEA   NOT NULL CHECK (length(block_hash) = 32),
  block_number  BIGINT  NOT NULL,
  parent_hash   BYTEA   NOT NULL CHECK (length(parent_hash) = 32),
  block_time_ms BIGINT  NOT NULL,
  canonical     BIGINT  NOT NULL CHECK (canonical IN (0, 1)),
  PRIMARY KEY (chain_id, block_hash)
);
-- By height first: a planner without statistics takes an index that begins with the chain for a way to
-- find one block by its hash.
CREATE INDEX blocks_by_number ON blocks (block_number, chain_id);
CREATE UNIQUE INDEX one_canonical_block_per_height
  ON blocks (chain_id, block_number) WHERE canonical = 1;

-- Who looked where, and what was seen. Records of one provider that continue each other are one row.
-- A record whose to_hash was orphaned later stays; the next one starts at the fork.
CREATE TABLE scans (
  scan_id          BIGINT  GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
  chain_id         BIGINT  NOT NULL,
  from_number      BIGINT  NOT NULL,
  from_hash        BYTEA   NOT NULL CHECK (length(from_hash) = 32),
  to_number        BIGINT  NOT NULL,
  to_hash          BYTEA   NOT NULL CHECK (length(to_hash) = 32),
  method           TEXT COLLATE "C" NOT NULL CHECK (method IN ('by_hash', 'by_range')),
  provider         TEXT COLLATE "C" NOT NULL,
  logs_seen        BIGINT  NOT NULL CHECK (logs_seen >= 0),
  logs_matched     BIGINT  NOT NULL CHECK (logs_matched BETWEEN 0 AND logs_seen),
  started_at_ms    BIGINT  NOT NULL,
  ended_at_ms      BIGINT  NOT NULL,
  -- The part of a record whose blocks are still canonical ends here, below its start when nothing of
  -- it is. The parts of all records of a chain lie side by side, from its first block to its cursor.
  valid_to         BIGINT  NOT NULL DEFAULT -1,
  -- Which logs were asked for.
  filter           TEXT COLLATE "C" CHECK (filter IN ('tokens', 'recipients')),
  -- The second pass over the record: how far (NULL while it has not begun), by whom, how many logs it
  -- saw, and how many transfers to us it added.
  rechecked_to     BIGINT,
  recheck_provider TEXT COLLATE "C",
  recheck_logs     BIGINT  NOT NULL DEFAULT 0,
  recheck_added    BIGINT  NOT NULL DEFAULT 0,
  CHECK (from_number <= to_number)
);
CREATE INDEX scans_by_chain ON scans (chain_id, scan_id);
CREATE INDEX scans_by_height ON scans (chain_id, from_number);
CREATE INDEX scans_not_rechecked ON scans (chain_id, from_number)
  WHERE COALESCE(rechecked_to, -1) < valid_to;

-- Old blocks to be read again, both ends inclusive: for an address or a token that was registered
-- after they had been scanned, or because an operator wants it.
CREATE TABLE backfills (
  chain_id        BIGINT  NOT NULL,
  kind            TEXT COLLATE "C" NOT NULL CHECK (kind IN ('address', 'newer', 'token', 'rescan')),
  -- The address or token; empty for a rescan.
  subject         BYTEA   NOT NULL CHECK (length(subject) IN (0, 20)),
  from_number     BIGINT  NOT NULL,
  to_number       BIGINT  NOT NULL,
  -- The first block not read yet.
  next_number     BIGINT  NOT NULL,
  logs_seen       BIGINT  NOT NULL DEFAULT 0,
  found           BIGINT  NOT NULL DEFAULT 0,
  requested_at_ms BIGINT  NOT NULL,
  finished_at_ms  BIGINT,
  -- Addresses that were imported together, from a file, have one backfill a chain: its subject is the
  -- first one, and these are the ids of the first and the last. NULL for any other.
  first_id        BIGINT,
  last_id         BIGINT,
  PRIMARY KEY (chain_id, kind, subject, from_number, to_number),
  CHECK (from_number <= to_number),
  CHECK ((kind = 'rescan') = (length(subject) = 0)),
  CHECK ((finished_at_ms IS NOT NULL) = (next_number > to_number)),
  CHECK (last_id IS NULL OR (kind IN ('address', 'newer') AND last_id >= first_id)),
  CHECK (kind <> 'newer' OR last_id IS NOT NULL)
);
CREATE INDEX backfills_of_many ON backfills (chain_id, last_id) WHERE last_id IS NOT NULL;

-- The tokens that the scan of a chain asks for, and their code when it was last looked at.
CREATE TABLE chain_tokens (
  chain_id       BIGINT  NOT NULL,
  token          BYTEA   NOT NULL CHECK (length(token) = 20),
  since_ms       BIGINT  NOT NULL,
  code_hash      BYTEA   CHECK (length(code_hash) = 32),
  -- The contract behind a proxy; zero where there is none.
  implementation BYTEA   CHECK (length(implementation) = 20),
  checked_at_ms  BIGINT,
  PRIMARY KEY (chain_id, token)
);

-- How the providers of a chain stand, by the daemon that follows it. Only for people: nothing is
-- decided by it.
CREATE TABLE providers (
  chain_id         BIGINT  NOT NULL,
  provider         TEXT COLLATE "C" NOT NULL,
  -- 'ok', or why it is not asked first.
  state            TEXT COLLATE "C" NOT NULL,
  head_number      BIGINT,
  latency_ms       BIGINT  NOT NULL,
  failures         BIGINT  NOT NULL,
  updated_at_ms    BIGINT  NOT NULL,
  -- The heights of these tags, as it told them last.
  safe_number      BIGINT,
  finalized_number BIGINT,
  PRIMARY KEY (chain_id, provider)
);

-- A chain that stands still until somebody decides.
CREATE TABLE halts (
  chain_id     BIGINT  PRIMARY KEY,
  reason       TEXT COLLATE "C" NOT NULL CHECK (reason IN ('too_deep')),
  -- The oldest block that was kept, and what the provider says the chain's tip is.
  floor_number BIGINT  NOT NULL,
  provider     TEXT COLLATE "C" NOT NULL,
  found_number BIGINT  NOT NULL,
  found_hash   BYTEA   NOT NULL CHECK (length(found_hash) = 32),
  halted_at_ms BIGINT  NOT NULL
);


-- ---- Registers: whose the addresses are ----

-- The owners of balances.
CREATE TABLE namespaces (
  namespace_id  BIGINT  PRIMARY KEY,
  name          TEXT COLLATE "C" NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 63),
  created_at_ms BIGINT  NOT NULL
);

-- One account key whose children are handed out in order. An index is never used twice; after a
-- failover, some are left out.
CREATE TABLE wallets (
  wallet_id    BIGINT  PRIMARY KEY,
  account_xpub TEXT COLLATE "C" NOT NULL UNIQUE,
  next_index   BIGINT  NOT NULL CHECK (next_index BETWEEN 0 AND 2147483648)
);

-- Bound to one namespace for ever: no update, no delete.
CREATE TABLE addresses (
  address_id       BIGINT  PRIMARY KEY CHECK (address_id BETWEEN 1 AND 4294967295),
  address          BYTEA   NOT NULL UNIQUE CHECK (length(address) = 20),
  namespace_id     BIGINT  NOT NULL REFERENCES namespaces,
  origin           TEXT COLLATE "C" NOT NULL CHECK (origin IN ('derived', 'imported')),
  wallet_id        BIGINT  REFERENCES wallets,
  derivation_index BIGINT,
  -- The record of the namespace's journal that bound it.
  record_seq       BIGINT  NOT NULL CHECK (record_seq > 0),
  created_at_ms    BIGINT  NOT NULL,
  UNIQUE (wallet_id, derivation_index),
  CHECK ((origin = 'derived') = (wallet_id IS NOT NULL)),
  CHECK ((origin = 'derived') = (derivation_index IS NOT NULL))
);
CREATE INDEX addresses_by_namespace ON addresses (namespace_id, record_seq, address_id);
CREATE TRIGGER addresses_are_not_updated BEFORE UPDATE ON addresses
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an address is bound to its namespace for ever');
CREATE TRIGGER addresses_are_not_deleted BEFORE DELETE ON addresses
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an address is bound to its namespace for ever');
CREATE TRIGGER addresses_are_not_truncated BEFORE TRUNCATE ON addresses
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('an address is bound to its namespace for ever');


-- ---- Deposits ----

-- Payments to our addresses, one row each, in whatever block they stand now.
CREATE TABLE deposits (
  deposit_id       BYTEA   PRIMARY KEY CHECK (length(deposit_id) = 32),
  chain_id         BIGINT  NOT NULL,
  tx_hash          BYTEA   NOT NULL CHECK (length(tx_hash) = 32),
  token            BYTEA   NOT NULL CHECK (length(token) = 20),
  recipient        BYTEA   NOT NULL CHECK (length(recipient) = 20),
  shape            TEXT COLLATE "C" NOT NULL CHECK (shape IN ('transfer', 'malformed')),
  -- Which one of those of its transaction with the same token, recipient and shape.
  n                BIGINT  NOT NULL CHECK (n >= 0),
  address_id       BIGINT  NOT NULL REFERENCES addresses,
  namespace_id     BIGINT  NOT NULL REFERENCES namespaces,
  -- The sighting it stands on, or stood on last when orphaned.
  block_hash       BYTEA   NOT NULL CHECK (length(block_hash) = 32),
  block_number     BIGINT  NOT NULL,
  log_index        BIGINT  NOT NULL,
  raw_amount       BYTEA   NOT NULL CHECK (length(raw_amount) = 32),
  -- 'reversed': its credit was undone by another record.
  stage            TEXT COLLATE "C" NOT NULL CHECK (stage IN ('pending', 'confirmed', 'priced', 'credited',
                                                              'orphaned', 'held', 'ignored', 'reversed')),
  reason           TEXT COLLATE "C",
  -- The record of its namespace's journal that credited it, or the one that undid the credit.
  record_seq       BIGINT,
  first_seen_at_ms BIGINT  NOT NULL,
  -- When it was last looked at.
  updated_at_ms    BIGINT  NOT NULL,
  -- When it is to be looked at while it is pending: 'new' where nobody has yet, else at a height of the
  -- chain as it is followed ('depth'), or when a tag has reached its block.
  due_by           TEXT COLLATE "C" NOT NULL DEFAULT 'new' CHECK (due_by IN ('new', 'depth', 'safe', 'finalized')),
  due_number       BIGINT  NOT NULL DEFAULT 0,
  -- Since when it stands in this stage for this reason; NULL before the first change.
  since_ms         BIGINT,
  UNIQUE (chain_id, tx_hash, token, recipient, shape, n),
  CHECK ((stage IN ('held', 'ignored')) = (reason IS NOT NULL)),
  CHECK ((stage IN ('credited', 'reversed')) = (record_seq IS NOT NULL))
);
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
  chain_id     BIGINT  NOT NULL,
  block_hash   BYTEA   NOT NULL,
  log_index    BIGINT  NOT NULL CHECK (log_index >= 0),
  block_number BIGINT  NOT NULL,
  deposit_id   BYTEA   NOT NULL REFERENCES deposits,
  tx_hash      BYTEA   NOT NULL CHECK (length(tx_hash) = 32),
  token        BYTEA   NOT NULL CHECK (length(token) = 20),
  recipient    BYTEA   NOT NULL CHECK (length(recipient) = 20),
  sender       BYTEA   CHECK (length(sender) = 20),
  raw_amount   BYTEA   CHECK (length(raw_amount) = 32),
  malformed    TEXT COLLATE "C" CHECK (malformed IN ('topic_count', 'data_length', 'dirty_topic')),
  topics       BYTEA   CHECK (length(topics) BETWEEN 32 AND 128),
  data         BYTEA   CHECK (length(data) <= 256),
  seen_at_ms   BIGINT  NOT NULL,
  -- Who showed the log.
  provider     TEXT COLLATE "C",
  PRIMARY KEY (chain_id, block_hash, log_index),
  FOREIGN KEY (chain_id, block_hash) REFERENCES blocks,
  CHECK ((malformed IS NULL) = (sender IS NOT NULL)),
  CHECK ((malformed IS NULL) = (raw_amount IS NOT NULL)),
  CHECK ((malformed IS NOT NULL) = (topics IS NOT NULL)),
  CHECK ((malformed IS NOT NULL) = (data IS NOT NULL))
);
CREATE INDEX sightings_by_deposit ON sightings (deposit_id);
CREATE FUNCTION refuse_change_of_sighting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.chain_id <> NEW.chain_id OR OLD.block_hash <> NEW.block_hash
    OR OLD.log_index <> NEW.log_index
    OR EXISTS (SELECT 1 FROM credits k WHERE k.deposit_id = OLD.deposit_id
                AND k.block_hash = OLD.block_hash AND k.log_index = OLD.log_index) THEN
    RAISE EXCEPTION 'a sighting is a fact';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER sightings_are_facts BEFORE UPDATE OF chain_id, block_hash, log_index, block_number,
    tx_hash, token, recipient, sender, raw_amount, malformed, topics, data, provider ON sightings
  FOR EACH ROW EXECUTE FUNCTION refuse_change_of_sighting();
CREATE TRIGGER sightings_are_not_deleted BEFORE DELETE ON sightings
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a sighting is a fact');
CREATE TRIGGER sightings_are_not_truncated BEFORE TRUNCATE ON sightings
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('a sighting is a fact');

-- How much of the worthless was recorded per address and UTC day, and how much was only counted.
CREATE TABLE unlisted_quota (
  address_id BIGINT  NOT NULL REFERENCES addresses,
  day        BIGINT  NOT NULL,
  recorded   BIGINT  NOT NULL CHECK (recorded >= 0),
  dropped    BIGINT  NOT NULL CHECK (dropped >= 0),
  PRIMARY KEY (address_id, day)
);

-- The dust of a namespace in one token, added up in the order of the chain. One row is open: it says
-- up to which place everything is counted. The others have reached the minimum and are not credited
-- yet. Derived from the deposits: a row that may be wrong is emptied, and counted anew.
CREATE TABLE dust_sums (
  chain_id      BIGINT  NOT NULL,
  namespace_id  BIGINT  NOT NULL REFERENCES namespaces,
  token         BYTEA   NOT NULL CHECK (length(token) = 20),
  -- What stands after this place…
  from_number   BIGINT  NOT NULL,
  from_index    BIGINT  NOT NULL,
  -- …up to this one.
  to_number     BIGINT  NOT NULL,
  to_index      BIGINT  NOT NULL,
  sum           BYTEA   NOT NULL CHECK (length(sum) = 32),
  -- Of what reached the minimum, all is credited once all of it has a price: 'released'.
  state         TEXT COLLATE "C" NOT NULL CHECK (state IN ('open', 'enough', 'released')),
  -- Up to here each has a price.
  priced_number BIGINT  NOT NULL,
  priced_index  BIGINT  NOT NULL,
  -- The hash of the rules it was counted by; NULL when it must be counted anew.
  rules         BYTEA   CHECK (length(rules) = 32),
  PRIMARY KEY (chain_id, namespace_id, token, from_number, from_index, state)
);

-- What made a deposit Confirmed, one row for each time that it could be credited: it may be credited
-- more than once in the same block, undone because the chain left the block, and credited again because
-- it came back. Each credit keeps the confirmation that it rests on.
CREATE TABLE confirmations (
  deposit_id        BYTEA   NOT NULL REFERENCES deposits,
  block_hash        BYTEA   NOT NULL CHECK (length(block_hash) = 32),
  log_index         BIGINT  NOT NULL,
  policy            TEXT COLLATE "C" NOT NULL,
  head_number       BIGINT  NOT NULL,
  head_hash         BYTEA   NOT NULL CHECK (length(head_hash) = 32),
  receipt_provider  TEXT COLLATE "C" NOT NULL,
  receipt_transfers BIGINT  NOT NULL CHECK (receipt_transfers > 0),
  confirmed_at_ms   BIGINT  NOT NULL,
  -- Who showed the log, and how the receipt was checked.
  log_provider      TEXT COLLATE "C",
  verify            TEXT COLLATE "C" CHECK (verify IN ('second-provider', 'receipts-root', 'same-provider')),
  -- How many credits of the deposit had been undone by then.
  reversals         BIGINT  NOT NULL CHECK (reversals >= 0),
  PRIMARY KEY (deposit_id, block_hash, log_index, reversals)
);

-- What proves a receipt that payments were confirmed by (verify = receipts-root): a pruned node cannot
-- give it later, and with it a credit is proved without any node. Written with the confirmation.
CREATE TABLE receipt_proofs (
  chain_id      BIGINT  NOT NULL,
  block_hash    BYTEA   NOT NULL CHECK (length(block_hash) = 32),
  tx_hash       BYTEA   NOT NULL CHECK (length(tx_hash) = 32),
  -- The block's header, as it is hashed: keccak-256 of it is block_hash.
  header        BYTEA   NOT NULL,
  -- The receipt's place in its block: its key in the trie of receipts.
  receipt_index BIGINT  NOT NULL CHECK (receipt_index >= 0),
  -- The receipt, as it stands in that trie.
  receipt       BYTEA   NOT NULL,
  -- From the header's receipts root to the receipt: an RLP list of the trie's nodes.
  nodes         BYTEA   NOT NULL,
  PRIMARY KEY (chain_id, block_hash, tx_hash),
  FOREIGN KEY (chain_id, block_hash) REFERENCES blocks
);
CREATE TRIGGER receipt_proofs_are_facts BEFORE UPDATE ON receipt_proofs
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a proof is a fact');
CREATE TRIGGER receipt_proofs_are_not_deleted BEFORE DELETE ON receipt_proofs
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a proof is a fact');

-- How often what was recorded of a deposit was changed because providers said otherwise, until it is
-- confirmed. What is read anew again and again is held.
CREATE TABLE rereads (
  deposit_id BYTEA   PRIMARY KEY REFERENCES deposits,
  times      BIGINT  NOT NULL CHECK (times > 0)
);

-- What payments that are deep enough wait for, as only the settle task knows it.
CREATE TABLE waits (
  deposit_id    BYTEA   PRIMARY KEY REFERENCES deposits,
  chain_id      BIGINT  NOT NULL,
  code          TEXT COLLATE "C" NOT NULL CHECK (code IN ('witness', 'receipt', 'proof', 'screening')),
  -- The failure that was met, if one was.
  why           TEXT COLLATE "C" NOT NULL,
  -- Since when it waits for anything, and since when for what it waits for now.
  since_ms      BIGINT  NOT NULL,
  code_since_ms BIGINT
);
CREATE INDEX waits_by_chain ON waits (chain_id);

-- Who was asked about a payment before it is credited, and what the answer was: facts about a payment
-- in one block and its sender there. One that could not be had for too long is one, too: the answer may
-- follow. Whoever is asked once more may say the same again: each answer has its time.
CREATE TABLE screenings (
  deposit_id BYTEA   NOT NULL REFERENCES deposits,
  block_hash BYTEA   NOT NULL CHECK (length(block_hash) = 32),
  sender     BYTEA   NOT NULL CHECK (length(sender) = 20),
  -- Which check.
  asked      TEXT COLLATE "C" NOT NULL CHECK (asked IN ('list', 'http')),
  outcome    TEXT COLLATE "C" NOT NULL CHECK (outcome IN ('clear', 'hit', 'no_answer')),
  -- What was asked, and how the answer is read: the hash of the list, or the URL and where to look. It
  -- tells one list, or one service, from the one that was configured before it.
  question   TEXT COLLATE "C" NOT NULL,
  -- As it came; of a list, the address that is on it; without an answer, why there is none.
  answer     TEXT COLLATE "C" NOT NULL,
  at_ms      BIGINT  NOT NULL,
  PRIMARY KEY (deposit_id, block_hash, sender, asked, outcome, question, at_ms)
);
CREATE TRIGGER screenings_are_not_updated BEFORE UPDATE ON screenings
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an answer about a payment is never updated');
CREATE TRIGGER screenings_are_not_deleted BEFORE DELETE ON screenings
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an answer about a payment is never deleted');


-- ---- Prices ----

-- The rules that hold from an instant on, as they were configured. Only added to.
CREATE TABLE epochs (
  epoch_id       TEXT COLLATE "C" PRIMARY KEY,
  starts_at_ms   BIGINT  NOT NULL UNIQUE,
  body           TEXT COLLATE "C" NOT NULL,
  body_hash      BYTEA   NOT NULL CHECK (length(body_hash) = 32),
  recorded_at_ms BIGINT  NOT NULL
);
CREATE TRIGGER epochs_are_not_updated BEFORE UPDATE ON epochs
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an epoch is never updated');

-- The texts that market prices were decided by.
CREATE TABLE price_policies (
  policy_hash    BYTEA   PRIMARY KEY CHECK (length(policy_hash) = 32),
  pair           TEXT COLLATE "C" NOT NULL,
  body           TEXT COLLATE "C" NOT NULL,
  recorded_at_ms BIGINT  NOT NULL
);
CREATE TRIGGER price_policies_are_not_updated BEFORE UPDATE ON price_policies
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a policy is never updated');

-- Raw answers of sources. The block is the one that is priced: a payment's, or one of the schedule;
-- samples have none.
CREATE TABLE quotes (
  quote_id       BYTEA   PRIMARY KEY CHECK (length(quote_id) = 32),
  source         TEXT COLLATE "C" NOT NULL,
  source_hash    BYTEA   NOT NULL CHECK (length(source_hash) = 32),
  chain_id       BIGINT,
  block_hash     BYTEA   CHECK (length(block_hash) = 32),
  at_ms          BIGINT  NOT NULL,
  evidence       TEXT COLLATE "C" NOT NULL,
  -- An accepted price rests on it.
  used           BIGINT  NOT NULL DEFAULT 0 CHECK (used IN (0, 1)),
  recorded_at_ms BIGINT  NOT NULL,
  CHECK ((chain_id IS NULL) = (block_hash IS NULL))
);
CREATE INDEX quotes_by_block ON quotes (chain_id, block_hash) WHERE block_hash IS NOT NULL;
CREATE INDEX quotes_by_time ON quotes (source_hash, at_ms);
-- Samples that may be forgotten.
CREATE INDEX quotes_unused ON quotes (at_ms) WHERE block_hash IS NULL AND used = 0;
CREATE TRIGGER quotes_are_facts BEFORE UPDATE OF quote_id, source, source_hash, chain_id, block_hash,
    at_ms, evidence ON quotes
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an answer is a fact');

-- Who gave an answer.
CREATE TABLE quote_witnesses (
  quote_id       BYTEA   NOT NULL REFERENCES quotes,
  provider       TEXT COLLATE "C" NOT NULL,
  recorded_at_ms BIGINT  NOT NULL,
  PRIMARY KEY (quote_id, provider)
);

-- How far a source has been asked about a block that is priced; under the hash of all sources of an
-- asset, that all of them are done.
CREATE TABLE captures (
  chain_id        BIGINT  NOT NULL,
  block_hash      BYTEA   NOT NULL CHECK (length(block_hash) = 32),
  source_hash     BYTEA   NOT NULL CHECK (length(source_hash) = 32),
  tries           BIGINT  NOT NULL CHECK (tries >= 0),
  -- What is wrong, while it is not done.
  why             TEXT COLLATE "C",
  first_try_at_ms BIGINT  NOT NULL,
  next_try_at_ms  BIGINT  NOT NULL,
  done_at_ms      BIGINT,
  PRIMARY KEY (chain_id, block_hash, source_hash)
);

-- Numbers accepted prices without gaps: the row that whoever accepts one takes first.
CREATE TABLE market_head (
  only_row BIGINT  PRIMARY KEY CHECK (only_row = 1),
  seq      BIGINT  NOT NULL CHECK (seq >= 0)
);
INSERT INTO market_head (only_row, seq) VALUES (1, 0);

-- Accepted prices, each with everything that it was decided on.
CREATE TABLE market_prices (
  price_seq      BIGINT  PRIMARY KEY CHECK (price_seq > 0),
  price_hash     BYTEA   NOT NULL UNIQUE CHECK (length(price_hash) = 32),
  pair           TEXT COLLATE "C" NOT NULL,
  chain_id       BIGINT  NOT NULL,
  block_hash     BYTEA   NOT NULL CHECK (length(block_hash) = 32),
  instant_ms     BIGINT  NOT NULL,
  price          TEXT COLLATE "C" NOT NULL,
  policy_hash    BYTEA   NOT NULL REFERENCES price_policies,
  -- Two people said it, not the market.
  manual         BIGINT  NOT NULL CHECK (manual IN (0, 1)),
  body           TEXT COLLATE "C" NOT NULL,
  accepted_at_ms BIGINT  NOT NULL
);
CREATE UNIQUE INDEX one_price_of_a_pair_per_block ON market_prices (pair, chain_id, block_hash)
  WHERE manual = 0;
CREATE INDEX market_prices_by_instant ON market_prices (pair, instant_ms);
CREATE TRIGGER market_prices_are_not_updated BEFORE UPDATE ON market_prices
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an accepted price is never updated');
CREATE TRIGGER market_prices_are_not_deleted BEFORE DELETE ON market_prices
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an accepted price is never deleted');
CREATE TRIGGER market_prices_are_not_truncated BEFORE TRUNCATE ON market_prices
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('an accepted price is never deleted');

-- The block of each chain at which pairs are priced though nobody pays, chosen last.
CREATE TABLE price_schedule (
  chain_id       BIGINT  PRIMARY KEY,
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
  chain_id    BIGINT  NOT NULL,
  block_hash  BYTEA   NOT NULL CHECK (length(block_hash) = 32),
  pair        TEXT COLLATE "C" NOT NULL,
  body        TEXT COLLATE "C" NOT NULL,
  tried_at_ms BIGINT  NOT NULL,
  PRIMARY KEY (chain_id, block_hash, pair)
);

-- Pairs whose price moved too far, until an operator lets it pass.
CREATE TABLE breakers (
  pair         TEXT COLLATE "C" PRIMARY KEY,
  reason       TEXT COLLATE "C" NOT NULL,
  chain_id     BIGINT  NOT NULL,
  block_hash   BYTEA   NOT NULL CHECK (length(block_hash) = 32),
  instant_ms   BIGINT  NOT NULL,
  price        TEXT COLLATE "C" NOT NULL,
  opened_at_ms BIGINT  NOT NULL
);

-- The price that was fixed for a deposit, one row a sighting; written before it is used.
CREATE TABLE prices (
  deposit_id        BYTEA   NOT NULL REFERENCES deposits,
  block_hash        BYTEA   NOT NULL CHECK (length(block_hash) = 32),
  log_index         BIGINT  NOT NULL,
  epoch_id          TEXT COLLATE "C" NOT NULL REFERENCES epochs,
  rule              TEXT COLLATE "C" NOT NULL CHECK (rule IN ('par', 'fixed', 'market', 'convert')),
  asset             TEXT COLLATE "C" NOT NULL,
  raw_amount        BYTEA   NOT NULL CHECK (length(raw_amount) = 32),
  decimals          BIGINT  NOT NULL CHECK (decimals BETWEEN 0 AND 36),
  credits_per_token TEXT COLLATE "C" NOT NULL,
  rounding          TEXT COLLATE "C" NOT NULL CHECK (rounding = 'down'),
  credits_nano      BIGINT  NOT NULL CHECK (credits_nano > 0),
  priced_at_ms      BIGINT  NOT NULL,
  PRIMARY KEY (deposit_id, block_hash, log_index)
);

-- The arithmetic of a price that rests on the market, one row for such a row of prices.
CREATE TABLE conversions (
  deposit_id BYTEA   NOT NULL REFERENCES deposits,
  block_hash BYTEA   NOT NULL CHECK (length(block_hash) = 32),
  log_index  BIGINT  NOT NULL,
  -- JSON; the same text stands in the cause of the credit.
  body       TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (deposit_id, block_hash, log_index)
);
CREATE TRIGGER conversions_are_not_updated BEFORE UPDATE ON conversions
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a conversion is never updated');
CREATE TRIGGER conversions_are_not_deleted BEFORE DELETE ON conversions
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a conversion is never deleted');


-- ---- The ledger ----

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
CREATE TRIGGER journals_are_bound_for_ever BEFORE UPDATE OF journal_id, kind, genesis, salt ON journals
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a journal begins where it began');
CREATE TRIGGER journals_do_not_go_back BEFORE UPDATE OF seq ON journals
  FOR EACH ROW WHEN (NEW.seq < OLD.seq) EXECUTE FUNCTION refuse_change('a journal only grows');
CREATE TRIGGER journals_are_not_deleted BEFORE DELETE ON journals
  FOR EACH ROW WHEN (OLD.seq > 0) EXECUTE FUNCTION refuse_change('a journal is never deleted');
CREATE TRIGGER journals_are_not_truncated BEFORE TRUNCATE ON journals
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('a journal is never deleted');

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
CREATE TRIGGER records_are_not_updated BEFORE UPDATE ON records
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a record is never updated');
CREATE TRIGGER records_are_not_deleted BEFORE DELETE ON records
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a record is never deleted');
CREATE TRIGGER records_are_not_truncated BEFORE TRUNCATE ON records
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('a record is never deleted');

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
CREATE TRIGGER entries_are_not_updated BEFORE UPDATE ON entries
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an entry is never updated');
CREATE TRIGGER entries_are_not_deleted BEFORE DELETE ON entries
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an entry is never deleted');
CREATE TRIGGER entries_are_not_truncated BEFORE TRUNCATE ON entries
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('an entry is never deleted');

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
CREATE TRIGGER lots_stay_as_they_began BEFORE UPDATE OF journal_id, lot_seq, kind, priority, scope, amount_nano,
    effective_at_ms, expires_at_ms, consideration_asset, consideration_raw, consideration_decimals,
    consideration_usd_nano ON lots
  FOR EACH ROW EXECUTE FUNCTION refuse_change('of a lot, only what remains of it changes');
CREATE TRIGGER lots_are_not_deleted BEFORE DELETE ON lots
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a lot is never deleted');
CREATE TRIGGER lots_are_not_truncated BEFORE TRUNCATE ON lots
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('a lot is never deleted');

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
CREATE TRIGGER lot_moves_are_not_updated BEFORE UPDATE ON lot_moves
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a move is never updated');
CREATE TRIGGER lot_moves_are_not_deleted BEFORE DELETE ON lot_moves
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a move is never deleted');
CREATE TRIGGER lot_moves_are_not_truncated BEFORE TRUNCATE ON lot_moves
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('a move is never deleted');

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
CREATE TRIGGER credits_stay_as_they_were BEFORE UPDATE OF journal_id, seq, deposit_id, block_hash, log_index ON credits
  FOR EACH ROW EXECUTE FUNCTION refuse_change('of a credit, only what undid it is added');
CREATE TRIGGER credits_are_undone_once BEFORE UPDATE OF reversed_by ON credits
  FOR EACH ROW WHEN (OLD.reversed_by IS NOT NULL) EXECUTE FUNCTION refuse_change('a credit is undone once');
CREATE TRIGGER credits_are_not_deleted BEFORE DELETE ON credits
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a credit is never deleted');
CREATE TRIGGER credits_are_not_truncated BEFORE TRUNCATE ON credits
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('a credit is never deleted');

-- Credits whose block is canonical no more, until they are reversed or the block is back.
CREATE TABLE unfounded (
  journal_id     BIGINT  NOT NULL,
  seq            BIGINT  NOT NULL,
  chain_id       BIGINT  NOT NULL,
  orphaned_at_ms BIGINT  NOT NULL,
  PRIMARY KEY (journal_id, seq)
);


-- ---- The treasury ----

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
CREATE TRIGGER obligations_stay_as_they_began BEFORE UPDATE OF journal_id, seq, chain_id, asset, raw_amount, decimals,
    into_asset, tokens, token_decimals, usd_nano, effective_at_ms, carried_tokens, carried_usd_nano ON obligations
  FOR EACH ROW EXECUTE FUNCTION refuse_change('of an obligation, only what is settled of it changes');
CREATE TRIGGER obligations_are_not_deleted BEFORE DELETE ON obligations
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an obligation is never deleted');
CREATE TRIGGER obligations_are_not_truncated BEFORE TRUNCATE ON obligations
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('an obligation is never deleted');

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
CREATE TRIGGER purchases_are_not_updated BEFORE UPDATE ON purchases
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a purchase is never updated');
CREATE TRIGGER purchases_are_not_deleted BEFORE DELETE ON purchases
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a purchase is never deleted');

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
CREATE TRIGGER settlements_are_not_updated BEFORE UPDATE ON settlements
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a settlement is never updated');
CREATE TRIGGER settlements_are_not_deleted BEFORE DELETE ON settlements
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a settlement is never deleted');
CREATE TRIGGER settlements_are_not_truncated BEFORE TRUNCATE ON settlements
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('a settlement is never deleted');


-- ---- The log, and the feed of events ----

-- Records that have no leaf in the log yet. The sequencer takes them away; nobody relies on the order of `position`.
CREATE TABLE unlogged (
  position   BIGINT  GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
  journal_id BIGINT  NOT NULL,
  seq        BIGINT  NOT NULL
);

-- Which record each leaf of the log is; the leaf's entry is the record's seal.
CREATE TABLE log_leaves (
  leaf_index BIGINT  PRIMARY KEY CHECK (leaf_index >= 0),
  journal_id BIGINT  NOT NULL,
  seq        BIGINT  NOT NULL,
  UNIQUE (journal_id, seq)
);
CREATE TRIGGER log_leaves_are_not_updated BEFORE UPDATE ON log_leaves
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a leaf is never updated');
CREATE TRIGGER log_leaves_are_not_deleted BEFORE DELETE ON log_leaves
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a leaf is never deleted');
CREATE TRIGGER log_leaves_are_not_truncated BEFORE TRUNCATE ON log_leaves
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('a leaf is never deleted');

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
  -- The key that signs it, as the house's records register it; NULL while it has none.
  public_key  TEXT COLLATE "C",
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


-- ---- Acts, and what they are about ----

-- What people decided, one row an act. Two people release a deposit or set a price by hand: one
-- proposes, another one approves.
CREATE TABLE operator_acts (
  act_id        BIGINT  PRIMARY KEY CHECK (act_id > 0),
  kind          TEXT COLLATE "C" NOT NULL CHECK (kind IN ('retry', 'accept_market', 'propose_price',
                                                          'approve_price', 'resume_breaker', 'veto_price',
                                                          'propose_release', 'approve_release',
                                                          'propose_correction', 'approve_correction',
                                                          'accept_outflows', 'withdraw')),
  operator      TEXT COLLATE "C" NOT NULL CHECK (length(operator) BETWEEN 1 AND 63),
  reason        TEXT COLLATE "C" NOT NULL CHECK (length(reason) BETWEEN 1 AND 1000),
  deposit_id    BYTEA   REFERENCES deposits,
  -- The block that it is about: the deposit's then, or that of the price which moved.
  chain_id      BIGINT  NOT NULL,
  block_hash    BYTEA   NOT NULL CHECK (length(block_hash) = 32),
  pair          TEXT COLLATE "C",
  -- The price that is proposed, let pass or refused, or accepted below its floor.
  price         TEXT COLLATE "C",
  instant_ms    BIGINT,
  -- The proposal that it approves.
  approves      BIGINT  UNIQUE REFERENCES operator_acts,
  -- Why the latch was open, and since when.
  latch         TEXT COLLATE "C",
  at_ms         BIGINT  NOT NULL,
  -- The hash of the act that it approves, as the operator named it.
  approved_hash BYTEA   CHECK (length(approved_hash) = 32),
  -- The proposal that it withdraws.
  withdraws     BIGINT  UNIQUE REFERENCES operator_acts,
  -- What a correction undoes and gives instead, of a proposal of one.
  correction    TEXT COLLATE "C",
  CHECK ((kind IN ('resume_breaker', 'veto_price')) = (deposit_id IS NULL)),
  CHECK ((kind IN ('approve_price', 'approve_release', 'approve_correction')) = (approves IS NOT NULL)),
  CHECK (kind IN ('accept_market', 'propose_correction')
         OR (kind IN ('propose_price', 'resume_breaker', 'veto_price')) = (price IS NOT NULL)),
  CHECK (approved_hash IS NULL OR approves IS NOT NULL),
  CHECK ((kind = 'withdraw') = (withdraws IS NOT NULL)),
  CHECK ((kind = 'propose_correction') = (correction IS NOT NULL))
);
CREATE INDEX operator_acts_by_deposit ON operator_acts (deposit_id);
CREATE INDEX operator_acts_by_pair ON operator_acts (pair, kind);
CREATE INDEX operator_acts_by_block ON operator_acts (chain_id, block_hash);
CREATE TRIGGER operator_acts_are_not_updated BEFORE UPDATE ON operator_acts
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an act is never updated');
CREATE TRIGGER operator_acts_are_not_deleted BEFORE DELETE ON operator_acts
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an act is never deleted');
CREATE TRIGGER operator_acts_are_not_truncated BEFORE TRUNCATE ON operator_acts
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('an act is never deleted');

-- Transfers of listed tokens from our addresses, to whomever. Facts of a block, as sightings are. One is
-- one provider's word until another one shows it too, or receipts that hash to the block's hash do: a
-- lie must not hold anybody's money. A transfer is known by what it says, not by its place: nodes number
-- logs in their own ways, and a lie at its place must not hide it.
CREATE TABLE outgoing (
  chain_id        BIGINT  NOT NULL,
  block_hash      BYTEA   NOT NULL CHECK (length(block_hash) = 32),
  tx_hash         BYTEA   NOT NULL CHECK (length(tx_hash) = 32),
  token           BYTEA   NOT NULL CHECK (length(token) = 20),
  address_id      BIGINT  NOT NULL REFERENCES addresses,
  recipient       BYTEA   NOT NULL CHECK (length(recipient) = 20),
  raw_amount      BYTEA   NOT NULL CHECK (length(raw_amount) = 32),
  -- Which one of those of its transaction that say the same.
  n               BIGINT  NOT NULL CHECK (n >= 0),
  -- As it was shown first.
  log_index       BIGINT  NOT NULL CHECK (log_index >= 0),
  block_number    BIGINT  NOT NULL,
  provider        TEXT COLLATE "C" NOT NULL,
  seen_at_ms      BIGINT  NOT NULL,
  -- Who else shows it. NULL while nobody was asked.
  checked         TEXT COLLATE "C" CHECK (checked IN ('shown', 'disputed', 'refuted')),
  second_provider TEXT COLLATE "C",
  -- The act of the operator who had it before the eyes.
  accepted_by     BIGINT  REFERENCES operator_acts,
  PRIMARY KEY (chain_id, block_hash, tx_hash, token, address_id, recipient, raw_amount, n),
  FOREIGN KEY (chain_id, block_hash) REFERENCES blocks
);
CREATE INDEX outgoing_by_address ON outgoing (chain_id, address_id, block_number);
-- Its block's height may have been told wrongly.
CREATE TRIGGER outgoing_are_facts BEFORE UPDATE OF chain_id, block_hash, tx_hash, token, address_id,
    recipient, raw_amount, n, log_index, provider, seen_at_ms ON outgoing
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an outgoing transfer is a fact');
CREATE TRIGGER outgoing_are_not_deleted BEFORE DELETE ON outgoing
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an outgoing transfer is a fact');


-- ---- Leases: who is at work ----

-- Who does what, when there are several daemons: one row for each task that only one of them may do
-- at a time. Every commit of the task takes its row first and compares the token, so that a holder
-- that slept through its lease can write nothing. Times are those of the database's clock.
CREATE TABLE leases (
  task           TEXT COLLATE "C" PRIMARY KEY,
  holder         TEXT COLLATE "C" NOT NULL,
  -- Grows by one whenever the holder changes.
  token          BIGINT  NOT NULL CHECK (token > 0),
  acquired_at_ms BIGINT  NOT NULL,
  expires_at_ms  BIGINT  NOT NULL,
  -- How long it lasts from when it was renewed: one that lasts longer was written before the clock was
  -- set back.
  duration_ms    BIGINT  NOT NULL DEFAULT 0 CHECK (duration_ms >= 0)
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


-- ---- Findings ----

-- What somebody should look at. Each has an id that people name it by, and may be about no chain. What
-- opened it closes it: 'gone'. A person closes it with a reason: 'explained'. One that comes back after
-- it was gone is a new row.
CREATE TABLE findings (
  finding_id      BIGINT  GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
  chain_id        BIGINT,
  kind            TEXT COLLATE "C" NOT NULL,
  -- What it is about: a deposit, a block, a token, a provider.
  subject         TEXT COLLATE "C" NOT NULL,
  severity        TEXT COLLATE "C" NOT NULL CHECK (severity IN ('info', 'warning', 'error')),
  state           TEXT COLLATE "C" NOT NULL CHECK (state IN ('open', 'explained', 'gone')),
  -- JSON; both answers, where two contradict each other.
  detail          TEXT COLLATE "C" NOT NULL,
  found_at_ms     BIGINT  NOT NULL,
  gone_at_ms      BIGINT,
  explained_at_ms BIGINT,
  operator        TEXT COLLATE "C",
  explanation     TEXT COLLATE "C",
  CHECK ((gone_at_ms IS NOT NULL) = (state = 'gone')),
  CHECK ((explanation IS NOT NULL) = (explained_at_ms IS NOT NULL)),
  CHECK ((explanation IS NOT NULL) = (operator IS NOT NULL)),
  CHECK (state <> 'explained' OR explanation IS NOT NULL)
);
CREATE UNIQUE INDEX one_finding_stands ON findings (COALESCE(chain_id, 0), kind, subject)
  WHERE state <> 'gone';
