-- What is said twice is named: the market's price that an operator accepts, and the check that gave an
-- answer.

-- The price that is accepted below its floor. Those of before name none.
ALTER TABLE operator_acts
  DROP CONSTRAINT operator_acts_check2,
  ADD CHECK (kind = 'accept_market'
             OR (kind IN ('propose_price', 'resume_breaker', 'veto_price')) = (price IS NOT NULL));

-- The question tells one list, or one service, from the one that was configured before it: each may
-- say the same of one payment.
ALTER TABLE screenings
  DROP CONSTRAINT screenings_pkey,
  ADD PRIMARY KEY (deposit_id, block_hash, sender, asked, outcome, question);

-- Since when it waits for what it waits for now; of what was noted before, since when it waits.
ALTER TABLE waits ADD COLUMN code_since_ms BIGINT;
