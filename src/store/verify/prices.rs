//! What a price was decided on, as inputs of the decision again; and how two decisions differ.
//!
//! Here is only the arithmetic and the reading of stored answers; which answers there are is fetched
//! elsewhere.

use std::collections::BTreeMap;

use alloy::primitives::B256;

use crate::domain::oracle::policy::pair::{Input, PairPolicy};
use crate::domain::oracle::policy::{Body, FORMULA_WITH_HANDS, FORMULA_WITHOUT_AFTER, Part};
use crate::domain::oracle::reading::{PriceInstant, Reading};
use crate::domain::oracle::source::{Reads, SourceSpec, read};
use crate::store::errors::StoreError;
use crate::store::prices::quotes::StoredQuote;

/// The stored answers that a price names.
#[derive(Debug)]
pub(super) struct Asked {
    /// By their ids.
    pub(super) quotes: BTreeMap<B256, StoredQuote>,
}

/// What each source said, read again from its raw answer.
pub(super) fn inputs(
    policy: &PairPolicy,
    body: &Body,
    asked: &Asked,
    at: &PriceInstant,
) -> Result<Vec<Input>, StoreError> {
    let missing = || Input::Missing("its answer is not stored".into());
    policy
        .sources
        .iter()
        .map(|source| {
            let Some(part) = body.parts.iter().find(|p| p.source == source.name) else {
                return Ok(missing());
            };
            let Some(id) = part.quote_id else { return Ok(without_answer(source, part, at)) };
            let said = answer(source, id, asked, at)?;
            if is_older(body) {
                return Ok(said);
            }
            let after = match (part.after_id, source.after()) {
                (Some(id), Some(after)) => answer(&after, id, asked, at)?,
                _ => missing(),
            };
            Ok(said.with_after(|| after))
        })
        .collect()
}

/// A source's stored answer.
fn answer(
    source: &SourceSpec,
    id: B256,
    asked: &Asked,
    at: &PriceInstant,
) -> Result<Input, StoreError> {
    Ok(match asked.quotes.get(&id).filter(|quote| quote.source_hash == source.hash()) {
        Some(quote) => Input::Read(Some(id), read(source, &quote.evidence()?, at)),
        None => Input::Missing("its answer is not stored".into()),
    })
}

/// True where a price was decided by an older formula, in which an answer in doubt never counted.
pub(super) fn is_older(body: &Body) -> bool {
    [FORMULA_WITH_HANDS, FORMULA_WITHOUT_AFTER].contains(&body.formula.as_str())
}

/// A source that has no stored answer: it is fixed, or was missing.
fn without_answer(source: &SourceSpec, part: &Part, at: &PriceInstant) -> Input {
    match &source.reads {
        Reads::Fixed { price } => Input::Read(None, Ok(Reading::fixed(*price, at))),
        _ => {
            let why = part.rejected.as_deref().and_then(|r| r.strip_prefix("missing: "));
            Input::Missing(why.unwrap_or_default().to_owned())
        }
    }
}

/// Of why a source does not count, only the word before the sentence, which a newer build may put better.
fn without_sentence(part: &Part) -> Part {
    let word = part.rejected.as_deref().and_then(|r| r.split(':').next()).map(str::to_owned);
    Part { rejected: word, ..part.clone() }
}

/// What was decided, without sentences.
pub(super) fn without_sentences(body: &Body) -> Body {
    Body { parts: body.parts.iter().map(without_sentence).collect(), ..body.clone() }
}

/// The first thing that is not what was written.
pub(super) fn difference(stored: &Body, again: &Body) -> String {
    for (part, computed) in stored.parts.iter().zip(&again.parts) {
        if without_sentence(part) != without_sentence(computed) {
            let shown = |p: &Part| match (&p.price, &p.rejected) {
                (_, Some(rejected)) => rejected.clone(),
                (Some(price), None) => price.to_string(),
                (None, None) => "nothing".to_owned(),
            };
            let (says, was) = (shown(computed), shown(part));
            return format!("{} says {says}; what was written is {was}", part.source);
        }
    }
    let shown = |body: &Body| match (&body.price, &body.held) {
        (Some(price), _) => price.to_string(),
        (None, held) => format!("none ({})", held.as_deref().unwrap_or_default()),
    };
    if stored.price != again.price {
        let (is, was) = (shown(again), shown(stored));
        return format!("computed again it is {is}; what was written is {was}");
    }
    "what it was compared with is not what was written".to_owned()
}
