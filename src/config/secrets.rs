//! Which texts of the configuration are never shown: passwords, headers, and what looks like a key in
//! the URLs of providers.

use url::Url;

use super::Config;
use crate::chain::secrets::{decoded, of_url};
use crate::store::DatabaseUrl;

/// Shorter texts stand in everything that is written.
const SHORTEST: usize = 4;

impl Config {
    /// Every secret that it holds.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        let providers = self.chains.iter().flat_map(|chain| &chain.providers);
        let urls = providers.flat_map(|(p, _)| std::iter::once(&p.http).chain(p.ws.as_ref()));
        let mut secrets: Vec<String> = urls.flat_map(of_url).collect();
        let headers = self.oracle.headers.0.values().flatten();
        secrets.extend(headers.map(|(_, value)| value.clone()));
        let screening = self.screening.iter().flat_map(|screening| screening.screen.headers());
        secrets.extend(screening.map(|(_, value)| value.clone()));
        let question = self.screening.iter().filter_map(|screening| screening.question.as_ref());
        let urls = question.filter_map(|question| Url::parse(&question.url).ok());
        secrets.extend(urls.flat_map(|url| of_url(&url)));
        if let DatabaseUrl::Postgres(url) = &self.database.url {
            secrets.extend(url.password().map(str::to_owned));
            secrets.extend(url.password().map(decoded));
        }
        secrets.retain(|secret| secret.len() >= SHORTEST);
        secrets
    }
}
