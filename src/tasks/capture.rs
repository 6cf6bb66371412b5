//! What is asked of the sources for one block.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::B256;

use crate::domain::ids::ChainId;
use crate::domain::oracle::source::{Evidence, SourceSpec, quote_id};
use crate::store::QuoteBlock;

/// A source to be asked about a block.
pub(super) struct Ask<'a> {
    pub(super) block: QuoteBlock,
    pub(super) source: Cow<'a, SourceSpec>,
    pub(super) hash: B256,
    pub(super) tries: u32,
    pub(super) first_try_at_ms: i64,
    /// Answers with who gave them.
    pub(super) answers: Vec<(Evidence, String)>,
    /// A node said that the state is gone.
    pub(super) no_state: bool,
    pub(super) why: Option<String>,
    pub(super) done: bool,
}

impl Ask<'_> {
    /// As many providers as are wanted gave one answer.
    pub(super) fn agreed(&self, chain: ChainId, wanted: usize) -> bool {
        let mut by: BTreeMap<B256, BTreeSet<&str>> = BTreeMap::new();
        for (evidence, provider) in &self.answers {
            let id = quote_id(self.hash, Some((chain, self.block.block.hash)), &evidence.text());
            by.entry(id).or_default().insert(provider);
        }
        by.values().any(|providers| providers.len() >= wanted)
    }
}
