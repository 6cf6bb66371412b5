-- A proposal can be withdrawn, and an approval says what it approves: the act's number and its hash.

ALTER TABLE operator_acts
  -- The hash of the act that it approves, as the operator named it. Those of before have none.
  ADD COLUMN approved_hash BYTEA CHECK (length(approved_hash) = 32),
  -- The proposal that it withdraws.
  ADD COLUMN withdraws BIGINT UNIQUE REFERENCES operator_acts,
  DROP CONSTRAINT operator_acts_kind_check,
  ADD CHECK (kind IN ('retry', 'accept_market', 'propose_price',
                      'approve_price', 'resume_breaker', 'veto_price',
                      'propose_release', 'approve_release',
                      'accept_outflows', 'withdraw')),
  ADD CHECK (approved_hash IS NULL OR approves IS NOT NULL),
  ADD CHECK ((kind = 'withdraw') = (withdraws IS NOT NULL));
