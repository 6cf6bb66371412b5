//! The loop with steps that are told what to come to, in a time that stands still until everybody waits: each outcome
//! with each thing that may happen meanwhile.

use tokio::sync::watch;

use super::*;

mod scene;
use scene::{Done, HOUR, Scene, lease, ms};

/// What may happen 10 ms after the first step, while the loop waits.
#[derive(Debug, Clone, Copy)]
enum Event {
    Nothing,
    Poke,
    LeaseGone,
    NewLease,
    DatabaseBack,
    Stop,
}

fn idle() -> Done {
    Ok(Step::new(Next::Tick(ms(1_000))))
}

fn soon() -> Done {
    Ok(Step::new(Next::Soon(ms(1_000))))
}

fn waits() -> Done {
    Ok(Step::new(Next::Soon(ms(1_000))).waits(Trouble::new("it waits", &"for rain")))
}

fn other(why: &str) -> Done {
    Err(Failure::other(&why))
}

fn failed() -> Done {
    other("the provider hung up")
}

fn database() -> Done {
    Err(Failure::Database { why: "the disk is full".into(), is_away: false })
}

fn lease_lost() -> Done {
    Err(Failure::LeaseLost("the lease is held by another one".into()))
}

fn outdated() -> Done {
    Err(Failure::Outdated("the database has 2 epochs".into()))
}

fn barred() -> Done {
    Err(Failure::Barred(Trouble::new("the log does not go on", &"another key")))
}

/// When the second step is taken: within this, or never.
type When = Option<(u64, u64)>;
const AT_ONCE: When = Some((0, 0));
const AT_EVENT: When = Some((10, 10));
const NEVER: When = None;
/// The first pause, with its jitter.
const FIRST_PAUSE: When = Some((100, 200));
const TICK: When = Some((1_000, 1_000));

