-- What proves a receipt that payments were confirmed by (verify = receipts-root): a pruned node cannot
-- give it later, and with it a credit is proved without any node. Written with the confirmation.
CREATE TABLE receipt_proofs (
  chain_id      BIGINT NOT NULL,
  block_hash    BYTEA  NOT NULL CHECK (length(block_hash) = 32),
  tx_hash       BYTEA  NOT NULL CHECK (length(tx_hash) = 32),
  -- The block's header, as it is hashed: keccak-256 of it is block_hash.
  header        BYTEA  NOT NULL,
  -- The receipt's place in its block: its key in the trie of receipts.
  receipt_index BIGINT NOT NULL CHECK (receipt_index >= 0),
  -- The receipt, as it stands in that trie.
  receipt       BYTEA  NOT NULL,
  -- From the header's receipts root to the receipt: an RLP list of the trie's nodes.
  nodes         BYTEA  NOT NULL,
  PRIMARY KEY (chain_id, block_hash, tx_hash),
  FOREIGN KEY (chain_id, block_hash) REFERENCES blocks
);

CREATE TRIGGER receipt_proofs_are_facts BEFORE UPDATE ON receipt_proofs
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a proof is a fact');
CREATE TRIGGER receipt_proofs_are_not_deleted BEFORE DELETE ON receipt_proofs
  FOR EACH ROW EXECUTE FUNCTION refuse_change('a proof is a fact');
