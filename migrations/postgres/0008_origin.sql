-- What is new money, and what is not: every transfer that leaves one of our addresses, and what
-- people decide about deposits that may be credited money seen again.

-- Transfers of listed tokens from our addresses, to whomever. Facts of a block, as sightings are.
CREATE TABLE outgoing (
  chain_id     BIGINT NOT NULL,
  block_hash   BYTEA    NOT NULL CHECK (length(block_hash) = 32),
  log_index    BIGINT NOT NULL CHECK (log_index >= 0),
  block_number BIGINT NOT NULL,
  tx_hash      BYTEA    NOT NULL CHECK (length(tx_hash) = 32),
  token        BYTEA    NOT NULL CHECK (length(token) = 20),
  address_id   BIGINT NOT NULL REFERENCES addresses,
  recipient    BYTEA    NOT NULL CHECK (length(recipient) = 20),
  raw_amount   BYTEA    NOT NULL CHECK (length(raw_amount) = 32),
  provider     TEXT COLLATE "C"    NOT NULL,
  seen_at_ms   BIGINT NOT NULL,
  PRIMARY KEY (chain_id, block_hash, log_index),
  FOREIGN KEY (chain_id, block_hash) REFERENCES blocks
);
CREATE INDEX outgoing_by_address ON outgoing (chain_id, address_id, block_number);

-- Two people release a deposit, and one says that what left an address is in order.
ALTER TABLE operator_acts
  DROP CONSTRAINT operator_acts_kind_check,
  DROP CONSTRAINT operator_acts_check1,
  ADD CHECK (kind IN ('retry', 'accept_market', 'propose_price',
                      'approve_price', 'resume_breaker', 'veto_price',
                      'propose_release', 'approve_release',
                      'accept_outflows')),
  ADD CHECK ((kind IN ('approve_price', 'approve_release')) = (approves IS NOT NULL));

-- The outgoing transfers that an operator had before the eyes, and the act that accepts them.
CREATE TABLE accepted_outflows (
  chain_id   BIGINT NOT NULL,
  block_hash BYTEA    NOT NULL CHECK (length(block_hash) = 32),
  log_index  BIGINT NOT NULL,
  act_id     BIGINT NOT NULL REFERENCES operator_acts,
  PRIMARY KEY (chain_id, block_hash, log_index),
  FOREIGN KEY (chain_id, block_hash, log_index) REFERENCES outgoing
);

CREATE TRIGGER outgoing_are_facts BEFORE UPDATE ON outgoing
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an outgoing transfer is a fact');
CREATE TRIGGER outgoing_are_not_deleted BEFORE DELETE ON outgoing
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an outgoing transfer is a fact');
