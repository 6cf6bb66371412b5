//! Whether a token's issuer has frozen an address: what its contract is asked, and what an answer says.
//!
//! Nothing follows from a symbol: which of the functions a contract has, it is asked.

use alloy::primitives::{Address, Bytes, keccak256};

use crate::domain::oracle::reading::{Call, CallAnswer};

/// What the function is called: by Tether's first contract (USDT on Ethereum), by Circle's (USDC), and by
/// Tether's later contracts.
pub const FUNCTIONS: [&str; 3] =
    ["isBlackListed(address)", "isBlacklisted(address)", "isBlocked(address)"];

/// The question whether an address is frozen.
pub fn question(token: Address, function: &str, address: Address) -> Call {
    let selector = keccak256(function);
    let data: Vec<u8> = selector.iter().take(4).copied().chain(address.into_word()).collect();
    Call { to: token, data: Bytes::from(data) }
}

/// What an answer says.
///
/// # Errors
/// Why it says nothing: only a word that is 0 or 1 is a statement.
pub fn says(answer: &CallAnswer) -> Result<bool, String> {
    let word = match answer {
        CallAnswer::Reverted(why) => return Err(format!("it reverted: {why}")),
        CallAnswer::Returned(word) => word,
    };
    match word.split_last() {
        Some((last @ (0 | 1), rest)) if rest.len() == 31 && rest.iter().all(|byte| *byte == 0) => {
            Ok(*last == 1)
        }
        _ => Err(format!("neither 0 nor 1, in {} bytes", word.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_questions_are_those_of_the_contracts() {
        let of = |function| {
            let call = question(Address::repeat_byte(1), function, Address::repeat_byte(2));
            assert_eq!((call.to, call.data.len()), (Address::repeat_byte(1), 36));
            assert_eq!(call.data[4..], Address::repeat_byte(2).into_word()[..]);
            alloy::hex::encode(&call.data[..4])
        };
        // As block explorers show them.
        assert_eq!(FUNCTIONS.map(of), ["e47d6060", "fe575a87", "fbac3951"]);
    }

    #[test]
    fn only_a_word_that_is_0_or_1_says_something() {
        let word = |last: u8, len: usize| {
            let mut word = vec![0; len];
            word[len - 1] = last;
            CallAnswer::Returned(word.into())
        };
        assert_eq!(says(&word(0, 32)), Ok(false));
        assert_eq!(says(&word(1, 32)), Ok(true));
        let mut high = vec![0; 32];
        (high[0], high[31]) = (1, 1);
        for none in [
            word(2, 32),
            word(1, 31),
            word(1, 33),
            word(1, 64),
            CallAnswer::Returned(high.into()),
            CallAnswer::Returned(Bytes::new()),
            CallAnswer::Reverted("execution reverted".into()),
        ] {
            assert!(says(&none).is_err(), "{none:?}");
        }
    }
}
