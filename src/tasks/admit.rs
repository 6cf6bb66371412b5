//! Admit a provider: everything that must be true of its chain is asked of it before anything else.
//!
//! The one way in, at the start, when a provider comes back, and for commands. What it finds is in
//! the pool, where its reasons are said once.

use crate::chain::answer::{Answer, Verdict, Wanted};
use crate::chain::pool::Pool;
use crate::chain::source::ChainSource;
use crate::clock::Clock;
use crate::domain::chain_rules::ChainRules;
use crate::domain::finality::Verify;

impl ChainRules {
    /// What a provider of this chain is asked before it is trusted.
    pub fn wanted(&self, now_ms: i64) -> Wanted<'_> {
        let pairs: Vec<String> = self.oracle.pairs().map(|p| p.pair.clone()).collect();
        let mut prices = self.oracle.sources(&pairs);
        prices.retain(|spec| spec.chain() == Some(self.id));
        Wanted {
            chain: self.id,
            tokens: &self.tokens,
            known: &self.known_tokens,
            policy: &self.policy,
            start: self.start_block(),
            proof: self.verify == Verify::ReceiptsRoot,
            proof_may_lack: self.fallback.is_some(),
            prices,
            now_ms,
        }
    }
}

/// Asks a provider everything, and admits it where all that is needed is right. A source of prices that
/// is not what the configuration says is set aside there, and nothing else. Returns whether the provider
/// is admitted.
pub async fn admit<S: ChainSource>(
    rules: &ChainRules,
    pool: &Pool<S>,
    source: &S,
    clock: &dyn Clock,
) -> bool {
    let answers = source.check(&rules.wanted(clock.now_ms())).await;
    let said = |a: &Answer| format!("{}: {}", a.question, a.verdict.text());
    let is_wrong = |a: &&Answer| matches!(a.verdict, Verdict::Wrong(_));
    let wrong = answers.iter().filter(is_wrong).find(|a| a.price_source.is_none());
    let unknown = |needed: bool| {
        answers
            .iter()
            .filter(move |a| a.needed == needed && matches!(a.verdict, Verdict::Unknown(_)))
    };
    if let Some(answer) = wrong {
        pool.refuse(source, said(answer), true);
        return false;
    }
    if let Some(answer) = unknown(true).next() {
        pool.refuse(source, said(answer), false);
        return false;
    }
    let lacks: Vec<String> = unknown(false).map(said).collect();
    let contradicted = answers.iter().filter(is_wrong);
    let contradicted = contradicted.filter_map(|a| Some((a.price_source?, said(a)))).collect();
    pool.admit(source, lacks.join("; "), contradicted, clock.now_ms());
    true
}
