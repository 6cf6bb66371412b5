//! What is asked of the sources for one block.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::B256;

use crate::domain::ids::ChainId;
use crate::domain::oracle::source::{Evidence, SourceSpec, quote_id};
use crate::store::QuoteBlock;

/// A source to be asked about a block.
pub(in crate::tasks) struct Ask<'a> {
    pub(in crate::tasks) block: QuoteBlock,
    pub(in crate::tasks) source: Cow<'a, SourceSpec>,
    pub(in crate::tasks) hash: B256,
    pub(in crate::tasks) tries: u32,
    pub(in crate::tasks) first_try_at_ms: i64,
    /// Answers with who gave them.
    pub(in crate::tasks) answers: Vec<(Evidence, String)>,
    /// A node said that the state is gone.
    pub(in crate::tasks) no_state: bool,
    pub(in crate::tasks) why: Option<String>,
    pub(in crate::tasks) done: bool,
}

impl Ask<'_> {
    /// As many providers as are wanted gave one answer.
    pub(in crate::tasks) fn agreed(&self, chain: ChainId, wanted: usize) -> bool {
        let mut by: BTreeMap<B256, BTreeSet<&str>> = BTreeMap::new();
        for (evidence, provider) in &self.answers {
            let id = quote_id(self.hash, Some((chain, self.block.block.hash)), &evidence.text());
            by.entry(id).or_default().insert(provider);
        }
        by.values().any(|providers| providers.len() >= wanted)
    }
}
