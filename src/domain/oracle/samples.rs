//! Which of a ticker's samples a payment is priced by.
//!
//! A sample is taken though nobody pays, so there are several that could stand for one instant. Which
//! ones are read is the caller's affair; here is the rule which of them counts.

use alloy::primitives::B256;

use crate::domain::oracle::policy::pair::Input;
use crate::domain::oracle::reading::PriceInstant;
use crate::domain::oracle::source::{Evidence, SourceSpec, read};

/// Samples after the instant that are looked at for the first valid one.
pub const SAMPLES_MAX: i64 = 64;

/// Of samples in the order of their times, the first one that says something; else the first one,
/// with what is wrong with it; none where there are none.
///
/// # Errors
/// Whatever reading a sample fails with. Those after the one that counts are not read.
pub fn first_of<E>(
    source: &SourceSpec,
    samples: impl IntoIterator<Item = Result<(B256, Evidence), E>>,
    at: &PriceInstant,
) -> Result<Option<Input>, E> {
    let mut first: Option<Input> = None;
    for sample in samples {
        let (id, evidence) = sample?;
        let input = Input::Read(Some(id), read(source, &evidence, at));
        if matches!(input, Input::Read(_, Ok(_))) {
            return Ok(Some(input));
        }
        first.get_or_insert(input);
    }
    Ok(first)
}
