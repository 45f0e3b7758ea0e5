//! A running daemon that is led to us for some seconds.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use palletjack_engine::repin::{LiveError, LiveOptions, LiveStep, Way, undo_leftover};
use palletjack_engine::{Endpoint, Engine};
use palletjack_store::{Access, Store as Cache};
use palletjack_testkit::real::{Dockerd, Part, Store};
use palletjack_testkit::require_real;

use crate::support::amd64;
use crate::{Loaded, error, loaded, namespace};

const HOSTS: &str = "127.0.0.1 localhost\n10.9.8.7 device";
const IMAGES: [&str; 7] = [
    "caddy:2.6.2",
    "ghcr.io/acme/two:1",
    "quay.io/acme/three:v3",
    "registry.local:5000/acme/four:1",
    "ghcr.io/acme/moving:1",
    "ghcr.io/acme/moving:1",
    "127.0.0.1:5000/acme/local:1",
];
const VICTIM: &str = "PALLETJACK_TEST_VICTIM";

/// The files that are changed and put back.
struct Machine {
    directory: tempfile::TempDir,
    config: PathBuf,
    before: String,
}

impl Machine {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        namespace::furnish(directory.path(), HOSTS);
        Self { directory, config: PathBuf::new(), before: String::new() }
    }

    /// Notes how the daemon is configured.
    fn of(mut self, daemon: &Dockerd) -> Self {
        self.config = daemon.socket().with_file_name("daemon.json");
        self.before = fs::read_to_string(&self.config).unwrap();
        self
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn options(&self) -> LiveOptions {
        LiveOptions { state: self.state(), ..LiveOptions::default() }
    }

    fn assert_as_before(&self, daemon: &Dockerd) {
        assert_eq!(fs::read_to_string("/etc/hosts").unwrap(), HOSTS);
        assert_eq!(fs::read_to_string(&self.config).unwrap(), self.before);
        assert!(!self.state().join("repin.json").exists());
        let mirrors = &daemon.info().unwrap()["RegistryConfig"]["Mirrors"];
        assert!(mirrors.as_array().is_none_or(Vec::is_empty), "{mirrors}");
    }

    fn assert_changed(&self, daemon: &Dockerd) {
        assert!(fs::read_to_string("/etc/hosts").unwrap().contains("127.0.0.5 ghcr.io quay.io"));
        assert_ne!(fs::read_to_string(&self.config).unwrap(), self.before);
        let mirrors = &daemon.info().unwrap()["RegistryConfig"]["Mirrors"];
        assert_eq!(mirrors[0], "http://127.0.0.5/");
    }
}

async fn repin(set: &Loaded, options: &LiveOptions, pulled: u64) -> Result<Vec<String>, LiveError> {
    let steps = Mutex::new(Vec::new());
    let tell = |step: LiveStep<'_>| {
        steps.lock().unwrap().push(match step {
            LiveStep::Recovered => "recovered".to_owned(),
            LiveStep::Changing { config, hosts, address } => {
                assert_eq!(address, Ipv4Addr::new(127, 0, 0, 5));
                assert!(config.is_some());
                format!("changing {}", hosts.join(" "))
            }
            LiveStep::Changed => "changed".to_owned(),
            LiveStep::Undone { .. } => "undone".to_owned(),
        });
    };
    let repinned = set.engine.repin_live(&set.cache.store, &set.images(), options, &tell).await?;
    assert_eq!(repinned.way, Way::Live);
    set.assert_pins(&repinned, &[true, true, true, true, true, true, false]);
    let told = error(repinned.images.last()).to_string();
    assert!(told.contains("127.0.0.1:5000 is an address"), "{told}");
    let served = repinned.served;
    assert_eq!((served.manifests, served.blobs, served.blob_bytes), (2 * pulled, 0, 0), "{served:?}");
    // /v2/, the index, the manifest.
    assert!(served.requests <= 3 * pulled, "{served:?}");
    Ok(steps.into_inner().unwrap())
}

