//! Who can bear witness to a transaction, and what they say.
//!
//! A witness is a provider that sees a block as deep as the policy asks, in its own view of the
//! chain: what it has not confirmed itself it cannot confirm to us. What follows from what several
//! of them say is decided by the settle task.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use alloy::primitives::{Address, B256, TxHash};
use tokio::sync::OnceCell;

use crate::chain::BlockProof;
use crate::chain::pool::Pool;
use crate::chain::read::Receipt;
use crate::chain::source::{ChainSource, SourceError, Tag};
use crate::domain::chain::Header;
use crate::domain::chain_rules::ChainRules;
use crate::domain::finality::{Finality, Heads};
use crate::domain::ids::{BlockRef, Shape};
use crate::domain::receipt_proof::ReceiptProof;
use crate::domain::transfer::{AddressBook, RawLog, Sighting, match_logs};
use crate::store::{ChainState, OpenDeposit};
use crate::tasks::errors::{SettleError, invalid_logs};
use crate::tasks::logs::consistent;

/// So many payments in one block are worth one question for all its receipts.
const OFTEN: usize = 8;
/// Blocks of which answers are kept, of all providers. Payments are looked at block by block.
const KEPT: usize = 16;

/// What is known of each provider's view in one activation, each part asked for once at most.
pub(in crate::tasks) struct Witnesses<'a, S> {
    pub(in crate::tasks) rules: &'a ChainRules,
    pub(in crate::tasks) pool: &'a Pool<S>,
    pub(in crate::tasks) state: &'a ChainState,
    /// The canonical tip as we follow it.
    pub(in crate::tasks) head: BlockRef,
    views: BTreeMap<String, View>,
    /// Blocks that hold many of the payments at hand.
    often: Mutex<BTreeSet<B256>>,
    blocks: Mutex<VecDeque<(String, B256, Arc<Seen>)>>,
    /// Whose the addresses are.
    book: Mutex<Arc<AddressBook>>,
}

/// What a provider said of a block.
#[derive(Default)]
struct Seen {
    at_height: OnceCell<Option<Header>>,
    header: OnceCell<Option<Header>>,
    receipts: OnceCell<Option<BTreeMap<TxHash, Receipt>>>,
    proof: OnceCell<Option<BlockProof>>,
}

#[derive(Default)]
struct View {
    latest: OnceCell<u64>,
    safe: OnceCell<Option<u64>>,
    finalized: OnceCell<Option<u64>>,
}

/// What a provider says of a transaction's transfers to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tasks) enum Testimony {
    /// It is not in that block.
    NotThere,
    /// It failed.
    Failed,
    /// The block has another height or time than was recorded.
    OtherBlock { number: u64, time_ms: i64 },
    /// These, in log order; with everything that its logs say.
    Shows { transfers: Vec<Sighting>, logs: Vec<RawLog> },
}

impl Testimony {
    /// Compares what they say, not how much beside it.
    pub(in crate::tasks) fn agrees_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Shows { transfers, .. }, Self::Shows { transfers: others, .. }) => {
                transfers == others
            }
            _ => self == other,
        }
    }

    /// For people, in evidence.
    pub(in crate::tasks) fn json(&self) -> serde_json::Value {
        match self {
            Self::NotThere => "the transaction is not in the block".into(),
            Self::Failed => "the transaction failed".into(),
            Self::OtherBlock { number, time_ms } => {
                serde_json::json!({ "block_number": number, "block_time_ms": time_ms })
            }
            Self::Shows { transfers, .. } => transfers_json(transfers),
        }
    }
}

/// Transfers as they are kept in findings.
pub(in crate::tasks) fn transfers_json(transfers: &[Sighting]) -> serde_json::Value {
    transfers
        .iter()
        .map(|s| {
            serde_json::json!({
                "log_index": s.key.log_index, "token": s.deposit.token,
                "recipient": s.deposit.recipient, "n": s.deposit.n,
                "raw_amount": s.amount(),
            })
        })
        .collect()
}

impl<'a, S: ChainSource> Witnesses<'a, S> {
    pub(in crate::tasks) fn new(
        rules: &'a ChainRules,
        pool: &'a Pool<S>,
        state: &'a ChainState,
        head: BlockRef,
    ) -> Self {
        let views =
            pool.all().map(|source| (source.provider().to_owned(), View::default())).collect();
        let (often, blocks, book) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { rules, pool, state, head, views, often, blocks, book }
    }

    /// Says whose the addresses are in what is looked at next.
    pub(in crate::tasks) fn knows(&self, book: Arc<AddressBook>) {
        *self.book.lock().unwrap_or_else(PoisonError::into_inner) = book;
    }

