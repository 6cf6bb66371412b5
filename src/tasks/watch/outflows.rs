//! Asks others about what one provider says to have left our addresses, before anybody's money is held
//! for it.
//!
//! An outflow that nobody else shows is a lie, or a reorg. It is asked about when a payment's fate
//! depends on it, which is when that payment is deep enough; the second pass asks about the others in
//! passing. It holds and releases nothing: that follows from what is noted.

use std::collections::BTreeSet;

use alloy::primitives::Address;

use crate::chain::source::{ChainSource, SourceError};
use crate::domain::finality::Verify;
use crate::domain::ids::BlockRef;
use crate::domain::log_filter::{LogFilter, bloom_of};
use crate::domain::transfer::{AddressBook, RawLog, match_outgoing};
use crate::store::{Checked, DoubtfulOutflow, OpenDeposit, OutflowCheck};
use crate::tasks::errors::SettleError;
use crate::tasks::settle::confirming::Confirming;

impl<S: ChainSource> Confirming<'_, S> {
    /// Asks about what is said to have left the addresses of deposits, and notes what others say.
    pub(in crate::tasks) async fn check_outflows<'d>(
        &self,
        deposits: impl Iterator<Item = &'d OpenDeposit>,
    ) -> Result<(), SettleError> {
        let addresses: BTreeSet<Address> = deposits.map(|d| d.key.recipient).collect();
        let mut checks = Vec::new();
        for address in addresses {
            for outflow in self.store.doubtful_outflows(self.rules.id, address).await? {
                let said = self.others_say(&outflow).await;
                let news = said
                    .filter(|(checked, _)| !(outflow.disputed && *checked == Checked::Disputed));
                if let Some((checked, said_by)) = news {
                    checks.push(OutflowCheck { outflow, checked, said_by });
                }
            }
        }
        Ok(self.store.commit_outflow_checks(&checks, self.clock.now_ms()).await?)
    }

    /// What others say of an outflow, and who; `None` while too few say anything.
    async fn others_say(&self, outflow: &DoubtfulOutflow) -> Option<(Checked, Vec<String>)> {
        let now = self.clock.now_ms();
        if self.rules.verify == Verify::ReceiptsRoot {
            for source in self.pool.order(now) {
                if let Some(is_there) = self.proves(source, outflow).await {
                    let checked = if is_there { Checked::Shown } else { Checked::Refuted };
                    return Some((checked, vec![source.provider().to_owned()]));
                }
            }
        }
        // One that is alone is asked again.
        let others = match self.pool.len() {
            0 | 1 => self.pool.order(now),
            _ => self.pool.others(now, Some(&outflow.provider)),
        };
        let mut against = Vec::new();
        for source in others {
            match shows(source, outflow).await {
                Ok(Some(true)) => {
                    return Some((Checked::Shown, vec![source.provider().to_owned()]));
                }
                Ok(Some(false)) => against.push(source.provider().to_owned()),
                Ok(None) => {}
                Err(error) => self.pool.record_failure(source, &error, now),
            }
        }
        match against.len() {
            0 => None,
            1 if self.pool.len() > 2 => None,
            1 => Some((Checked::Disputed, against)),
            _ => Some((Checked::Refuted, against)),
        }
    }

    /// Whether receipts that hash to the block's hash show an outflow; `None` where this provider has
    /// none.
    async fn proves(&self, source: &S, outflow: &DoubtfulOutflow) -> Option<bool> {
        let proof = match source.proof(outflow.outgoing.key.block_hash).await {
            Ok(proof) => proof?,
            Err(SourceError::Unproved { .. }) => return None,
            Err(error) => {
                self.pool.record_failure(source, &error, self.clock.now_ms());
                return None;
            }
        };
        if proof.outside == Some(outflow.outgoing.tx_hash) {
            return None;
        }
        let receipts = proof.receipts.iter().filter(|(_, receipt)| receipt.succeeded);
        let logs: Vec<RawLog> = receipts.flat_map(|(_, receipt)| receipt.logs.clone()).collect();
        Some(is_among(outflow, &logs))
    }
}

/// Whether a provider's receipts show an outflow; `None` where it shows none that are all.
async fn shows<S: ChainSource>(
    source: &S,
    outflow: &DoubtfulOutflow,
) -> Result<Option<bool>, SourceError> {
    let (tx, hash) = (outflow.outgoing.tx_hash, outflow.outgoing.key.block_hash);
    if let Some(receipt) = source.receipt(tx).await?.filter(|r| r.block_hash == hash) {
        return Ok(Some(receipt.succeeded && is_among(outflow, &receipt.logs)));
    }
    // That it does not know the transaction may be for want of an index: the whole block tells.
    let Some(header) = source.header(hash).await? else { return Ok(None) };
    let filter =
        LogFilter::Senders { senders: vec![outflow.address], tokens: vec![outflow.outgoing.token] };
    if !filter.allows_logs(&header.bloom) {
        return Ok(Some(false));
    }
    let block = BlockRef { number: header.number, hash };
    let receipts = match source.receipts_in_block(block).await {
        Err(SourceError::Refused { .. }) => None,
        receipts => receipts?,
    };
    let Some(receipts) = receipts else { return Ok(None) };
    let logs: Vec<RawLog> = receipts.into_iter().flat_map(|(_, receipt)| receipt.logs).collect();
    let are_all = !filter.expects_logs(&header.bloom) || filter.expects_logs(&bloom_of(&logs));
    Ok(are_all.then(|| is_among(outflow, &logs)))
}

/// Wherever in its block it stands: nodes number logs in their own ways.
fn is_among(outflow: &DoubtfulOutflow, logs: &[RawLog]) -> bool {
    let wanted = &outflow.outgoing;
    let mut book = AddressBook::default();
    book.insert(outflow.address, wanted.address_id);
    let found = match_outgoing(wanted.key.chain, logs, &book, |token| *token == wanted.token);
    found.iter().any(|o| {
        (o.tx_hash, o.key.block_hash, o.recipient, o.amount, o.n)
            == (wanted.tx_hash, wanted.key.block_hash, wanted.recipient, wanted.amount, wanted.n)
    })
}
