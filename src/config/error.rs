//! What is wrong with a key, and with which.

/// A key and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct ConfigError {
    /// The key, dotted; or the file.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub problem: String,
}

pub(super) fn wrong(key: impl Into<String>, problem: impl Into<String>) -> ConfigError {
    ConfigError { key: key.into(), problem: problem.into() }
}
