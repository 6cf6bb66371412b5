-- What leaves our addresses is one provider's word until another one shows it too, or receipts that hash
-- to the block's hash do: a lie must not hold anybody's money.

-- Who else shows it. NULL while nobody was asked.
ALTER TABLE outgoing ADD COLUMN checked TEXT
  CHECK (checked IN ('shown', 'disputed', 'refuted'));
ALTER TABLE outgoing ADD COLUMN second_provider TEXT;

-- Its block's height may have been told wrongly; and what was refuted was never a fact.
DROP TRIGGER outgoing_are_facts;
CREATE TRIGGER outgoing_are_facts BEFORE UPDATE ON outgoing
  WHEN OLD.chain_id <> NEW.chain_id OR OLD.block_hash <> NEW.block_hash
    OR OLD.log_index <> NEW.log_index
    OR (COALESCE(OLD.checked, '') <> 'refuted'
        AND (OLD.tx_hash <> NEW.tx_hash OR OLD.token <> NEW.token
             OR OLD.address_id <> NEW.address_id OR OLD.recipient <> NEW.recipient
             OR OLD.raw_amount <> NEW.raw_amount OR OLD.provider <> NEW.provider))
  BEGIN SELECT RAISE(ABORT, 'an outgoing transfer is a fact'); END;
