//! Several daemons, one log: the sequencer is killed and put to sleep again and again, and another one goes on.

use topupd::store::LogState;
use topupd::tasks::sequence::SEQUENCE_TASK;

use super::*;

impl Stage {
    /// A key of the log that all daemons have.
    fn log_key(&self) {
        let key = self.net.dir.path().join("log.key");
        let made = Command::new(env!("CARGO_BIN_EXE_topupd"))
            .args(["log", "keygen", "--name", "example.com/several", "--out"])
            .arg(&key)
            .output()
            .unwrap();
        assert!(made.status.success());
        let path = self.net.config_path();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}\n[log]\nkey_file = {key:?}\n")).unwrap();
    }

    async fn log_state(&self) -> Option<LogState> {
        self.store.log_state().await.ok()
    }

    /// The lease on the log, once one of these daemons has it.
    async fn sequencer(&self) -> LeaseRow {
        let mut found = None;
        until("somebody adds to the log", async || {
            let leases = self.store.leases().await.unwrap_or_default();
            let now_ms = self.store.clock_ms().await.unwrap_or(0);
            found = leases
                .into_iter()
                .find(|l| l.lease.task == SEQUENCE_TASK && l.left_ms(now_ms) > Some(0));
            if found.is_some() { Ok(()) } else { Err(()) }
        })
        .await;
        found.unwrap()
    }

    /// Waits until the log is longer than it is now.
    async fn log_grows(&self) {
        let size = async || self.log_state().await.map_or(0, |state| state.head.size);
        let from = size().await;
        until("the log grows", async || {
            let now = size().await;
            if now > from { Ok(()) } else { Err((from, now)) }
        })
        .await;
    }

    async fn all_logged(&self) {
        until("all logged", async || match self.store.log_waiting().await {
            Ok((0, 0)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        let verified = self.store.verify_log(None).await.unwrap().unwrap();
        assert!(verified.is_signed && verified.waiting == 0, "{verified:?}");
        let kept = std::fs::read_to_string(self.net.dir.path().join("log.key.checkpoint")).unwrap();
        let signed = self.log_state().await.unwrap().checkpoint.unwrap().to_string();
        // Both daemons keep it beside the same key here.
        assert_eq!(kept, signed);
        let open = self.store.findings(100).await.unwrap();
        let about: Vec<_> = open.iter().filter(|f| f.kind.starts_with("log_")).collect();
        assert!(about.is_empty(), "{about:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sequencer_is_killed_and_put_to_sleep_again_and_again() {
    let stage = Stage::new().await;
    stage.log_key();
    let mut daemons = [("a", stage.daemon("a")), ("b", stage.daemon("b"))];
    let payer = Payer::start(&stage.net, 21);
    let mut random = fastrand::Rng::with_seed(22);
    for round in 0..6 {
        stage.log_grows().await;
        let before = stage.sequencer().await;
        tokio::time::sleep(Duration::from_millis(random.u64(0..300))).await;
        let at = daemons.iter().position(|(name, _)| named(&before, name)).unwrap();
        let (name, daemon) = &mut daemons[at];
        if round % 2 == 0 {
            daemon.kill();
            stage.log_grows().await;
            *daemon = stage.daemon(name);
        } else {
            daemon.tell("-STOP");
            until("taken over", async || {
                let now = stage.sequencer().await;
                if now.lease.token > before.lease.token { Ok(()) } else { Err(now) }
            })
            .await;
            stage.log_grows().await;
            daemon.tell("-CONT");
            // It wakes up within its round, and its token is worth nothing.
            stage.log_grows().await;
        }
        stage.store.verify_log(None).await.unwrap().unwrap();
    }
    let paid = payer.stop().await;
    stage.all_credited(&paid).await;
    stage.all_logged().await;
}