    /// The addresses as they were when this batch was begun.
    pub(in crate::tasks) fn book(&self) -> Arc<AddressBook> {
        Arc::clone(&self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says in which blocks the transactions stand that are looked at next.
    pub(in crate::tasks) fn looks_at(&self, blocks: impl Iterator<Item = B256>) {
        let mut counts: BTreeMap<B256, usize> = BTreeMap::new();
        for block in blocks {
            let count = counts.entry(block).or_default();
            *count = count.saturating_add(1);
        }
        let many = counts.into_iter().filter(|(_, count)| *count >= OFTEN);
        *self.often.lock().unwrap_or_else(PoisonError::into_inner) = many.map(|(b, _)| b).collect();
    }

    fn is_paid_often(&self, block: B256) -> bool {
        self.often.lock().unwrap_or_else(PoisonError::into_inner).contains(&block)
    }

    /// What a provider said of a block, as far as it was asked.
    fn seen(&self, source: &S, block: B256) -> Arc<Seen> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let known = blocks.iter().find(|(name, b, _)| *b == block && name == source.provider());
        if let Some((.., seen)) = known {
            return Arc::clone(seen);
        }
        if blocks.len() >= KEPT {
            blocks.pop_front();
        }
        let seen = Arc::<Seen>::default();
        blocks.push_back((source.provider().to_owned(), block, Arc::clone(&seen)));
        seen
    }

    /// A provider's header at the height of a block: once for all payments in it.
    async fn at_height(&self, source: &S, block: BlockRef) -> Result<Option<Header>, SourceError> {
        let seen = self.seen(source, block.hash);
        Ok(*seen.at_height.get_or_try_init(|| source.header_at(block.number)).await?)
    }

    /// The receipt of a transaction among those of its block, where the block pays us so often that
    /// one question for all of them is less than one for each. `None` where it is asked for by itself:
    /// what is missing here may be there.
    async fn among_many(
        &self,
        source: &S,
        place: &OpenDeposit,
    ) -> Result<Option<Receipt>, SourceError> {
        let block = place.block;
        if !self.is_paid_often(block.hash) {
            return Ok(None);
        }
        // By its hash a block is known after it was replaced, too.
        let here = self.at_height(source, block).await?;
        if here.is_none_or(|header| header.hash != block.hash) {
            return Ok(None);
        }
        let seen = self.seen(source, block.hash);
        let ask = async || match source.receipts_at_once(block).await {
            Ok(receipts) => receipts.map(|all| all.into_iter().collect()),
            Err(error) => {
                tracing::debug!(provider = source.provider(), block.number = block.number,
                    error = %error, "no receipts of a whole block: one by one");
                None
            }
        };
        let receipts = seen.receipts.get_or_init(ask).await;
        Ok(receipts.as_ref().and_then(|all| all.get(&place.key.tx_hash).cloned()))
    }

    /// True when a provider's own view of the chain satisfies the policy for a block at this
    /// height.
    pub(in crate::tasks) async fn reached(
        &self,
        source: &S,
        number: u64,
        finality: Finality,
    ) -> Result<bool, SourceError> {
        Ok(finality.reached(number, self.heads(source, finality).await?))
    }

    /// A provider's heights, as far as a policy asks for them.
    pub(in crate::tasks) async fn heads(
        &self,
        source: &S,
        finality: Finality,
    ) -> Result<Heads, SourceError> {
        let mut heads = Heads { latest: 0, safe: None, finalized: None };
        let Some(view) = self.views.get(source.provider()) else { return Ok(heads) };
        match finality {
            Finality::Confirmations(_) => {
                let ask = || async { Ok(source.latest().await?.number) };
                heads.latest = *view.latest.get_or_try_init(ask).await?;
            }
            Finality::Safe => {
                let ask = || self.tagged(source, Tag::Safe);
                heads.safe = *view.safe.get_or_try_init(ask).await?;
            }
            Finality::Finalized => {
                let ask = || self.tagged(source, Tag::Finalized);
                heads.finalized = *view.finalized.get_or_try_init(ask).await?;
            }
        }
        self.pool.saw_tags(source, heads.safe, heads.finalized);
        Ok(heads)
    }

    /// The height of a tag, if its block is on the chain that we follow.
    async fn tagged(&self, source: &S, tag: Tag) -> Result<Option<u64>, SourceError> {
        let (head, state) = (self.head, self.state);
        let Some(header) = source.tagged(tag).await? else { return Ok(None) };
        let (known, expected) = if header.number > head.number {
            // Ahead of what we scanned: then our own tip must lie on that chain.
            (source.header_at(head.number).await?.map(|h| h.block()), Some(head))
        } else {
            (Some(header.block()), state.view.at(header.number))
        };
        match expected {
            Some(expected) if known != Some(expected) => {
                tracing::warn!(
                    provider = source.provider(),
                    block.number = header.number,
                    "the {tag:?} block is not on the chain followed; not used"
                );
                Ok(None)
            }
            // Below the window nothing can be compared, and nothing there moves any more.
            _ => Ok(Some(header.number.min(head.number))),
        }
    }

    /// What a provider's receipt says. `compare_block` asks for the block's header too, when
    /// another provider showed it.
    pub(in crate::tasks) async fn receipt(
        &self,
        source: &S,
        place: &OpenDeposit,
        tokens: &BTreeSet<Address>,
        compare_block: bool,
    ) -> Result<Testimony, SettleError> {
        let (tx, block) = (place.key.tx_hash, place.block.hash);
        let receipt = match self.among_many(source, place).await? {
            Some(receipt) => Some(receipt),
            None => match source.receipt(tx).await? {
                Some(receipt) => Some(receipt).filter(|r| r.block_hash == block),
                None => self.in_block(source, place).await?,
            },
        };
        let Some(receipt) = receipt else { return Ok(Testimony::NotThere) };
        if compare_block {
            let seen = self.seen(source, block);
            let Some(header) = seen.header.get_or_try_init(|| source.header(block)).await? else {
                return Ok(Testimony::NotThere);
            };
            let (number, time_ms) = (header.number, header.time_ms);
            if (number, time_ms) != (place.block.number, place.block_time_ms) {
                return Ok(Testimony::OtherBlock { number, time_ms });
            }
        }
        self.read(source, &receipt, tokens)
    }

    /// The receipt of a transaction among all those of its block: a node whose index of transactions
    /// is limited, or behind, has no other. By its hash a block is known after it was replaced, too;
    /// so the node must have it at its height.
    async fn in_block(
        &self,
        source: &S,
        place: &OpenDeposit,
    ) -> Result<Option<Receipt>, SourceError> {
        let here = source.header_at(place.block.number).await?;
        if here.is_none_or(|header| header.hash != place.block.hash) {
            return Ok(None);
        }
        let receipts = match source.receipts_in_block(place.block).await {
            // It has no such method: then it does not know more than it said.
            Err(SourceError::Refused { .. }) => None,
            answer => answer?,
        };
        let mut receipts = receipts.unwrap_or_default().into_iter();
        Ok(receipts.find(|(tx, _)| *tx == place.key.tx_hash).map(|(_, receipt)| receipt))
    }

    /// What the receipts say that hash to the block's hash, with what proves the transaction's; `None`
    /// where the provider does not know the block.
    pub(in crate::tasks) async fn proved(
        &self,
        source: &S,
        place: &OpenDeposit,
        tokens: &BTreeSet<Address>,
    ) -> Result<Option<(Testimony, Option<ReceiptProof>)>, SettleError> {
        let hash = place.block.hash;
        let seen = match self.is_paid_often(hash) {
            true => self.seen(source, hash),
            false => Arc::default(), // it may be large
        };
        let Some(proof) = seen.proof.get_or_try_init(|| source.proof(hash)).await? else {
            return Ok(None);
        };
        let (number, time_ms) = (proof.header.number, proof.header.time_ms);
        if (number, time_ms) != (place.block.number, place.block_time_ms) {
            return Ok(Some((Testimony::OtherBlock { number, time_ms }, None)));
        }
        if proof.outside == Some(place.key.tx_hash) {
            let why = "the receipt of its transaction lies outside of the receipts root".into();
            let provider = source.provider().to_owned();
            return Err(SourceError::Unproved { provider, why }.into());
        }
        let of_tx = |(tx, _): &&(TxHash, Receipt)| *tx == place.key.tx_hash;
        match proof.receipts.iter().find(of_tx) {
            None => Ok(Some((Testimony::NotThere, None))),
            Some((tx, receipt)) => {
                let said = self.read(source, receipt, tokens)?;
                let kept = proof.of(*tx).ok_or_else(|| SourceError::Unproved {
                    provider: source.provider().to_owned(),
                    why: "nothing of its proof can be kept".into(),
                })?;
                Ok(Some((said, Some(kept))))
            }
        }
    }

    fn read(
        &self,
        source: &S,
        receipt: &Receipt,
        tokens: &BTreeSet<Address>,
    ) -> Result<Testimony, SettleError> {
        if !receipt.succeeded {
            return Ok(Testimony::Failed);
        }
        consistent(source.provider(), &receipt.logs)?;
        if receipt.logs.iter().any(|log| log.block_hash != receipt.block_hash) {
            return Err(invalid_logs(source.provider(), "logs of another block".into()).into());
        }
        let all = match_logs(self.rules.id, &receipt.logs, &self.book());
        Ok(Testimony::Shows { transfers: comparable(tokens, all), logs: receipt.logs.clone() })
    }

    /// A provider's header of this very block, when it has it at its height, as deep as the policy
    /// asks.
    pub(in crate::tasks) async fn has(
        &self,
        source: &S,
        block: BlockRef,
        finality: Finality,
    ) -> Result<Option<Header>, SourceError> {
        if !self.reached(source, block.number, finality).await? {
            return Ok(None);
        }
        Ok(self.at_height(source, block).await?.filter(|h| h.hash == block.hash))
    }

    /// The hash of a provider's block at a height.
    pub(in crate::tasks) async fn hash_at(
        &self,
        source: &S,
        number: u64,
    ) -> Result<Option<B256>, SourceError> {
        Ok(source.header_at(number).await?.map(|h| h.hash))
    }
}

/// Well-formed transfers of the given tokens, in log order: what every filter shows.
pub(in crate::tasks) fn comparable(
    tokens: &BTreeSet<Address>,
    mut all: Vec<Sighting>,
) -> Vec<Sighting> {
    all.retain(|s| s.deposit.shape == Shape::Transfer && tokens.contains(&s.deposit.token));
    all.sort_by_key(|s| s.key);
    all
}
