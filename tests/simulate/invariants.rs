//! What must hold after every step, and what the ledger must be in the end: computed from the world,
//! without any of topupd's tasks.

use std::collections::BTreeSet;

use alloy::primitives::B256;
use topupd::domain::finality::Verify;
use topupd::store::DepositFilter;
use topupd::tasks::prices::recompute::Recompute;

use super::provider::SimProvider;
use super::source::unprovable;
use super::story::{CHAIN, Failure, GENESIS_MS, Sim};
use super::world::BLOCK_MS;
use super::{CONFIRMATIONS, FINAL};

impl Sim {
    /// What is not finished, for whoever looks for the reason.
    pub(super) async fn open_rows(&mut self) -> String {
        let mut lines = Vec::new();
        let all = self.store.deposits(&DepositFilter { limit: 10_000, ..Default::default() }).await;
        for d in all.unwrap().iter().filter(|d| d.stage.as_str() != "credited") {
            lines.push(format!(
                "{} {} {} n {} block {} {} raw {:?}: {}",
                d.tx_hash, d.token, d.recipient, d.n, d.block_number, d.block_hash, d.raw, d.stage
            ));
        }
        lines.extend(
            self.sql.texts("SELECT kind || ' ' || subject || ' ' || detail FROM findings").await,
        );
        lines.extend(
            self.sql
                .texts(
                    "SELECT 'sighting ' || s.block_number || ' log ' || s.log_index || ' by ' || s.provider
                       || ': ' || lower(hex(d.tx_hash)) || ' ' || lower(hex(d.recipient)) || ' n ' || d.n || ' ' || d.stage
                       || ' at ' || d.log_index
                     FROM sightings s JOIN deposits d ON d.deposit_id = s.deposit_id
                     WHERE s.block_hash IN (SELECT block_hash FROM deposits WHERE stage <> 'credited')
                     ORDER BY s.block_number, s.log_index",
                )
                .await,
        );
        lines.extend(
            self.sql
                .texts(
                    "SELECT 'capture ' || hex(block_hash) || ' tries ' || tries || ' next '
                       || next_try_at_ms || ' done ' || coalesce(done_at_ms, 'never')
                       || ' why ' || coalesce(why, '') FROM captures
                     WHERE done_at_ms IS NULL OR block_hash IN
                       (SELECT block_hash FROM deposits WHERE reason = 'no_price')",
                )
                .await,
        );
        lines.extend(
            self.sql
                .texts("SELECT 'tried ' || hex(block_hash) || ' ' || body FROM price_tries")
                .await,
        );
        lines.push(format!("it is {}", self.clock_ms()));
        lines.join("\n")
    }

