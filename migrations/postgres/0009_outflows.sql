-- What leaves our addresses is one provider's word until another one shows it too, or receipts that hash
-- to the block's hash do: a lie must not hold anybody's money. A transfer is known by what it says, not
-- by its place: nodes number logs in their own ways, and a lie at its place must not hide it.

CREATE TABLE outgoing_before AS
  SELECT o.*, x.act_id, ROW_NUMBER() OVER (
    PARTITION BY o.chain_id, o.block_hash, o.tx_hash, o.token, o.address_id, o.recipient, o.raw_amount
    ORDER BY o.log_index) - 1 AS n
  FROM outgoing o
  LEFT JOIN accepted_outflows x ON x.chain_id = o.chain_id AND x.block_hash = o.block_hash
                               AND x.log_index = o.log_index;
DROP TABLE accepted_outflows;
DROP TABLE outgoing;
CREATE TABLE outgoing (
  chain_id     BIGINT NOT NULL,
  block_hash   BYTEA    NOT NULL CHECK (length(block_hash) = 32),
  tx_hash      BYTEA    NOT NULL CHECK (length(tx_hash) = 32),
  token        BYTEA    NOT NULL CHECK (length(token) = 20),
  address_id   BIGINT NOT NULL REFERENCES addresses,
  recipient    BYTEA    NOT NULL CHECK (length(recipient) = 20),
  raw_amount   BYTEA    NOT NULL CHECK (length(raw_amount) = 32),
  -- Which one of those of its transaction that say the same.
  n            BIGINT NOT NULL CHECK (n >= 0),
  -- As it was shown first.
  log_index    BIGINT NOT NULL CHECK (log_index >= 0),
  block_number BIGINT NOT NULL,
  provider     TEXT COLLATE "C"    NOT NULL,
  seen_at_ms   BIGINT NOT NULL,
  -- Who else shows it. NULL while nobody was asked.
  checked         TEXT COLLATE "C" CHECK (checked IN ('shown', 'disputed', 'refuted')),
  second_provider TEXT COLLATE "C",
  -- The act of the operator who had it before the eyes.
  accepted_by     BIGINT REFERENCES operator_acts,
  PRIMARY KEY (chain_id, block_hash, tx_hash, token, address_id, recipient, raw_amount, n),
  FOREIGN KEY (chain_id, block_hash) REFERENCES blocks
);
INSERT INTO outgoing
  SELECT chain_id, block_hash, tx_hash, token, address_id, recipient, raw_amount, n, log_index,
         block_number, provider, seen_at_ms, NULL, NULL, act_id
  FROM outgoing_before;
DROP TABLE outgoing_before;
CREATE INDEX outgoing_by_address ON outgoing (chain_id, address_id, block_number);

-- Its block's height may have been told wrongly.
CREATE TRIGGER outgoing_are_facts BEFORE UPDATE OF chain_id, block_hash, tx_hash, token, address_id,
    recipient, raw_amount, n, log_index, provider, seen_at_ms ON outgoing
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an outgoing transfer is a fact');
CREATE TRIGGER outgoing_are_not_deleted BEFORE DELETE ON outgoing
  FOR EACH ROW EXECUTE FUNCTION refuse_change('an outgoing transfer is a fact');
