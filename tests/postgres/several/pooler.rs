//! A pooler between daemon and server: one that shares sessions is refused and waited for, one that does not is used.
//!
//! PgBouncer itself where it is installed (`.ci/run` installs it), and the proxy beside this file everywhere.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use super::pooler_proxy::PoolerProxy;
use super::*;

/// A PgBouncer of one test.
struct Bouncer {
    program: PathBuf,
    dir: tempfile::TempDir,
    server: u16,
    port: u16,
    secret: String,
    /// It refuses to be root.
    is_root: bool,
    process: Option<Running>,
}

impl Bouncer {
    fn before(stage: &Stage) -> Option<Self> {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let folders =
            std::env::split_paths(&paths).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        let Some(program) = folders.map(|f| f.join("pgbouncer")).find(|p| p.is_file()) else {
            println!(
                "PgBouncer is not installed: only the proxy of the tests was tried as a pooler"
            );
            return None;
        };
        let url = url::Url::parse(stage.net.database.url()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let port =
            std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let secret = url.password().unwrap().to_owned();
        let is_root = std::os::unix::fs::MetadataExt::uid(&dir.path().metadata().unwrap()) == 0;
        Some(Self {
            program,
            dir,
            server: stage.server.port(),
            port,
            secret,
            is_root,
            process: None,
        })
    }

    /// Starts it, or starts it again, with these lines in its configuration.
    fn start(&mut self, lines: &str) {
        self.process = None;
        let path = |name: &str| self.dir.path().join(name);
        std::fs::write(path("users"), format!("\"topupd\" \"{}\"\n", self.secret)).unwrap();
        std::fs::write(
            path("ini"),
            format!(
                "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = users\n{lines}\n",
                self.server, self.port
            ),
        )
        .unwrap();
        let log = File::options().create(true).append(true).open(path("log")).unwrap();
        let mut command = Command::new(&self.program);
        command.arg("ini").current_dir(self.dir.path()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(log);
        if self.is_root {
            const NOBODY: u32 = 65_534;
            for entry in [self.dir.path().to_owned(), path("users"), path("ini")] {
                std::os::unix::fs::chown(entry, Some(NOBODY), Some(NOBODY)).unwrap();
            }
            command.uid(NOBODY).gid(NOBODY);
        }
        self.process = Some(Running(command.spawn().unwrap()));
    }
}

fn daemon(stage: &Stage, name: &str, url: &str) -> Running {
    stage.daemon_with(name, |command| {
        command.env("TOPUPD_DATABASE__URL", url);
    })
}

/// The daemon says it in its log after so many lines, and commands fail with it.
async fn waits_for_the_pooler(stage: &Stage, name: &str, url: &str, after: usize) {
    until("said", async || {
        let log = stage.log(name);
        let said = |line: &str| line.contains("degraded: ") && line.contains("a pooler, such as");
        if log.lines().skip(after).any(said) { Ok(()) } else { Err(log) }
    })
    .await;
    for arguments in
        [&["status"][..], &["ledger", "verify"], &["migrate"], &["namespace", "add", "new"]]
    {
        let out = topupd_at(stage, url, arguments);
        let error = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(error.contains("pool_mode = session") && error.lines().count() == 1, "{error}");
    }
}

/// What a session of the server was set to that others may have by now.
async fn left_behind(url: &str) -> Vec<String> {
    let mut sql = Sql::connect(url).await;
    sql.texts("SELECT current_setting('enable_seqscan') || COALESCE(current_setting('topupd.session', true), '')")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_shares_sessions_is_refused_and_waited_for() {
    let stage = Stage::new().await;
    let proxy = PoolerProxy::to(stage.server.port()).await;
    let url = at_port(stage.net.database.url(), proxy.port);
    let mut a = daemon(&stage, "a", &url);
    waits_for_the_pooler(&stage, "a", &url, 0).await;
    assert!(a.0.try_wait().unwrap().is_none());
    proxy.shares.store(false, Ordering::SeqCst);
    let pay =
        async || (stage.net.pay(0, stage.net.tokens.usdc, stage.net.addresses[0], 5).await, 5);
    let mut paid = vec![pay().await];
    stage.held_by("a").await;
    stage.all_credited(&paid).await;
    assert!(stage.log("a").contains("the database is back"), "{}", stage.log("a"));

    // And where it begins to share them under a daemon that is at work.
    proxy.shares.store(true, Ordering::SeqCst);
    let lines = stage.log("a").lines().count();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'topupd a-%'";
    stage.net.database.sql().await.execute(cut).await.unwrap();
    waits_for_the_pooler(&stage, "a", &url, lines).await;
    proxy.shares.store(false, Ordering::SeqCst);
    paid.push(pay().await);
    stage.all_credited(&paid).await;
    assert!(a.0.try_wait().unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_in_transaction_mode_is_refused_and_waited_for() {
    let stage = Stage::new().await;
    let Some(mut bouncer) = Bouncer::before(&stage) else { return };
    let url = at_port(stage.net.database.url(), bouncer.port);
    let mut paid = Vec::new();
    for (i, (mode, more)) in [
        ("transaction", ""),
        ("transaction", "ignore_startup_parameters = extra_float_digits, options"),
        ("transaction", "default_pool_size = 1"),
        ("transaction", "server_round_robin = 1\nmin_pool_size = 4"),
        ("statement", "ignore_startup_parameters = options"),
    ]
    .iter()
    .enumerate()
    {
        bouncer.start(&format!("pool_mode = {mode}\n{more}"));
        let name = format!("d{i}");
        let mut running = daemon(&stage, &name, &url);
        waits_for_the_pooler(&stage, &name, &url, 0).await;
        if more.contains("extra_float_digits") {
            assert_eq!(left_behind(&url).await, ["on"], "{more}");
        }
        assert!(running.0.try_wait().unwrap().is_none());
        let session = more.replace("default_pool_size = 1", "");
        bouncer.start(&format!("pool_mode = session\n{session}"));
        paid.push((stage.net.pay(0, stage.net.tokens.usdc, stage.net.addresses[0], 5).await, 5));
        stage.held_by(&name).await;
        stage.all_credited(&paid).await;
        assert!(running.0.try_wait().unwrap().is_none());
    }
}

/// As Debian installs it, but for the mode.
#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_in_session_mode_is_like_the_server() {
    let all = ("log_statement".to_owned(), "all".to_owned());
    let options = PostgresOptions { settings: vec![all], ..PostgresOptions::default() };
    let stage = Stage::with(options).await;
    let Some(mut bouncer) = Bouncer::before(&stage) else { return };
    bouncer.start("pool_mode = session");
    let url = at_port(stage.net.database.url(), bouncer.port);
    // An empty database is brought up to date through it.
    let empty = TestDatabase::on_server(stage.server.url("postgres"), "template1").await;
    let fresh = at_port(empty.url(), bouncer.port);
    until("migrated", async || {
        let out = topupd_at(&stage, &fresh, &["migrate"]);
        if out.status.success() { Ok(()) } else { Err(String::from_utf8(out.stderr).unwrap()) }
    })
    .await;
    let mut a = daemon(&stage, "a", &url);
    stage.held_by("a").await;
    let payer = Payer::start(&stage.net, 31);
    // Two of them, each with its sessions; and the server goes away under both.
    let _b = daemon(&stage, "b", &url);
    stage.present("b", 0).await;
    stage.goes_on().await;
    a.kill();
    stage.held_by("b").await;
    stage.goes_on().await;
    let paid = payer.stop().await;
    stage.all_credited(&paid).await;
    let out = topupd_at(&stage, &url, &["ledger", "verify"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let log = std::fs::read_to_string(stage.server.log()).unwrap();
    assert!(log.contains("set_config(name, value, false)") && log.contains("force_generic_plan"));
    drop(empty);
}
