//! Who is asked before a payment is credited, as configured.

use std::path::PathBuf;
use std::time::Duration;

use crate::domain::screening::Question;

/// Who is asked before a payment is credited, as configured.
#[derive(Debug, Clone)]
pub struct ScreeningRules {
    /// The file of addresses.
    pub list: Option<PathBuf>,
    /// Whom to ask over HTTP.
    pub question: Option<Question>,
    /// Longest wait for an answer over HTTP.
    pub timeout: Duration,
    /// How long a payment waits for an answer before it is held.
    pub patience: Duration,
    /// Sent with each question.
    pub headers: SecretHeaders,
}

/// Headers that `Debug` does not show.
#[derive(Clone, Default)]
pub struct SecretHeaders(pub Vec<(String, String)>);

impl std::fmt::Debug for SecretHeaders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "({} headers)", self.0.len())
    }
}
