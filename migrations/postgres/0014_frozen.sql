-- Whether the issuers of tokens have frozen our addresses is asked of a few addresses at a time, in turn.

-- The address (address_id) that was asked about last; 0 at the beginning of a round.
ALTER TABLE cursors ADD COLUMN frozen_to BIGINT NOT NULL DEFAULT 0;
-- When that was.
ALTER TABLE cursors ADD COLUMN frozen_at_ms BIGINT NOT NULL DEFAULT 0;
-- Which addresses were ever paid on a chain: the next one is found without reading all that it was paid.
CREATE INDEX deposits_by_address ON deposits (chain_id, address_id);