#[tokio::test(start_paused = true)]
async fn each_outcome_with_each_event() {
    use Event::{DatabaseBack, LeaseGone, NewLease, Nothing, Poke, Stop};
    type Row = (&'static str, fn() -> Done, [(Event, When); 6]);
    let now: fn() -> Done = || Ok(Step::new(Next::Now));
    let all = |nothing, poke, gone, new, back, stop| {
        [
            (Nothing, nothing),
            (Poke, poke),
            (LeaseGone, gone),
            (NewLease, new),
            (DatabaseBack, back),
            (Stop, stop),
        ]
    };
    let at_30_s = Some((30_000, 30_000));
    let rows: [Row; 9] = [
        ("now", now, all(AT_ONCE, AT_ONCE, AT_ONCE, AT_ONCE, AT_ONCE, AT_ONCE)),
        ("tick", idle, all(TICK, AT_EVENT, NEVER, TICK, TICK, NEVER)),
        ("soon", soon, all(FIRST_PAUSE, AT_EVENT, NEVER, FIRST_PAUSE, FIRST_PAUSE, NEVER)),
        ("waits", waits, all(FIRST_PAUSE, AT_EVENT, NEVER, FIRST_PAUSE, FIRST_PAUSE, NEVER)),
        ("failed", failed, all(FIRST_PAUSE, FIRST_PAUSE, NEVER, FIRST_PAUSE, FIRST_PAUSE, NEVER)),
        ("database", database, all(NEVER, NEVER, NEVER, NEVER, FIRST_PAUSE, NEVER)),
        ("lease lost", lease_lost, all(at_30_s, at_30_s, NEVER, AT_EVENT, at_30_s, NEVER)),
        ("outdated", outdated, all(NEVER, NEVER, NEVER, NEVER, NEVER, NEVER)),
        // The keeper gives it back, or did and took it again.
        ("barred", barred, all(at_30_s, at_30_s, NEVER, AT_EVENT, at_30_s, NEVER)),
    ];
    for (name, outcome, events) in rows {
        for (event, when) in events {
            let case = format!("{name}, {event:?}");
            let mut scene = Scene::new([outcome()]);
            scene.start(Some(1));
            scene.at(ms(10)).await;
            match event {
                Nothing => {}
                Poke => scene.poke.notify_one(),
                LeaseGone => drop(scene.lease.send_replace(None)),
                NewLease => drop(scene.lease.send_replace(Some(lease(2)))),
                DatabaseBack => scene.health.found(Who::Task),
                Stop => scene.stop.cancel(),
            }
            scene.at(ms(40_000)).await;
            let (steps, is_over) = (scene.steps(), scene.is_over());
            assert_eq!(steps[0], Duration::ZERO, "{case}");
            let second = steps.get(1).map(|at| at.as_millis());
            let is_right = match when {
                None => second.is_none(),
                Some((from, to)) => {
                    second.is_some_and(|at| (u128::from(from)..=u128::from(to)).contains(&at))
                }
            };
            assert!(is_right, "{case}: {steps:?}, not {when:?}");
            assert_eq!(is_over, matches!(event, Stop), "{case}");
            let is_given_back = matches!(name, "outdated" | "barred");
            let may_again = name == "barred" && matches!(event, LeaseGone);
            assert_eq!(scene.seat.is_wanted(), !is_given_back || may_again, "{case}");
            let begun =
                if matches!((event, second), (NewLease, Some(_))) && name != "now" { 2 } else { 1 };
            assert_eq!(*scene.begun.lock().unwrap(), begun, "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_poke_while_a_step_runs_is_not_lost() {
    for (outcome, second) in [(idle(), 100..=100), (failed(), 200..=300)] {
        let mut scene = Scene::new([outcome]);
        scene.script().takes = ms(100);
        scene.start(Some(1));
        scene.at(ms(50)).await;
        // Two are one.
        scene.poke.notify_one();
        scene.poke.notify_one();
        scene.at(HOUR / 2).await;
        let steps = scene.steps();
        assert!(second.contains(&steps[1].as_millis()), "{steps:?}, not {second:?}");
        // Where nothing wakes the pause, the poke counts afterwards: there may be something new since.
        let more = usize::from(!second.contains(&100));
        assert_eq!(steps.len(), 2 + more, "{steps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn pokes_end_the_pause_of_who_wants_it() {
    let mut scene = Scene::new([failed(), failed()]);
    scene.is_poked_in_trouble = true;
    scene.start(Some(1));
    for at in [10, 20] {
        scene.at(ms(at)).await;
        scene.poke.notify_one();
    }
    scene.at(ms(30)).await;
    assert_eq!(scene.steps(), [ms(0), ms(10), ms(20)]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_the_step_finish_and_takes_no_other() {
    for outcome in
        [idle(), Ok(Step::new(Next::Now)), failed(), database(), lease_lost(), outdated()]
    {
        let case = format!("{outcome:?}");
        let mut scene = Scene::new([outcome]);
        scene.script().takes = ms(100);
        scene.start(Some(1));
        scene.at(ms(50)).await;
        scene.stop.cancel();
        scene.at(ms(99)).await;
        assert!(!scene.is_over(), "{case}: left in the middle of its step");
        scene.at(ms(101)).await;
        assert!(scene.is_over(), "{case}: it goes on");
        assert_eq!((scene.steps().len(), scene.notes.all().ended), (1, 1), "{case}");
    }
    // Nor does it wait for a lease, or for a database.
    for is_lost in [false, true] {
        let mut scene = Scene::new([]);
        if is_lost {
            scene.health.lost("away", Who::Keeper);
        }
        scene.start(is_lost.then_some(1));
        scene.at(ms(50)).await;
        scene.stop.cancel();
        scene.at(ms(51)).await;
        assert!(scene.is_over() && scene.steps().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_while_it_fails_and_begin_anew_when_it_does_not() {
    let mut outcomes: Vec<Done> = (0..12).map(|_| failed()).collect();
    outcomes.push(Ok(Step::new(Next::Now)));
    outcomes.push(failed());
    let mut scene = Scene::new(outcomes);
    scene.start(Some(1));
    scene.at(HOUR / 2).await;
    let steps = scene.steps();
    let pauses: Vec<u128> = steps.windows(2).map(|w| (w[1] - w[0]).as_millis()).collect();
    for (i, least) in [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600].iter().enumerate() {
        assert!((*least..=*least * 2).contains(&pauses[i]), "{i}: {pauses:?}");
    }
    assert!(pauses[..12].iter().all(|pause| *pause <= PAUSE_MAX.as_millis()), "{pauses:?}");
    assert_eq!(pauses[12], 0);
    assert!((100..=200).contains(&pauses[13]), "{pauses:?}");
    // What only waits grows too, up to its own bound.
    let mut scene = Scene::new((0..8).map(|_| soon()));
    scene.start(Some(1));
    scene.at(HOUR / 2).await;
    let steps = scene.steps();
    assert_eq!(steps[8] - steps[7], ms(1_000));
    // And so does what is to be left alone for a while.
    let mut scene = Scene::new([failed(), failed(), database()]);
    scene.pauses = (ms(3_000), ms(3_000));
    scene.start(Some(1));
    scene.at(ms(6_500)).await;
    scene.health.found(Who::Task);
    scene.at(HOUR / 2).await;
    assert_eq!(scene.steps(), [0, 3_000, 6_000, 9_000].map(ms));
    // With a database that cannot be used, it is tried soon, whenever that may be tried.
    let mut scene = Scene::new((0..8).map(|_| database()));
    scene.start(Some(1));
    for at in 1..400 {
        scene.at(ms(at * 100)).await;
        scene.health.found(Who::Keeper);
    }
    let steps = scene.steps();
    assert_eq!(steps.len(), 9);
    assert!(steps.windows(2).all(|w| w[1] - w[0] <= ms(2_100)), "{steps:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_said_once_and_again_when_its_reason_changes_or_it_lasts() {
    let failing = |outcomes: Box<dyn Iterator<Item = Done>>| {
        let mut scene = Scene::new(outcomes);
        scene.pauses.1 = ms(1_000);
        scene.start(Some(1));
        scene
    };
    // Some 20 s of one reason, 20 s of another one, and then it works.
    let (one, two) = ((0..24).map(|_| other("one")), (0..20).map(|_| other("two")));
    let scene = failing(Box::new(one.chain(two)));
    scene.at(ms(10)).await;
    assert_eq!(scene.notes.lines("working failed; trying again"), 1);
    scene.at(HOUR / 2).await;
    assert_eq!((scene.notes.lines("one"), scene.notes.lines("two")), (1, 1));
    assert_eq!(scene.notes.lines("WARN"), 2);
    assert_eq!(scene.notes.lines("working goes on"), 1);
    assert_eq!(scene.notes.lines("chain.name=\"local\""), 3);

    // Reasons that change at every turn are not said at every turn.
    let scene = failing(Box::new((0..25).map(|i| other(&format!("reason {i}")))));
    scene.at(HOUR / 2).await;
    let said = scene.notes.lines("reason");
    assert!((3..=6).contains(&said), "{said}");

    // Nor is what fails at every second turn.
    let by_turns = (0..100).map(|i| if i % 2 == 0 { other("one") } else { idle() });
    let scene = failing(Box::new(by_turns));
    scene.at(HOUR / 2).await;
    assert!((8..=12).contains(&scene.notes.lines("one")), "{}", scene.notes.lines("one"));
    assert_eq!(scene.notes.lines("one"), scene.notes.lines("working goes on"));

    // What lasts for a quarter of an hour is said every five minutes.
    let scene = failing(Box::new((0..900).map(|_| other("one"))));
    scene.at(ms(880_000)).await;
    assert_eq!(scene.notes.lines("one"), 3);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_said_when_its_patience_is_over() {
    let waits = |is_error| {
        let trouble = Trouble::new("the chain waits", &"for a second word");
        let trouble = Trouble { patience: ms(10_000), block: Some(7), is_error, ..trouble };
        Ok(Step::new(Next::Tick(ms(1_000))).waits(trouble))
    };
    // Nine seconds are nothing, and leave nothing: the second time is a new one.
    let short = (0..10).map(|_| waits(false)).chain([idle()]);
    let mut scene = Scene::new(short.chain((0..9).map(|_| waits(false))));
    scene.start(Some(1));
    scene.at(HOUR / 2).await;
    assert_eq!(scene.notes.lines(""), 0);
    for (is_error, level) in [(false, "WARN"), (true, "ERROR")] {
        let mut scene = Scene::new((0..15).map(|_| waits(is_error)));
        scene.start(Some(1));
        scene.at(ms(9_500)).await;
        assert_eq!(scene.notes.lines(""), 0);
        scene.at(HOUR / 2).await;
        assert_eq!(scene.notes.lines("the chain waits"), 1);
        assert_eq!(scene.notes.lines(level), 1);
        assert_eq!(scene.notes.lines("block.number=7 why=\"for a second word\""), 1);
        assert_eq!(scene.notes.lines("working goes on"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_about_the_lease_is_said_once() {
    let mut scene = Scene::new([]);
    // All tasks of a chain find the same.
    for _ in 0..3 {
        scene.script = Some(scene.script_of([outdated()]));
        scene.start(Some(1));
    }
    scene.at(ms(100)).await;
    assert_eq!(scene.notes.lines("this daemon leaves the chain to others"), 1);
    assert_eq!((scene.notes.lines(""), scene.notes.lines("ERROR")), (1, 1));
    let mut scene = Scene::new([lease_lost(), lease_lost()]);
    scene.start(Some(1));
    scene.at(ms(10)).await;
    scene.lease.send_replace(None);
    scene.at(ms(20)).await;
    scene.lease.send_replace(Some(lease(2)));
    scene.at(ms(30)).await;
    assert_eq!(scene.notes.lines("nothing is written"), 2);
    assert_eq!(scene.notes.lines("failed"), 0);
}

#[tokio::test(start_paused = true)]
async fn who_may_not_hold_the_lease_asks_for_none_and_looks_again() {
    let refused = || Err(Failure::Barred(Trouble::new("it stands", &"another key")));
    let mut scene = Scene::new([]);
    scene.script().may_hold = [refused(), refused(), refused()].into();
    scene.seat.bar(true);
    scene.start(None);
    for (at, is_wanted) in [(10, false), (2_010, false), (4_010, false), (6_010, true)] {
        scene.at(ms(at)).await;
        assert_eq!(scene.seat.is_wanted(), is_wanted, "{at} ms");
    }
    assert_eq!(scene.notes.lines("it stands"), 1);
    scene.lease.send_replace(Some(lease(1)));
    scene.at(ms(6_020)).await;
    assert_eq!(scene.steps(), [ms(6_010)]);
    assert_eq!(scene.notes.lines("working goes on"), 1);

    // One that cannot be asked is no reason to leave it to others.
    for failure in [Failure::other(&"odd"), Failure::Database { why: "away".into(), is_away: true }]
    {
        let mut scene = Scene::new([]);
        scene.script().may_hold = [Err(failure)].into();
        scene.seat.bar(true);
        scene.start(None);
        scene.at(ms(10)).await;
        assert!(scene.seat.is_wanted());
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_shows_that_the_database_works() {
    for (committed, is_degraded) in [(true, false), (false, true)] {
        let mut scene = Scene::new([database(), Ok(Step::new(Next::Now).committed(committed))]);
        scene.start(Some(1));
        scene.at(ms(10)).await;
        assert!(scene.health.degraded().is_some());
        // The keeper's row may succeed where a task's commit does not.
        scene.health.found(Who::Keeper);
        scene.at(ms(1_000)).await;
        assert_eq!(scene.steps().len(), 3);
        assert_eq!(scene.health.degraded().is_some(), is_degraded);
        assert_eq!(scene.notes.lines("degraded"), 1);
        assert_eq!(scene.notes.lines("the database is back"), usize::from(committed));
    }
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_keeper() {
    for token in [None, Some(1)] {
        let mut scene = Scene::new([lease_lost()]);
        scene.start(token);
        scene.at(ms(10)).await;
        assert!(!scene.is_over());
        drop(std::mem::replace(&mut scene.lease, watch::channel(None).0));
        scene.at(ms(20)).await;
        assert!(scene.is_over());
    }
}

/// What the store says, and what is done about it.
#[test]
fn an_error_of_the_store_is_what_is_done_about_it() {
    let fenced = StoreError::Fenced { task: "t".into(), holder: "b".into() };
    let outdated = StoreError::Outdated { stored: 2, configured: 1 };
    assert!(matches!(fenced.into(), Failure::LeaseLost(_)));
    assert!(matches!(StoreError::WentBack("x".into()).into(), Failure::LeaseLost(_)));
    assert!(matches!(outdated.into(), Failure::Outdated(_)));
    assert!(matches!(StoreError::Refused("x".into()).into(), Failure::Other { .. }));
    assert!(matches!(StoreError::Impossible("x".into()).into(), Failure::Other { .. }));
}
