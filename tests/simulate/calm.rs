//! After the storm: everybody is awake, blocks follow each other, and what was paid is credited.

use topupd::domain::finding::FindingKind;
use topupd::tasks::prices::capture::Captured;
use topupd::tasks::rescan::outcome::Looked;
use topupd::tasks::settle::confirming::Settled;
use topupd::tasks::watch::step::Watched;

use super::faults::Faults;
use super::plan::Valued;
use super::rules::listed;
use super::story::{CHAIN, Failure, Outcome, Sim, address, name};
use super::{FINAL, WINDOW};

/// Rounds of all tasks after which every payment that is deep enough is credited, or says why not.
const ROUNDS: usize = 40;

impl Sim {
    /// The storm is over: everybody is awake, and honest unless the story says that the liar goes on.
    pub(super) async fn calm(&mut self) -> Result<Outcome, Failure> {
        for (i, provider) in self.pool.all().enumerate() {
            let mut state = provider.state.lock().unwrap();
            state.registers = None;
            if Some(i) != self.plan.liar || !self.plan.persists {
                state.faults = Faults::default();
                state.own.clear();
            }
        }
        self.restart().await;
        let last = std::mem::take(&mut self.dropped);
        self.mine_these(last);
        for _ in 0..FINAL + 2 {
            self.mine_these(Vec::new());
        }
        self.tell("calm");
        self.get_on().await?;
        for _ in 0..WINDOW {
            self.mine_these(Vec::new());
        }
        self.tell("nothing happens any more");
        self.come_to_rest().await?;
        // And somebody comes very late.
        for i in 0..6 {
            let known = self.store.addresses(None, i64::MAX).await.map_err(|e| e.to_string())?;
            if known.iter().all(|row| row.address != address(i)) {
                self.store.import_address(&name(i), address(i), 0).await.unwrap();
            }
        }
        if self.rules.tokens.len() < 2 {
            self.rules.tokens.push(listed(1));
        }
        self.restart().await;
        self.tell("latecomers");
        self.come_to_rest().await?;
        self.check().await?;
        self.last_words().await?;
        self.requests = self.pool.all().map(|p| p.state.lock().unwrap().asked).sum();
        let verified = self.store.verify().await.map_err(|e| e.to_string())?;
        let verified = verified.map_err(|finding| finding.to_string())?;
        self.recompute().await?;
        if verified.on_orphaned_blocks > 0 {
            return Err(format!("{} credits rest on orphaned blocks", verified.on_orphaned_blocks));
        }
        let credits = self.compare_ledger().await?;
        self.check_outgoing().await?;
        let findings = self.store.findings(10_000).await.map_err(|e| e.to_string())?.len();
        Ok(Outcome { credits, reversed: verified.reversed, findings, requests: self.requests })
    }

    /// One round of all tasks. True when there was nothing to do.
    async fn round(&mut self) -> Result<bool, Failure> {
        self.step += 1;
        self.begin_step();
        // Long enough for every pause and every rest; a price source's is five minutes at most.
        self.clock.advance_ms(if self.plan.valued == Valued::Par { 61_000 } else { 301_000 });
        let mut idle = true;
        for which in [2, 0, 5, 1, 3, 4] {
            let mut rested = false;
            for _ in 0..20 {
                let said = self.act(which).await?;
                let rests = [
                    format!("watch: {:?}", Watched::Idle),
                    format!("settle: {:?}", Settled::default()),
                    format!("recheck: {:?}", Looked::Idle),
                    format!("backfill: {:?}", Looked::Idle),
                    "survey: contested None".to_owned(),
                    format!("capture: {:?}", Captured::default()),
                ]
                .contains(&said);
                // Who lies for good shows blocks that nobody else has for good.
                let lied_to = self.plan.persists && said.contains("wait: Others");
                let rests = rests || lied_to || self.stands_still(&said).await?;
                // And blocks whose parents nobody has; then another one is asked.
                let made_up = self.plan.persists && said.contains("is not known");
                self.tell(said);
                rested = rests;
                idle &= rests || made_up;
                if rests || which == 2 {
                    break;
                }
            }
            idle &= rested;
        }
        Ok(idle)
    }

    /// Old blocks cannot be looked at, and a finding says so.
    async fn stands_still(&self, said: &str) -> Result<bool, Failure> {
        let looks = said.starts_with("recheck") || said.starts_with("backfill");
        if !self.plan.few_count_alike() || !looks || !said.contains("nonsense") {
            return Ok(false);
        }
        let found = self.store.standing_findings(Some(CHAIN), FindingKind::LookStill).await;
        Ok(!found.map_err(|e| e.to_string())?.is_empty())
    }

    /// Within so many rounds, every payment that is deep enough is credited, or says why not.
    async fn get_on(&mut self) -> Result<(), Failure> {
        for _ in 0..ROUNDS {
            self.round().await?;
            self.check().await?;
            self.people().await?;
            if self.unexplained().await?.is_empty() {
                return Ok(());
            }
        }
        let open = self.unexplained().await?;
        let rows = self.open_rows().await;
        Err(format!("no progress: {open:#?}\n{rows}"))
    }

    /// Payments about which nothing is said, not even that nobody can settle what their block holds:
    /// those of such a block come with the second pass.
    async fn unexplained(&self) -> Result<Vec<String>, Failure> {
        let mut open = self.unaccounted(!self.plan.shows_all()).await?;
        let found = self.store.findings(10_000).await.map_err(|e| e.to_string())?;
        let in_doubt = FindingKind::LogsInDoubt.as_str();
        for finding in found.iter().filter(|f| f.kind == in_doubt && f.state == "open") {
            let block = finding.detail["block_hash"].as_str().unwrap_or("none is named");
            open.retain(|line| !(line.contains(block) && line.ends_with(": None")));
        }
        Ok(open)
    }

    async fn come_to_rest(&mut self) -> Result<(), Failure> {
        let (mut quiet, mut mined) = (0, false);
        for _ in 0..200 {
            let idle = self.round().await?;
            quiet = if idle { quiet + 1 } else { 0 };
            if quiet < 2 {
                continue;
            }
            // What was read of a block long after it counts when the block it was read in is final.
            if mined || self.unaccounted(true).await?.is_empty() {
                return Ok(());
            }
            for _ in 0..FINAL + 2 {
                self.mine_these(Vec::new());
            }
            (quiet, mined) = (0, true);
        }
        Err("does not come to rest".into())
    }
}
