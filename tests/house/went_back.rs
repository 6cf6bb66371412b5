//! A database that lost the commits of its last moment: what a process remembers of them is enough to notice it.

use topupd::domain::finding::FindingKind;
use topupd::store::StoreError;

use super::support::*;

/// Two commits in two journals were under way at once. The one that came last has the lower numbers, and the process
/// heard of it first: the newest record that it saw, and the newest that it wrote, are both still there.
#[tokio::test]
async fn a_commit_that_is_gone_is_noticed_though_newer_records_are_there() {
    let house = House::new(rules(1)).await;
    let store = &house.store;
    for (namespace, i) in [("acme", 50), ("bolt", 51)] {
        store.import_address(&name(namespace), address(i), GENESIS_MS).await.unwrap();
    }
    store.compare_now().await.unwrap();
    let mut sql = house.database.sql().await;
    sql.drop_guards().await;
    for gone in [
        "DELETE FROM addresses WHERE address_id =
           (SELECT MAX(address_id) FROM addresses WHERE namespace_id = 1)",
        "DELETE FROM unlogged WHERE journal_id = 1
           AND seq = (SELECT seq FROM journals WHERE journal_id = 1)",
        "DELETE FROM records WHERE journal_id = 1
           AND seq = (SELECT seq FROM journals WHERE journal_id = 1)",
        "UPDATE journals SET seq = seq - 1, addresses = addresses - 1, seal =
           (SELECT r.seal FROM records r WHERE r.journal_id = 1 AND r.seq = journals.seq - 1)
         WHERE journal_id = 1",
    ] {
        assert_eq!(sql.execute(gone).await.unwrap(), 1, "{gone}");
    }
    // Nothing in the database shows it.
    house.verify().await;
    let noticed = store.compare_now().await.unwrap_err();
    let StoreError::WentBack(what) = &noticed else { panic!("{noticed}") };
    assert!(what.starts_with("record ") && what.ends_with("is missing, or another one"), "{what}");
    store.look_at_server("a", GENESIS_MS).await.unwrap();
    let kind = FindingKind::DatabaseWentBack;
    let mut found = store.findings(10).await.unwrap();
    found.retain(|found| found.kind == kind.as_str());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].detail["missing"][0].as_str(), Some(what.as_str()), "{}", found[0].detail);
    // Said once; from here on it is as it is.
    store.compare_now().await.unwrap();
    assert_eq!(store.standing_findings(None, kind).await.unwrap().len(), 1);
}
