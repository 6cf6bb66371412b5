//! What happens to the world: payments, forks that stay and forks that go, providers that get worse.

use alloy::primitives::{Address, keccak256};

use super::faults::Faults;
use super::plan::Valued;
use super::rules::token;
use super::story::{Failure, Sim, address};
use super::world::{Payment, STRANGER, Tx};
use super::{CONFIRMATIONS, WINDOW};

/// Those of our addresses that send, where any do: one is there from the beginning, one comes late.
pub(super) const MOVERS: [usize; 2] = [1, 3];

/// A wallet that coins pass through.
fn outside(i: usize) -> Address {
    Address::from_word(keccak256(format!("outside {i}")))
}

impl Sim {
    fn payments(&mut self) -> Vec<Tx> {
        let count = self.rng.usize(..4);
        (0..count)
            .map(|_| {
                self.next_tx += 1;
                let payments = (0..1 + self.rng.usize(..2)).map(|_| self.payment()).collect();
                Tx { hash: keccak256(format!("{} tx {}", self.seed, self.next_tx)), payments }
            })
            .collect()
    }

    /// Also to addresses that nobody registered yet, in tokens that are not listed yet.
    fn payment(&mut self) -> Payment {
        let rng = &mut self.rng;
        let mut payment = Payment {
            token: token(rng.u8(..2)),
            from: STRANGER,
            to: address(rng.usize(..6)),
            amount: rng.u64(1..6) * 1_000_000,
        };
        if self.plan.moves && rng.bool() {
            let mover = address(MOVERS[rng.usize(..2)]);
            let wallet = outside(rng.usize(..2));
            match rng.u8(..4) {
                0 if self.plan.rounds => payment.from = mover,
                1 if self.plan.rounds => (payment.from, payment.to) = (wallet, mover),
                _ => (payment.from, payment.to) = (mover, wallet),
            }
        }
        payment
    }

    pub(super) fn mine(&mut self) {
        let mut txs = self.payments();
        if self.rng.bool() {
            txs.append(&mut self.dropped);
        }
        self.mine_these(txs);
    }

    pub(super) fn mine_these(&mut self, txs: Vec<Tx>) {
        self.world.get().mine(txs);
        // No block is of the future.
        let early = self.world.get().head().header.time_ms - self.clock_ms();
        self.clock.advance_ms(early.max(0));
    }

    pub(super) fn fork(&mut self) {
        // Now and then deeper than the policy promises, never deeper than the window.
        let deepest = if self.rng.bool() { CONFIRMATIONS + 8 } else { CONFIRMATIONS - 1 };
        let depth = self.rng.u64(1..=deepest);
        let mut txs = self.world.get().rewind(depth);
        self.tell(format!("fork {depth} deep"));
        if self.rng.bool() {
            txs.reverse();
        }
        while self.rng.u8(..3) == 0 && !txs.is_empty() {
            let gone = txs.remove(self.rng.usize(..txs.len()));
            self.dropped.push(gone);
        }
        let blocks = depth + self.rng.u64(..2);
        self.mine_shares(&mut txs, blocks);
        self.dropped.append(&mut txs);
    }

    fn mine_shares(&mut self, txs: &mut Vec<Tx>, blocks: u64) {
        for left in (1..=blocks).rev() {
            let share = txs.len() / left as usize;
            let now: Vec<Tx> = txs.drain(..share).collect();
            self.mine_these(now);
        }
    }

    /// The chain goes to another branch for a while, and comes back to its old blocks.
    pub(super) async fn there_and_back(&mut self) -> Result<(), Failure> {
        for _ in 0..CONFIRMATIONS + 1 {
            self.mine();
        }
        self.acts(&[0, 5, 1, 1]).await?;
        self.people().await?;
        let before = self.world.get().head;
        let depth = self.rng.u64(1..=CONFIRMATIONS + 4);
        let mut txs = self.world.get().rewind(depth);
        self.tell(format!("fork {depth} deep, for a while"));
        txs.reverse();
        let blocks = depth + self.rng.u64(..3);
        self.mine_shares(&mut txs, blocks);
        self.people().await?;
        self.acts(&[2, 0, 1, 0]).await?;
        self.people().await?;
        self.acts(&[1, 1]).await?;
        self.world.get().return_to(before);
        self.tell("back on the old blocks");
        self.people().await?;
        self.acts(&[0, 1]).await?;
        if self.rng.bool() {
            self.mine();
        }
        self.acts(&[0, 5, 1, 1]).await
    }

    pub(super) fn worsen(&mut self) {
        let i = match self.plan.liar {
            Some(liar) if self.rng.bool() => liar,
            _ => self.rng.usize(..self.pool.len()),
        };
        let rng = &mut self.rng;
        let mut faults = Faults {
            lag: if rng.u8(..3) == 0 { rng.u64(..12) } else { rng.u64(..2) },
            failing: [0, 0, 10, 40][rng.usize(..4)],
            too_large: [0, 20][rng.usize(..2)],
            limiting: [0, 0, 20][rng.usize(..3)],
            away: rng.u8(..8) == 0,
            ..Faults::default()
        };
        if rng.u8(..4) == 0 {
            faults.stuck = Some(self.world.get().head);
        }
        if Some(i) == self.plan.liar {
            // Who can hardly be asked lies to nobody.
            (faults.failing, faults.away) = (faults.failing / 4, false);
            faults.lies = [0, 30, 60, 100][rng.usize(..4)];
            match rng.u8(..8) {
                // From far below the tip: what was credited would be undone.
                0 | 1 => {
                    faults.lag = rng.u64(4..10);
                    faults.inventing = faults.lag + rng.u64(1..4);
                }
                2 | 3 => faults.inventing = rng.u64(1..12),
                4 | 5 if self.plan.claims => {
                    faults.claims = match rng.u8(..6) {
                        0..=2 => rng.u64(1..12),
                        3 => rng.u64(WINDOW..4 * WINDOW),
                        4 => 5_000,
                        _ => [1 << 40, 1 << 63, u64::MAX][rng.usize(..3)],
                    };
                    if self.plan.valued != Valued::Par {
                        // Contracts are asked about such blocks; theirs are times that can be.
                        faults.claims = faults.claims.min(5_000);
                    }
                    faults.claims_future = rng.bool();
                }
                _ => {}
            }
            faults.all_final = rng.bool();
            if self.plan.valued != Valued::Par {
                faults.doubles = [0, 50, 100][rng.usize(..3)];
            }
        }
        let name = self.pool.all().nth(i).unwrap().name.clone();
        self.tell(format!("{name}: {faults:?}"));
        self.pool.all().nth(i).unwrap().state.lock().unwrap().faults = faults;
    }
}
