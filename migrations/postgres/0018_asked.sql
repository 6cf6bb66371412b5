-- Whoever is asked about a payment once more may say the same again: each answer has its time.
ALTER TABLE screenings
  DROP CONSTRAINT screenings_pkey,
  ADD PRIMARY KEY (deposit_id, block_hash, sender, asked, outcome, question, at_ms);