    /// The credits that stand: who, for which log of which block, how much.
    pub(super) async fn standing(&mut self) -> BTreeSet<String> {
        self.sql
            .texts(
                "SELECT json_object('namespace', n.name, 'tx_hash', '0x' || lower(hex(d.tx_hash)),
                   'token', '0x' || lower(hex(d.token)), 'recipient', '0x' || lower(hex(d.recipient)),
                   'n', d.n, 'block_hash', '0x' || lower(hex(k.block_hash)),
                   'credits_nano', l.amount_nano)
                 FROM credits k
                 JOIN deposits d ON d.deposit_id = k.deposit_id
                 JOIN namespaces n ON n.namespace_id = k.journal_id
                 JOIN lots l ON l.journal_id = k.journal_id AND l.lot_seq = k.seq
                 WHERE k.reversed_by IS NULL",
            )
            .await
            .iter()
            .map(|evidence| {
                let e: serde_json::Value = serde_json::from_str(evidence).unwrap();
                format!(
                    "{} {} {} {} {} {} {}",
                    e["namespace"],
                    e["tx_hash"],
                    e["token"],
                    e["recipient"],
                    e["n"],
                    e["block_hash"],
                    e["credits_nano"]
                )
            })
            .collect()
    }

    /// Every conversion is computed again from the raw answers, every price decided again.
    pub(super) async fn recompute(&self) -> Result<(), Failure> {
        let mut again = Recompute::<SimProvider>::new(&self.store, None);
        let mut last = None;
        loop {
            let page = self.store.conversions(i64::MIN, i64::MAX, last.as_ref()).await;
            let page = page.map_err(|e| e.to_string())?;
            for row in &page {
                again.conversion(row).await.map_err(|e| e.to_string())?;
            }
            last = page.into_iter().last();
            if last.is_none() {
                break;
            }
        }
        let mut seq = 0;
        loop {
            let page = self.store.price_hashes(i64::MIN, i64::MAX, seq).await;
            let page = page.map_err(|e| e.to_string())?;
            let Some((end, _)) = page.last() else { break };
            seq = *end;
            for (_, hash) in page {
                let found = again.price(hash).await.map_err(|e| e.to_string())?;
                let of = found.map(|(body, _)| (body.block_hash, body.instant_ms));
                let true_time = |(block, time_ms): (B256, i64)| {
                    let world = self.world.get();
                    world.blocks.get(&block).is_some_and(|b| b.header.time_ms == time_ms)
                };
                if !of.is_some_and(true_time) {
                    return Err(format!("a price of a time that no block has: {of:?}"));
                }
            }
        }
        match again.done.differs.first() {
            Some((what, how)) => Err(format!("{what}: {how}")),
            None => Ok(()),
        }
    }

    /// What must hold after every step.
    pub(super) async fn check(&mut self) -> Result<(), Failure> {
        if let Some(gap) = self.store.scan_gap(CHAIN).await.map_err(|e| e.to_string())? {
            return Err(format!("the scan records have a gap or overlap at {gap}"));
        }
        self.check_cursor().await?;
        let unsaid = self
            .sql
            .texts(
                "SELECT '0x' || lower(hex(deposit_id)) AS subject FROM deposits
                 WHERE stage = 'held' AND reason = 'providers_disagree'
                   AND NOT EXISTS (SELECT 1 FROM findings WHERE kind = 'providers_disagree'
                         AND state <> 'gone'
                         AND subject = '0x' || lower(hex(deposits.deposit_id)))
                 UNION ALL
                 SELECT 'record ' || k.seq FROM credits k
                 JOIN records q ON q.journal_id = k.journal_id AND q.seq = k.reversed_by
                 WHERE q.kind = 'deposit_reversed'
                   AND NOT EXISTS (SELECT 1 FROM findings WHERE kind = 'credit_reversed'
                         AND subject = '0x' || lower(hex(k.deposit_id)) || ' record ' || k.seq)",
            )
            .await;
        if !unsaid.is_empty() {
            return Err(format!("nobody was told of {unsaid:?}"));
        }
        let seen = self.records_seen;
        let rows = format!(
            "SELECT journal_id || ' ' || seq || ' ' || kind || ' ' || subject || ' ' || cause FROM records
             WHERE kind LIKE 'deposit_%' ORDER BY rowid LIMIT -1 OFFSET {seen}"
        );
        let rows = self.sql.texts(&rows).await;
        if rows.is_empty() {
            return Ok(());
        }
        self.records_seen += rows.len();
        self.judge(&rows)?;
        for row in &rows {
            self.follow_record(row)?;
        }
        self.check_balances().await?;
        // Whatever was done to the clock.
        let backdated = "SELECT CAST(q.seq AS TEXT) FROM records p
             JOIN records q ON q.journal_id = p.journal_id AND q.seq = p.seq + 1
             WHERE q.recorded_at_ms < p.recorded_at_ms";
        let backdated = self.sql.texts(backdated).await;
        if !backdated.is_empty() {
            return Err(format!("recorded before the record before: {backdated:?}"));
        }
        // All of it again: not at every step, and in the end.
        if !self.step.is_multiple_of(4) {
            return Ok(());
        }
        let verified = self.store.verify().await.map_err(|e| e.to_string())?;
        verified.map(drop).map_err(|finding| finding.to_string())
    }

    /// What was credited or undone was paid or orphaned, deep enough, and said by two.
    fn judge(&self, records: &[String]) -> Result<(), Failure> {
        let world = self.world.get();
        for evidence in records.iter().filter_map(|row| row.splitn(5, ' ').last()) {
            let e: serde_json::Value = serde_json::from_str(evidence).unwrap();
            if e.get("corrects_seq").is_some() {
                continue; // what was credited before was judged; what two people said, the model knows
            }
            let hash: B256 = e["block_hash"].as_str().unwrap().parse().unwrap();
            if e.get("reverses_seq").is_some() {
                if world.is_canonical(hash) && !world.taken_off.contains(&hash) {
                    return Err(format!("a credit of a canonical block was reversed: {evidence}"));
                }
                continue;
            }
            let Some(block) = world.blocks.get(&hash) else {
                return Err(format!("credited in a block that never was: {evidence}"));
            };
            let index = e["log_index"].as_u64().unwrap() as usize;
            let at_its_place = |(i, _): &(usize, _)| *i == index || self.plan.per_tx > 0;
            let real = block.logs.iter().enumerate().filter(at_its_place).any(|(_, log)| {
                Some(format!("{:#x}", log.address).as_str()) == e["token"].as_str()
                    && Some(log.tx_hash.to_string().as_str()) == e["tx_hash"].as_str()
                    && alloy::primitives::U256::from_be_slice(&log.data).to_string()
                        == e["raw_amount"].as_str().unwrap()
            });
            if !real {
                return Err(format!("credited what was never paid: {evidence}"));
            }
            let deep = match e["finality"].as_str().unwrap() {
                "finalized" => FINAL,
                _ => CONFIRMATIONS - 1,
            };
            // As deep as the true chain ever stood on it: what was forked away since, nobody knew.
            let deepest = world.deepest.get(&hash).copied().unwrap_or(0);
            if deepest < block.header.number + deep {
                return Err(format!("credited too early, at {deepest}: {evidence}"));
            }
            if e["block_time_ms"].as_i64()
                != Some(GENESIS_MS + BLOCK_MS * block.header.number.cast_signed())
            {
                return Err(format!("credited at another time than the block's: {evidence}"));
            }
            let by_two = e["verify"] == Verify::SecondProvider.as_str();
            let asked_for = self.plan.verify == Verify::SecondProvider;
            let fell_back = self.plan.fallback && unprovable(self.seed, hash);
            if by_two && !asked_for && !fell_back {
                return Err(format!("checked by two, though it can be proved: {evidence}"));
            }
            if by_two && e["log_provider"] == e["receipt_provider"] {
                return Err(format!("one provider both showed and confirmed: {evidence}"));
            }
        }
        Ok(())
    }
}
