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
