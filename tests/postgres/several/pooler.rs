//! A pooler between daemon and server: it is used whatever it does with sessions, and from one moment to the next.
//!
//! PgBouncer itself where it is installed (`.ci/run` installs it), and the proxy beside this file everywhere.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use sqlx::{Connection, Row};

use super::pooler_proxy::PoolerProxy;
use super::*;

/// Who is nobody on this machine.
const NOBODY: u32 = 65_534;

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

    /// Starts it, or starts it again, with these lines in its configuration, and waits until it listens.
    async fn start(&mut self, lines: &str) {
        self.process = None;
        self.configure(lines);
        let log = File::options().create(true).append(true).open(self.dir.path().join("log"));
        let mut command = Command::new(&self.program);
        command.arg("ini").current_dir(self.dir.path()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(log.unwrap());
        if self.is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        self.process = Some(Running(command.spawn().unwrap()));
        until("listening", async || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).map(drop)
        })
        .await;
    }

    /// Makes it read these lines while it goes on.
    fn reload(&self, lines: &str) {
        self.configure(lines);
        self.process.as_ref().unwrap().tell("-HUP");
    }

    fn configure(&self, lines: &str) {
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
        if self.is_root {
            for entry in [self.dir.path().to_owned(), path("users"), path("ini")] {
                std::os::unix::fs::chown(entry, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
    }
}

fn daemon(stage: &Stage, name: &str, url: &str) -> Running {
    stage.daemon_with(name, |command| {
        command.env("TOPUPD_DATABASE__URL", url);
    })
}

/// The daemon says so in its log.
async fn says(stage: &Stage, name: &str, words: &str) {
    until("said", async || {
        let log = stage.log(name);
        let said = |line: &str| line.contains("degraded: ") && line.contains(words);
        if log.lines().any(said) { Ok(()) } else { Err(log) }
    })
    .await;
}

const COMMANDS: [&[&str]; 4] =
    [&["status"], &["ledger", "verify"], &["migrate"], &["namespace", "add"]];

/// Commands do what they do.
fn commands_work(stage: &Stage, url: &str, new: &str) {
    for arguments in COMMANDS {
        let new = if arguments.contains(&"add") { &[new][..] } else { &[] };
        let out = topupd_at(stage, url, &[arguments, new].concat());
        let error = String::from_utf8(out.stderr).unwrap();
        // Without a daemon that follows the chain, somebody should look.
        let is_status = *arguments == ["status"] && out.status.code() == Some(3);
        assert!(out.status.success() || is_status, "{arguments:?}: {error}");
    }
}

/// What a session of the server was set to that others may have by now. Asked without a prepared statement, which another
/// session would not have.
async fn left_behind(url: &str) -> String {
    let mut conn = sqlx::PgConnection::connect(url).await.unwrap();
    let set = sqlx::raw_sql(
        "SELECT current_setting('enable_seqscan') || COALESCE(current_setting('topupd.session', true), '')",
    );
    set.fetch_one(&mut conn).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_shares_sessions_is_used() {
    let stage = Stage::new().await;
    let proxy = PoolerProxy::to(stage.server.port()).await;
    let url = at_port(stage.net.database.url(), proxy.port);
    let pay =
        async || (stage.net.pay(0, stage.net.tokens.usdc, stage.net.addresses[0], 5).await, 5);
    let a = daemon(&stage, "a", &url);
    stage.held_by("a").await;
    let mut paid = vec![pay().await];
    stage.all_credited(&paid).await;
    commands_work(&stage, &url, "shared");
    drop(a);

    // And where there was none, and is one now, under a daemon that is at work.
    proxy.shares.store(false, Ordering::SeqCst);
    let mut b = daemon(&stage, "b", &url);
    stage.held_by("b").await;
    proxy.shares.store(true, Ordering::SeqCst);
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'topupd b-%'";
    stage.net.database.sql().await.execute(cut).await.unwrap();
    says(&stage, "b", "was not when topupd was started: start it again").await;
    assert!(b.0.try_wait().unwrap().is_none());
    commands_work(&stage, &url, "still-shared");
    drop(b);
    let _c = daemon(&stage, "c", &url);
    paid.push(pay().await);
    stage.all_credited(&paid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_in_transaction_mode_is_used_and_in_statement_mode_waited_for() {
    let stage = Stage::new().await;
    let Some(mut bouncer) = Bouncer::before(&stage) else { return };
    let url = at_port(stage.net.database.url(), bouncer.port);
    let mut paid = Vec::new();
    for (i, more) in [
        "",
        "ignore_startup_parameters = extra_float_digits, options",
        "default_pool_size = 2",
        "server_round_robin = 1\nmin_pool_size = 4",
    ]
    .iter()
    .enumerate()
    {
        bouncer.start(&format!("pool_mode = transaction\n{more}")).await;
        let name = format!("d{i}");
        let mut running = daemon(&stage, &name, &url);
        stage.held_by(&name).await;
        paid.push((stage.net.pay(0, stage.net.tokens.usdc, stage.net.addresses[0], 5).await, 5));
        stage.all_credited(&paid).await;
        commands_work(&stage, &url, &format!("n{i}"));
        // Somebody else who gets one of these sessions finds nothing of ours in it.
        if more.contains("extra_float_digits") {
            assert_eq!(left_behind(&url).await, "on", "{more}");
        }
        assert!(running.0.try_wait().unwrap().is_none());
    }

    bouncer.start("pool_mode = statement\nignore_startup_parameters = options").await;
    let mut running = daemon(&stage, "s", &url);
    let words = "set pool_mode = transaction, or session";
    says(&stage, "s", words).await;
    for arguments in COMMANDS {
        let out = topupd_at(
            &stage,
            &url,
            &[arguments, &["x"][..usize::from(arguments[0] == "namespace")]].concat(),
        );
        let error = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(error.contains(words) && error.lines().count() == 1, "{error}");
    }
    bouncer.start("pool_mode = transaction").await;
    stage.held_by("s").await;
    assert!(running.0.try_wait().unwrap().is_none());
}

/// Its sessions are given to others from one moment to the next, and kept again, under two daemons at work.
#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_that_changes_its_mode_mixes_nothing_up() {
    let stage = Stage::new().await;
    let Some(mut bouncer) = Bouncer::before(&stage) else { return };
    bouncer.start("pool_mode = session").await;
    let url = at_port(stage.net.database.url(), bouncer.port);
    let daemons = ["a", "b"].map(|name| daemon(&stage, name, &url));
    stage.present("a", 0).await;
    stage.present("b", 0).await;
    let payer = Payer::start(&stage.net, 47);
    for mode in ["transaction", "session", "transaction", "session"] {
        bouncer.reload(&format!("pool_mode = {mode}"));
        stage.goes_on().await;
        stage.goes_on().await;
    }
    let paid = payer.stop().await;
    stage.all_credited(&paid).await;
    let mut sql = stage.net.database.sql().await;
    let odd = "SELECT holder FROM daemons WHERE seen_at_ms < started_at_ms OR started_at_ms < 1600000000000";
    assert_eq!(sql.texts(odd).await, [""; 0]);
    for name in ["a", "b"] {
        let log = stage.log(name);
        for words in ["degraded", "prepared statement", "bind message", "jumped"] {
            assert!(!log.contains(words), "{words}: {log}");
        }
    }
    commands_work(&stage, &url, "after");
    drop(daemons);
}

/// As Debian installs it, but for the mode.
#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_in_session_mode_is_like_the_server() {
    let all = ("log_statement".to_owned(), "all".to_owned());
    let options = PostgresOptions { settings: vec![all], ..PostgresOptions::default() };
    let stage = Stage::with(options).await;
    let Some(mut bouncer) = Bouncer::before(&stage) else { return };
    bouncer.start("pool_mode = session").await;
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
    assert!(log.contains("SET LOCAL plan_cache_mode = 'force_generic_plan'"));
    drop(empty);
}
