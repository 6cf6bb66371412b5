//! All that is written goes by the database's clock, and so do the leases: what somebody does to a
//! daemon's clock changes nothing, and is said.

use super::*;
use crate::local_chain::binary::{text, topupd};
use crate::local_chain::clock::{DAY, WrongClocks};

impl Stage {
    /// Starts a daemon whose clock is off.
    fn daemon_off(&self, clocks: &WrongClocks, name: &str, seconds: i64) -> Running {
        clocks.set_off(name, seconds);
        self.daemon_with(name, |command| clocks.give(command, name))
    }

    /// Waits for so many credits, or more.
    async fn credits(&self, wanted: usize) {
        let mut sql = self.net.database.sql().await;
        until(&format!("{wanted} credits"), async || {
            match sql.ints("SELECT seq FROM credits").await.len() {
                n if n >= wanted => Ok(()),
                n => Err(n),
            }
        })
        .await;
    }

    /// Waits until a daemon has said this so many times.
    async fn said(&self, name: &str, what: &str, times: usize) {
        until(what, async || {
            let log = self.log(name);
            if log.matches(what).count() >= times { Ok(()) } else { Err(log) }
        })
        .await;
        assert_eq!(self.log(name).matches(what).count(), times, "{}", self.log(name));
    }
}

/// Nobody takes a lease before it has run out by the database's clock. On a busy machine its holder may
/// renew it too late; then the other one may have it.
async fn never_taken_early(stage: &Stage, off: i64) {
    let mut last = stage.lease().await.unwrap();
    let watched = Instant::now();
    while watched.elapsed() < LEASE * 2 {
        let now = stage.lease().await.unwrap();
        if now.lease != last.lease {
            assert!(now.lease.acquired_at_ms >= last.expires_at_ms, "{off}: {last:?}, {now:?}");
        }
        last = now;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ten_minutes_off_changes_nothing() {
    for off in [600, -600] {
        let stage = Stage::new().await;
        let clocks = WrongClocks::new(stage.net.dir.path());
        let payer = Payer::start(&stage.net, 9);
        let b = stage.daemon("b");
        let held = stage.held_by("b").await;
        let mut a = stage.daemon_off(&clocks, "a", off);
        stage.present("a", 0).await;
        stage.said("a", "clock differs from the database's", 1).await;
        // While b is at work, a waits, however late it believes it is.
        never_taken_early(&stage, off).await;
        // When b dies, a takes over in time, and keeps the lease against a new b.
        let killed = Instant::now();
        drop(b);
        let taken = stage.taken_over(&held, killed).await;
        print_times("takeover by the wrong clock", vec![taken]);
        stage.held_by("a").await;
        let b = stage.daemon("b");
        never_taken_early(&stage, off).await;
        stage.goes_on().await;
        let paid = payer.stop().await;
        stage.all_credited(&paid).await;
        assert!(a.0.try_wait().unwrap().is_none());
        drop(b);
    }
}

/// Columns with times of other things than when a row was written.
const OF_OTHER_THINGS: [&str; 2] = ["epochs.starts_at_ms", "records.effective_at_ms"];

/// Every time in the database, by table and column, but for zeros, which the tests write.
async fn all_times(stage: &Stage) -> Vec<(String, i64)> {
    let mut sql = stage.net.database.sql().await;
    let columns = sql
        .texts(
            "SELECT table_name || '.' || column_name FROM information_schema.columns
             WHERE table_schema = 'public' AND data_type = 'bigint'
               AND (column_name LIKE '%at\\_ms' OR column_name LIKE '%since\\_ms')
             ORDER BY 1",
        )
        .await;
    let mut times = Vec::new();
    for column in columns.into_iter().filter(|c| !OF_OTHER_THINGS.contains(&c.as_str())) {
        let (table, name) = column.split_once('.').unwrap();
        let read = format!("SELECT {name} FROM {table} WHERE {name} > 1000000000000");
        times.extend(sql.ints(&read).await.into_iter().map(|row| (column.clone(), row[0])));
    }
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn what_daemons_of_two_days_write_is_dated_by_the_database() {
    const DIFFERS: &str = "clock differs from the database's";
    const MINUTES: i64 = 20 * 60_000;
    let stage = Stage::new().await;
    let clocks = WrongClocks::new(stage.net.dir.path());
    let began = stage.store.clock_ms().await.unwrap();
    let payer = Payer::start(&stage.net, 21);
    let a = stage.daemon_off(&clocks, "a", DAY);
    stage.held_by("a").await;
    let b = stage.daemon_off(&clocks, "b", -DAY);
    stage.said("a", DIFFERS, 1).await;
    stage.said("b", DIFFERS, 1).await;
    stage.credits(5).await;
    // Somebody whose clock is a day late registers, and sets his clock right while his daemon runs.
    let mut add = Command::new(env!("CARGO_BIN_EXE_topupd"));
    add.args(["namespace", "add", "third", "--config"]).arg(stage.net.config_path());
    clocks.give(&mut add, "b");
    assert!(add.output().unwrap().status.success());
    clocks.set_off("a", 0);
    stage.said("a", "agrees with the database's again", 1).await;
    clocks.set_off("a", 2 * DAY);
    stage.said("a", DIFFERS, 2).await;
    drop(a);
    stage.held_by("b").await;
    stage.goes_on().await;
    let paid = payer.stop().await;
    stage.all_credited(&paid).await;
    let ended = stage.store.clock_ms().await.unwrap();
    drop(b);
    // What happened is said once, however long it lasts.
    stage.said("a", DIFFERS, 2).await;
    stage.said("b", DIFFERS, 1).await;
    let times = all_times(&stage).await;
    // An event is in one table until it has its number, and in another then.
    for columns in [&["events_new.at_ms", "events.at_ms"][..], &["deposits.updated_at_ms"]] {
        let is_of = |column: &String| columns.contains(&column.as_str());
        let mut of_columns = times.iter().filter(|(c, _)| is_of(c)).map(|(_, at)| *at).peekable();
        assert!(of_columns.peek().is_some(), "{columns:?}");
        assert!(of_columns.all(|at| (began..=ended).contains(&at)), "{columns:?}: {times:?}");
    }
    let third = times.iter().filter(|(c, _)| c == "namespaces.created_at_ms");
    assert_eq!(third.count(), 1);
    let near = began - MINUTES..=ended + MINUTES;
    let far: Vec<_> = times.iter().filter(|(_, at)| !near.contains(at)).collect();
    assert!(far.is_empty(), "{far:?}");
}

/// The server's clock, as statements see it, is another one from now on.
async fn set_server(sql: &mut Sql, seconds: i64) {
    sql.execute(&format!("UPDATE test_clock.off SET seconds = {seconds}")).await.unwrap();
}

/// Has the server's clock be one that can be set.
async fn settable(stage: &Stage) -> crate::database::Sql {
    let mut sql = stage.net.database.sql().await;
    // Names are looked for in this order: the clock that is read is ours.
    let url = url::Url::parse(stage.net.database.url()).unwrap();
    for statement in [
        "CREATE SCHEMA test_clock",
        "CREATE TABLE test_clock.off (seconds BIGINT)",
        "INSERT INTO test_clock.off VALUES (0)",
        "CREATE FUNCTION test_clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
         'SELECT pg_catalog.clock_timestamp() + make_interval(secs => seconds) FROM test_clock.off'",
        &format!(
            "ALTER DATABASE {} SET search_path = public, test_clock, pg_catalog",
            url.path().trim_matches('/')
        ),
    ] {
        sql.execute(statement).await.unwrap();
    }
    sql
}

/// A lease that was renewed before would last for an hour: its holder is dead, and nobody waits so long.
#[tokio::test(flavor = "multi_thread")]
async fn the_holder_dies_and_the_databases_clock_is_set_back() {
    let stage = Stage::new().await;
    let mut sql = settable(&stage).await;
    set_server(&mut sql, 3_600).await;
    let mut a = stage.daemon("a");
    let before = stage.held_by("a").await;
    let _b = stage.daemon("b");
    stage.present("b", 0).await;
    a.kill();
    set_server(&mut sql, 0).await;
    let status = topupd(&stage.net, &["status"]);
    let out = text(&status.stdout);
    let line = out.lines().find(|line| line.starts_with("a-")).unwrap_or_default();
    assert!(line.contains("gone"), "{out}");
    let began = Instant::now();
    stage.taken_over(&before, began).await;
    stage.held_by("b").await;
    stage.net.dev.mine(1).await.unwrap();
    until_followed(&stage.net, &stage.store).await;
    println!("taken over after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_whose_clock_is_set_back_is_said_and_dates_no_record_before_another() {
    let stage = Stage::new().await;
    let mut sql = settable(&stage).await;
    let mut a = stage.daemon("a");
    stage.held_by("a").await;
    let payer = Payer::start(&stage.net, 22);
    stage.credits(5).await;
    let recorded = "SELECT recorded_at_ms FROM records WHERE kind = 'deposit_credited' AND journal_id = 1 ORDER BY seq";
    let before = sql.ints(recorded).await;
    set_server(&mut sql, -3_600).await;
    stage.said("a", "the database's clock jumped", 1).await;
    stage.credits(before.len() + 5).await;
    stage.goes_on().await;
    stage.said("a", "the database's clock jumped", 1).await;
    stage.said("a", "the database's clock is behind the last record of a journal", 1).await;
    stage.said("a", "clock differs from the database's", 1).await;
    set_server(&mut sql, 0).await;
    stage.said("a", "the database's clock jumped", 2).await;
    let paid = payer.stop().await;
    stage.all_credited(&paid).await;
    let rows = sql.ints(recorded).await;
    assert!(rows.is_sorted(), "{rows:?}");
    assert!(rows.last() > before.last(), "{rows:?}");
    assert!(a.0.try_wait().unwrap().is_none());
}
