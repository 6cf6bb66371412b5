//! What the finding says of a database that went back: from where to where, and what is missing.

use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::finding::{FindingKind, NewFinding};
use crate::store::went_back::facts::{Facts, There};
use crate::store::went_back::recent::Lost;

/// What a finding says of it.
#[derive(Serialize)]
struct Detail<'a> {
    seen_by: &'a str,
    missing: &'a [String],
    from: Value,
    to: Value,
    #[serde(flatten)]
    lost: &'a Lost,
}

pub(crate) fn finding(
    seen: &Facts,
    now: &There,
    known: Option<&str>,
    lost: &Lost,
    (holder, now_ms): (&str, i64),
) -> NewFinding {
    let side = |facts: &Facts, server: Option<&str>| {
        json!({
            "server": server,
            "records": facts.records,
            "newest_record": facts.wrote.or(facts.head).map(|record| json!({
                "journal": record.place.journal, "seq": record.place.seq, "seal": record.seal,
            })),
            "newest_address": facts.address.map(|(id, of)| json!({ "id": id.0, "address": of })),
            "newest_namespace":
                facts.namespace.as_ref().map(|(id, name)| json!({ "id": id, "namespace": name })),
        })
    };
    // What the other daemon has noted already is not where this one comes from.
    let from = Some(seen.server.as_str()).filter(|server| !server.is_empty()).or(known);
    let detail = Detail {
        seen_by: holder,
        missing: &now.missing,
        from: side(seen, from),
        to: side(&now.facts, Some(&now.facts.server)),
        lost,
    };
    NewFinding {
        chain: None,
        kind: FindingKind::DatabaseWentBack,
        // Each time is a case of its own: what was explained the last time explains nothing now.
        subject: format!("{} {now_ms}", now.facts.server),
        detail: json!(detail),
    }
}