async fn exercise(start: impl Fn() -> std::io::Result<Dockerd>, test: &str) {
    let machine = Machine::new();
    let mut daemon = start().unwrap();
    let machine = machine.of(&daemon);
    let set = loaded(&daemon, &IMAGES).await;
    let options = machine.options();

    refused(&machine, &set, &daemon).await;
    cancelled(&machine, &set, &daemon).await;
    // Killed while the machine is changed; the next run undoes that.
    killed(&machine, &set, &daemon, test);
    machine.assert_changed(&daemon);
    assert!(undo_leftover(&machine.state()).unwrap());
    machine.assert_as_before(&daemon);
    assert!(!undo_leftover(&machine.state()).unwrap());
    // The daemon started again with what was left, as after a power cut.
    killed(&machine, &set, &daemon, test);
    let left = fs::read_to_string(&machine.config).unwrap();
    daemon.stop();
    assert!(undo_leftover(&machine.state()).unwrap());
    assert_eq!(fs::read_to_string(&machine.config).unwrap(), machine.before);
    assert_ne!(left, machine.before);
    daemon.start_again().unwrap();

    killed(&machine, &set, &daemon, test);
    let steps = repin(&set, &options, 6).await.unwrap();
    let hosts = "changing ghcr.io quay.io registry.local";
    assert_eq!(steps, ["recovered", hosts, "changed", "undone"]);
    machine.assert_as_before(&daemon);
    // Once more, with all there.
    assert_eq!(repin(&set, &options, 0).await.unwrap(), [hosts, "changed", "undone"]);
    machine.assert_as_before(&daemon);
}

/// Refused before anything is changed.
async fn refused(machine: &Machine, set: &Loaded, daemon: &Dockerd) {
    let options = machine.options();
    for (address, want) in [
        ("0.0.0.0:80", "127.0.0.5:80 cannot be listened on"),
        ("127.0.0.5:443", "something listens on 127.0.0.5:443"),
    ] {
        let _other = TcpListener::bind(address).unwrap();
        let error = repin(set, &options, 0).await.unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
        machine.assert_as_before(daemon);
    }
    let elsewhere = LiveOptions { daemon_config: Some(machine.directory.path().into()), ..machine.options() };
    assert!(repin(set, &elsewhere, 0).await.is_err());
    machine.assert_as_before(daemon);
}

/// As SIGINT does: the future is dropped while the machine is changed.
async fn cancelled(machine: &Machine, set: &Loaded, daemon: &Dockerd) {
    let changed = tokio::sync::Notify::new();
    let tell = |step: LiveStep<'_>| {
        if matches!(step, LiveStep::Changed) {
            machine.assert_changed(daemon);
            changed.notify_one();
        }
    };
    let (images, options) = (set.images(), machine.options());
    tokio::select! {
        biased;
        () = changed.notified() => {}
        result = set.engine.repin_live(&set.cache.store, &images, &options, &tell) => panic!("{result:?}"),
    }
    machine.assert_as_before(daemon);
    // A panic on the way.
    let panics = |step: LiveStep<'_>| assert!(!matches!(step, LiveStep::Changed), "on purpose");
    let run =
        std::panic::AssertUnwindSafe(set.engine.repin_live(&set.cache.store, &images, &options, &panics));
    assert!(futures_util::FutureExt::catch_unwind(run).await.is_err());
    // A server that was dropped ends with its task.
    while TcpListener::bind("127.0.0.5:80").is_err() {
        tokio::task::yield_now().await;
    }
    machine.assert_as_before(daemon);
}

/// Starts a process that re-pins, and kills it while the machine is changed.
fn killed(machine: &Machine, set: &Loaded, daemon: &Dockerd, test: &str) {
    let words = [daemon.socket(), set.cache.store.root().to_owned(), machine.state()];
    let words: Vec<&str> = words.iter().map(|path| path.to_str().unwrap()).collect();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(VICTIM, words.join("\n"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("CHANGED")));
    victim.kill().unwrap();
    victim.wait().unwrap();
}

