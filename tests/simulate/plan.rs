//! What a story is about, drawn from its seed: how many providers there are, who lies about what, and
//! which honest ones are odd for good.

use fastrand::Rng;
use topupd::domain::finality::Verify;

use super::faults::{ALL_LIES, Lie, Quirks, Refusal};

/// How payments are valued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Valued {
    /// By fixed rates.
    Par,
    /// By feeds.
    Feeds,
    /// By feeds and a pool.
    Pool,
}

#[derive(Debug, Clone)]
pub struct Plan {
    pub providers: usize,
    pub liar: Option<usize>,
    /// What the liar says of a block, when it lies about it.
    pub lies: Vec<Lie>,
    /// The liar goes on lying when the storm is over.
    pub persists: bool,
    pub verify: Verify,
    pub valued: Valued,
    /// Some of our addresses send to outside wallets.
    pub moves: bool,
    /// And to each other, and what they sent comes back.
    pub rounds: bool,
    /// All leave out the same logs, and no range hides that.
    pub omits: bool,
    /// So many nodes count logs by transaction.
    pub per_tx: usize,
    /// Nobody can prove the receipts of some blocks.
    pub unproved: bool,
    /// They are checked by two then.
    pub fallback: bool,
    pub quirks: Vec<Quirks>,
    /// Blocks of a history that nobody watched.
    pub history: u64,
    /// The chain now and then goes to another branch and comes back.
    pub flips: bool,
    /// The liar claims blocks beyond the chain.
    pub claims: bool,
    /// The cursor may go no further than an honest provider has the chain.
    pub company: bool,
}

impl Plan {
    pub fn of(seed: u64, rng: &mut Rng) -> Self {
        let providers = [1, 2, 2, 3, 3, 4][rng.usize(..6)];
        // Half of all liars are the one that is asked first.
        let liar = match rng.u8(..8) {
            _ if providers == 1 => None,
            0 | 1 => None,
            2..=4 => Some(0),
            _ => Some(rng.usize(..providers)),
        };
        let valued = match seed % 10 {
            0 => Valued::Pool,
            5 => Valued::Feeds,
            _ => Valued::Par,
        };
        let lies = match rng.u8(..3) {
            // What waits for its price is repeated, and prices are of a time.
            0 | 1 if valued != Valued::Par => vec![Lie::TimeNear, Lie::Repeat],
            0 => ALL_LIES.to_vec(),
            _ => (0..2).map(|_| ALL_LIES[rng.usize(..ALL_LIES.len())]).collect(),
        };
        let verify = match (providers, rng.u8(..3)) {
            (1, 0 | 1) => Verify::SameProvider,
            (1, _) | (_, 0) => Verify::ReceiptsRoot,
            _ => Verify::SecondProvider,
        };
        let omits = liar.is_none() && rng.u8(..4) == 0;
        let per_tx = if providers > 2 && liar.is_none() && rng.u8(..3) == 0 { 2 } else { 0 };
        let mut quirks: Vec<_> = (0..providers).map(|_| odd(rng, omits)).collect();
        let prunes = valued == Valued::Pool && rng.bool();
        let unproved = verify == Verify::ReceiptsRoot && providers > 1 && seed.is_multiple_of(2);
        for quirk in &mut quirks {
            quirk.omits = omits;
            quirk.unproved = unproved;
            if prunes {
                quirk.keeps = 5;
            }
            // Nobody would notice what one alone says of times.
            if providers == 1 && rng.bool() {
                (quirk.tells_time, quirk.log_times_ms) = (true, true);
            }
        }
        // The one that counts as others do is any of them.
        let usual = rng.usize(..providers);
        let odd = quirks.iter_mut().enumerate().filter(|(i, _)| *i != usual).take(per_tx);
        odd.for_each(|(_, quirk)| quirk.per_tx_index = true);
        let history = match rng.u8(..6) {
            0 | 1 => 0,
            2 | 3 => rng.u64(60..140),
            _ => rng.u64(10..50),
        };
        let mut plan = Self {
            providers,
            liar,
            lies,
            persists: providers > 2 && rng.bool(),
            verify,
            valued,
            moves: rng.u8(..3) == 0,
            rounds: rng.bool(),
            omits,
            per_tx,
            unproved,
            fallback: unproved && !seed.is_multiple_of(3),
            quirks,
            history,
            flips: true,
            claims: true,
            company: true,
        };
        for word in std::env::var("WITHOUT").unwrap_or_default().split(',') {
            plan.leave_out(word);
        }
        plan
    }

    /// Leaves something out of a story, for whoever looks for the reason why it fails.
    fn leave_out(&mut self, word: &str) {
        let quirks = &mut self.quirks;
        match word {
            "liar" => self.liar = None,
            "receipts_root" if self.providers > 1 => self.verify = Verify::SecondProvider,
            "persists" => self.persists = false,
            "market" => self.valued = Valued::Par,
            "moves" => self.moves = false,
            "rounds" => self.rounds = false,
            "omits" => {
                self.omits = false;
                quirks.iter_mut().for_each(|q| q.omits = false);
            }
            "per_tx" => {
                self.per_tx = 0;
                quirks.iter_mut().for_each(|q| q.per_tx_index = false);
            }
            "unproved" => {
                (self.unproved, self.fallback) = (false, false);
                quirks.iter_mut().for_each(|q| q.unproved = false);
            }
            "flips" => self.flips = false,
            "claims" => self.claims = false,
            "company" => self.company = false,
            "history" => self.history = 0,
            "no_receipts" => quirks.iter_mut().for_each(|q| q.no_receipts = false),
            "no_block_receipts" => quirks.iter_mut().for_each(|q| q.no_block_receipts = false),
            "late" => quirks.iter_mut().for_each(|q| q.indexes_late = 0),
            "refuses" => quirks.iter_mut().for_each(|q| q.refuses_above = None),
            "log_times" => quirks.iter_mut().for_each(|q| q.log_times_ms = false),
            "away" => quirks.iter_mut().for_each(|q| q.away_until = 0),
            "keeps" => quirks.iter_mut().for_each(|q| q.keeps = 0),
            lie => self.lies.retain(|l| format!("{l:?}") != lie),
        }
        if self.lies.is_empty() {
            self.lies.push(Lie::HideOne);
        }
    }

    /// Fewer than two count logs as the others do: then nobody can look again at what one showed.
    pub fn few_count_alike(&self) -> bool {
        self.per_tx > 0 && self.providers - self.per_tx < 2
    }

    /// Every log of a block is shown by somebody as soon as the block is there, and nobody hides any.
    pub fn shows_all(&self) -> bool {
        self.liar.is_none() || !self.lies.iter().any(|lie| lie.hides())
    }
}

/// An honest node, and what is odd about it.
fn odd(rng: &mut Rng, must_have_receipts: bool) -> Quirks {
    let receipts = rng.u8(..8);
    Quirks {
        empty_for_unknown: rng.bool(),
        tells_time: rng.bool(),
        log_times_ms: rng.u8(..6) == 0,
        no_receipts: receipts == 0,
        no_block_receipts: receipts == 1 && !must_have_receipts,
        indexes_late: [0, 0, 0, 2, 4][rng.usize(..5)],
        refuses_above: match rng.u8(..6) {
            0 => Some((rng.u64(1..8), Refusal::UnknownWords)),
            _ => None,
        },
        away_until: if rng.u8(..6) == 0 { rng.u64(1..40) } else { 0 },
        keeps: [0, 0, 5, 12][rng.usize(..4)],
        omits: false,
        unproved: false,
        per_tx_index: false,
    }
}
