//! Which texts of the configuration are never shown: passwords, headers and their words, and what looks
//! like a key in the URLs of providers.

use url::Url;

use super::Config;
use crate::chain::secrets::{decoded, of_url};
use crate::domain::secrets::{Secrets, of_header};
use crate::store::DatabaseUrl;

impl Config {
    /// Every secret that it holds.
    pub fn secrets(&self) -> Secrets {
        let providers = self.chains.iter().flat_map(|chain| &chain.providers);
        let urls = providers.flat_map(|(p, _)| std::iter::once(&p.http).chain(p.ws.as_ref()));
        let mut secrets: Vec<String> = urls.flat_map(of_url).collect();
        let headers = self.oracle.headers.known().values().flatten();
        secrets.extend(headers.flat_map(|(_, value)| of_header(value)));
        let screening = self.screening.iter().flat_map(|screening| &screening.rules.headers.0);
        secrets.extend(screening.flat_map(|(_, value)| of_header(value)));
        let question =
            self.screening.iter().filter_map(|screening| screening.rules.question.as_ref());
        // The places where something is put in are no secrets.
        let urls = question.filter_map(|question| Url::parse(&question.filled("", "", "")).ok());
        secrets.extend(urls.flat_map(|url| of_url(&url)));
        if let DatabaseUrl::Postgres(url) = &self.database.url {
            secrets.extend(url.password().map(str::to_owned));
            secrets.extend(url.password().map(decoded));
        }
        Secrets::new(secrets)
    }
}