/// The process that is killed: goes no further than to have changed the machine.
async fn victim(words: &str) {
    let words: Vec<&str> = words.split('\n').collect();
    let engine = Engine::connect(Endpoint::Unix(words[0].into())).await.unwrap();
    let store = Cache::open(Path::new(words[1]), Access::Read, &amd64()).unwrap();
    let options = LiveOptions { state: words[2].into(), ..LiveOptions::default() };
    let images: Vec<_> =
        store.snapshot().unwrap().entries().iter().map(|entry| store.image(entry).unwrap()).collect();
    let tell = |step: LiveStep<'_>| {
        if matches!(step, LiveStep::Changed) {
            let mut out = std::io::stdout();
            writeln!(out, "CHANGED").unwrap();
            loop {
                std::thread::park();
            }
        }
    };
    let images: Vec<_> = images.iter().collect();
    let ended = engine.repin_live(&store, &images, &options, &tell).await;
    panic!("it was to be killed before: {ended:?}");
}

async fn run(test: &str, start: impl Fn() -> std::io::Result<Dockerd>) {
    if let Ok(words) = std::env::var(VICTIM) {
        victim(&words).await;
    } else if namespace::inside(test) {
        Box::pin(exercise(start, test)).await;
    }
}

#[tokio::test]
async fn docker_20_is_led_to_us_for_seconds() {
    require_real!(Part::Docker20);
    run("live::docker_20_is_led_to_us_for_seconds", Dockerd::debian).await;
}

#[tokio::test]
async fn docker_28_with_a_graph_driver_is_led_to_us_for_seconds() {
    require_real!(Part::Docker28);
    let start = || Dockerd::forky(Store::GraphDriver);
    run("live::docker_28_with_a_graph_driver_is_led_to_us_for_seconds", start).await;
}

/// A socket can be passed on into a container; what is changed there does not reach the daemon.
#[tokio::test]
async fn an_engine_in_other_namespaces_is_not_touched() {
    require_real!(Part::Docker20);
    if !namespace::is_inside() {
        let daemon = Dockerd::debian().unwrap();
        namespace::run_inside("live::an_engine_in_other_namespaces_is_not_touched", &daemon.host());
        return;
    }
    let socket = namespace::told().trim_start_matches("unix://").into();
    let engine = Engine::connect(Endpoint::Unix(socket)).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = Cache::open(directory.path(), Access::Write, &amd64()).unwrap();
    let options = LiveOptions { state: directory.path().join("notes"), ..LiveOptions::default() };
    let error =
        engine.repin_live(&store, &[], &options, &|_| panic!("nothing is to be done")).await.unwrap_err();
    assert!(error.to_string().contains("has a mount namespace of its own"), "{error}");
    assert!(error.to_string().contains("nsenter --target"), "{error}");
    assert!(!directory.path().join("notes").exists());
}

/// An engine that keeps digests has no need of it.
#[tokio::test]
async fn an_engine_that_keeps_digests_is_not_touched() {
    require_real!(Part::Podman);
    let podman = palletjack_testkit::real::Podman::start().unwrap();
    let engine = Engine::connect(Endpoint::Unix(podman.socket())).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = Cache::open(directory.path(), Access::Write, &amd64()).unwrap();
    let options = LiveOptions { state: directory.path().join("notes"), ..LiveOptions::default() };
    let error =
        engine.repin_live(&store, &[], &options, &|_| panic!("nothing is to be done")).await.unwrap_err();
    assert!(matches!(&error, LiveError::Needless { .. }), "{error}");
}

/// Behind TCP it may be on any machine: this one's files are not its.
#[tokio::test]
async fn an_engine_behind_tcp_is_not_touched() {
    let daemon =
        palletjack_testkit::engine::Engine::start(palletjack_testkit::engine::Profile::docker_20()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let socket = daemon.socket();
    let forward = tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let socket = socket.clone();
            tokio::spawn(async move {
                let mut far = tokio::net::UnixStream::connect(socket).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    let engine = Engine::connect(Endpoint::Tcp(address.to_string())).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = Cache::open(directory.path(), Access::Write, &amd64()).unwrap();
    let options = LiveOptions { state: directory.path().join("notes"), ..LiveOptions::default() };
    let error =
        engine.repin_live(&store, &[], &options, &|_| panic!("nothing is to be done")).await.unwrap_err();
    assert!(matches!(&error, LiveError::Remote { .. }), "{error}");
    assert!(engine.repin_by_mirror(&store, &[]).await.unwrap().is_none());
    assert!(!directory.path().join("notes").exists());
    forward.abort();
}
