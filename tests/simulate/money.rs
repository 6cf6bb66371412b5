//! Money is counted once, whatever way it goes between our addresses, and what leaves them is recorded.

use std::collections::{BTreeMap, BTreeSet};

use super::progress::{Key, Paid};
use super::story::{Failure, Sim, address};
use super::turns::MOVERS;
use super::world::Payment;

/// What came to an address, left it, and was credited where it went, is not credited where it came
/// from, too: nobody can tell that it is other money.
pub(super) fn counted_once(
    paid: &BTreeMap<Key, Paid>,
    credited: &BTreeSet<String>,
) -> Result<(), Failure> {
    for mover in MOVERS.map(address) {
        let counts = |(_, p): &(&Key, &Paid)| credited.contains(&p.line);
        let mut came = paid.iter().filter(|(key, _)| key.2 == mover).filter(counts);
        let left: Vec<_> =
            paid.iter().filter(|(_, p)| p.from == mover).filter(counts).map(|(_, p)| p).collect();
        if let Some((before, after)) =
            came.find_map(|(_, p)| left.iter().find(|l| l.at > p.at).map(|after| (p, after)))
        {
            return Err(format!("counted twice: {before:?} and then {after:?}"));
        }
    }
    Ok(())
}

impl Sim {
    /// Whatever leaves one of our addresses is a row, whatever filter is in use.
    pub(super) async fn check_outgoing(&mut self) -> Result<(), Failure> {
        if !self.plan.moves || self.plan.omits || self.plan.per_tx > 0 {
            return Ok(());
        }
        let rows = self
            .sql
            .texts(
                "SELECT '0x' || lower(hex(block_hash)) || ' 0x' || lower(hex(tx_hash))
                   || ' 0x' || lower(hex(token)) || ' 0x' || lower(hex(recipient)) FROM outgoing",
            )
            .await;
        let mut recorded: BTreeMap<String, usize> = BTreeMap::new();
        for row in rows {
            *recorded.entry(row).or_default() += 1;
        }
        let world = self.world.get();
        let mut left: BTreeMap<String, usize> = BTreeMap::new();
        for number in 0..=world.head().header.number {
            let block = world.at(world.head, number).unwrap();
            for tx in &block.txs {
                // What an address sends to itself does not leave it.
                let leaves =
                    |p: &&Payment| p.from != p.to && MOVERS.iter().any(|i| p.from == address(*i));
                for p in tx.payments.iter().filter(leaves) {
                    let hash = block.header.hash;
                    let line = format!("{hash} {} {:#x} {:#x}", tx.hash, p.token, p.to);
                    *left.entry(line).or_default() += 1;
                }
            }
        }
        let missing: Vec<_> =
            left.iter().filter(|(line, n)| recorded.get(*line).is_none_or(|m| m < *n)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("it left unseen: {missing:#?}")) }
    }
}
