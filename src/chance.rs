//! Chance as an argument: the only place that asks the operating system for what nobody can guess.
//!
//! What comes from here protects names (the salts of journals), and moves no money.

use std::fmt;

/// Draws bytes that nobody can guess.
pub trait Chance: Send + Sync + fmt::Debug {
    /// 32 of them; `None` where the operating system gives none.
    fn draw(&self) -> Option<[u8; 32]>;
}

/// The operating system's, through the generator that TLS uses.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemChance;

impl Chance for SystemChance {
    fn draw(&self) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).ok()?;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_draws_are_alike() {
        let (first, second) = (SystemChance.draw().unwrap(), SystemChance.draw().unwrap());
        assert_ne!(first, second);
        assert_ne!(first, [0; 32]);
    }
}
