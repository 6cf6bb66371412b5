//! Who is asked first, in tables.

use super::*;
use crate::chain::scripted::ScriptedChain;

fn pool() -> Pool<ScriptedChain> {
    let named = |name| ScriptedChain::named(name, 0);
    Pool::admitted(["a", "b", "c"].map(named))
}

fn names(pool: &Pool<ScriptedChain>, now_ms: i64) -> String {
    let order = pool.order(now_ms);
    let names: Vec<_> = order.iter().map(|s| s.provider()).collect();
    names.join(" ")
}

fn failure(retry_after_ms: Option<u64>, limited: bool) -> SourceError {
    let (provider, why) = ("a".to_owned(), String::new());
    if limited {
        SourceError::RateLimited { provider, why, retry_after_ms }
    } else {
        SourceError::Unavailable { provider, method: "m", why }
    }
}

#[test]
fn those_that_fail_are_asked_last_and_those_that_limit_their_rate_not_at_all() {
    let pool = pool();
    let a = pool.all().next().unwrap();
    assert_eq!(names(&pool, 0), "a b c");
    pool.record_failure(a, &failure(None, false), 0);
    assert_eq!(names(&pool, 0), "b c a");
    assert_eq!(names(&pool, REST_MS), "a b c", "it has rested");
    pool.good(a);
    pool.record_failure(a, &failure(Some(5_000), true), 0);
    assert_eq!(names(&pool, 4_999), "b c");
    assert_eq!(names(&pool, 5_000), "a b c");
    for _ in 0..100 {
        pool.record_failure(a, &failure(Some(u64::MAX), true), 0);
    }
    assert_eq!(names(&pool, REST_MAX_MS), "a b c", "every pause ends");
}

#[test]
fn those_set_aside_are_asked_after_those_that_only_failed() {
    let pool = pool();
    let (a, b) = (pool.all().next().unwrap(), pool.all().nth(1).unwrap());
    pool.set_aside(a, Some(Aside::Behind { at: 1, of: 9 }));
    pool.record_failure(b, &failure(None, false), 0);
    assert_eq!(names(&pool, 0), "c b a");
    assert_eq!(pool.others(0, Some("c")).len(), 2);
    pool.set_aside(a, None);
    assert_eq!(names(&pool, REST_MS), "a b c");
}

#[test]
fn nobody_is_asked_before_being_admitted() {
    let pool = Pool::new([(ScriptedChain::named("a", 0), 1)]);
    assert!(pool.order(0).is_empty());
    let a = pool.all().next().unwrap();
    pool.refuse(a, "chain id: 5".into(), true);
    assert!(pool.all_wrong() && pool.order(0).is_empty());
    assert_eq!(pool.standings(0)[0].state, "not admitted: chain id: 5");
    pool.admit(a, String::new(), BTreeMap::new(), 0);
    assert_eq!((names(&pool, 0).as_str(), pool.all_wrong()), ("a", false));
}

#[test]
fn one_that_was_away_is_checked_again() {
    let pool = Pool::new([(ScriptedChain::named("a", 0), 1)]);
    let a = pool.all().next().unwrap();
    pool.admit(a, String::new(), BTreeMap::new(), 0);
    for _ in 0..9 {
        pool.record_failure(a, &failure(None, true), 0);
    }
    pool.good(a);
    for asked in [true, true, false] {
        pool.record_failure(a, &failure(None, false), 0);
        assert_eq!(pool.is_admitted(a), asked);
    }
    pool.admit(a, String::new(), BTreeMap::new(), 0);
    assert_eq!(names(&pool, REST_MAX_MS), "a");
}
