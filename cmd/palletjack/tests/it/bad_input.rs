//! Bad input gets a clear error, and nothing is lost.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use palletjack_testkit::engine::{Engine, Profile};
use palletjack_testkit::image::ImageSet;
use palletjack_testkit::real::Part;
use palletjack_testkit::registry::Registry;
use palletjack_testkit::require_real;
use palletjack_testkit::sandbox::{PalletFiles, SmallDisk};

use crate::machine::{Machine, PROGRAM, assert_loaded, pins, small_set};
use crate::main_job::{gzip, states};

/// A pallet with one package whose files a test then breaks.
fn pallet() -> PalletFiles {
    PalletFiles::new("github.com/acme/pallet")
        .package_with_features("packages/web", &["caddy:2"], &[("metrics", &["metrics:1"])])
        .deployment("apps/web", "/packages/web", &["metrics"])
}

#[test]
fn pallets_that_cannot_be_read_say_where_and_why() {
    let compose = "packages/web/compose.yml";
    for (pallet, expected) in [
        // A feature that the package does not have.
        (
            pallet().deployment("apps/web", "/packages/web", &["metrics", "nothing"]),
            &["apps/web", "/packages/web", "nothing"][..],
        ),
        // Broken YAML: file and line.
        (pallet().file(compose, "services:\n  web:\n    image: \"caddy:2\n"), &["apps/web", "packages/web/compose.yml:4"]),
        (pallet().file(compose, "services:\n  web:\n  image: [\n"), &["packages/web/compose.yml:"]),
        (
            pallet().file("deployments/apps/web.deploy.yml", "package: /packages/web\nfeatures: {\n"),
            &["deployments/apps/web.deploy.yml:"],
        ),
        (pallet().file("forklift-pallet.yml", "pallet:\n\t- x\n"), &["forklift-pallet.yml:2"]),
        // Valid YAML that is no Compose file.
        (pallet().file(compose, "services:\n  web:\n    imaje: caddy:2\n"), &["packages/web/compose.yml:3", "imaje"]),
        (pallet().file(compose, "services:\n  web:\n    image: ${IMAGE:?not set}\n"), &["IMAGE", "not set"]),
        // A Compose file that is not there.
        (
            pallet().file(
                "packages/web/forklift-package.yml",
                "package:\n  description: x\ndeployment:\n  compose-files: [absent.yml]\nfeatures:\n  metrics:\n    description: x\n",
            ),
            &["apps/web", "packages/web/absent.yml"],
        ),
        // A package that is not there, and one of a repository that nobody declares.
        (pallet().deployment("apps/web", "/packages/absent", &[]), &["apps/web", "packages/absent"]),
        (
            pallet().deployment("apps/web", "github.com/other/packages/web", &[]),
            &["apps/web", "github.com/other/packages/web", "requirements"],
        ),
    ] {
        let machine = Machine::new();
        machine.sandbox.write_pallet(&pallet).unwrap();
        for words in ["plt ls-img", "plt cache-img", "plt load-img"] {
            let ran = machine.run(words);
            ran.assert_code(1);
            assert_eq!(ran.stdout, "");
            for text in expected {
                assert!(ran.stderr.contains(text), "{text} is not in it: {ran}");
            }
            assert!(!ran.stderr.contains("panicked"), "{ran}");
        }
        assert!(!machine.sandbox.cache().exists(), "nothing is made for a pallet that cannot be read");
    }
}

#[test]
fn a_reference_without_tag_or_digest_is_refused_with_who_wants_it() {
    let machine = Machine::new();
    let pallet = PalletFiles::new("github.com/acme/pallet")
        .package("packages/web", &["docker.io/library/caddy", "caddy:2", "Caddy:2"])
        .deployment("apps/web", "/packages/web", &[]);
    machine.sandbox.write_pallet(&pallet).unwrap();
    let ran = machine.run("plt ls-img");
    ran.assert_success();
    assert_eq!(ran.stdout, "Caddy:2\ncaddy:2\ndocker.io/library/caddy\n", "a list shows what is there");
    for words in ["plt cache-img", "plt load-img"] {
        let ran = machine.run(words);
        ran.assert_code(1);
        // All of them at once, each with its deployment, file and line.
        for text in ["neither a tag nor a digest", "Caddy:2", "apps/web", "compose.yml:3", "compose.yml:7"] {
            assert!(ran.stderr.contains(text), "{text} is not in it: {ran}");
        }
    }
    let ran = machine.run("cache add-img caddy");
    ran.assert_code(2);
    assert!(ran.stderr.contains("`caddy`") && ran.stderr.contains("caddy:TAG"), "{ran}");
    machine.run("cache add-img UPPER:1").assert_code(2);
}

#[test]
fn workspaces_that_are_missing_are_named() {
    let machine = Machine::new();
    let ran = machine.run("--workspace /nonexistent/ws plt ls-img");
    ran.assert_code(2);
    assert!(ran.stderr.contains("/nonexistent/ws") && ran.stderr.contains("--workspace"), "{ran}");
    let ran = machine.run("plt ls-img");
    ran.assert_code(1);
    assert!(ran.stderr.contains(".local/share/forklift/pallet"), "{ran}");
    assert!(ran.stderr.contains("dev --cwd") && ran.stderr.contains("--workspace"), "{ran}");
}

#[test]
fn a_stage_store_or_bundle_that_is_missing_or_broken_is_named() {
    let machine = Machine::new();
    let ran = machine.run("stage ls-img");
    assert!(ran.stderr.contains("neither a next nor a current bundle"), "{ran}");
    crate::resolve::write_stages(&machine, "  next: 7\n", "v0.8.0");
    let ran = machine.run("stage cache-img");
    ran.assert_code(1);
    assert!(ran.stderr.contains("bundle 7") && ran.stderr.contains("stages/7"), "{ran}");
    fs::write(machine.sandbox.stage_store().join("forklift-stage-store.yml"), "staged:\n  next: [\n")
        .unwrap();
    let ran = machine.run("stage ls-img");
    ran.assert_code(1);
    assert!(ran.stderr.contains("forklift-stage-store.yml:"), "{ran}");
}

#[test]
fn configuration_that_is_wrong_is_told_with_its_line() {
    let machine = Machine::new();
    for (text, line, what) in [
        ("parallel = 4\n\n[registries.\"docker.io\"]\nmirror = []\n", 4, "mirror"),
        ("parallel = \n", 1, ""),
        ("parallel = \"many\"\n", 1, "many"),
        ("\nplattform = \"linux/arm64\"\n", 2, "plattform"),
    ] {
        let path = machine.configure(text);
        for words in ["plt ls-img", "cache ls-img"] {
            let ran = machine.run(words);
            ran.assert_code(2);
            assert!(ran.stderr.contains(&format!("{}:{line}: ", path.display())), "{ran}");
            assert!(ran.stderr.contains(what), "{ran}");
        }
    }
    let ran = machine.run("--config /nonexistent.toml cache ls-img");
    ran.assert_code(2);
    assert!(ran.stderr.contains("/nonexistent.toml"), "{ran}");
    machine.configure("[registries.\"docker.io\"]\nmirrors = [\"no url\"]\n");
    let ran = machine.run("cache add-img caddy:2");
    ran.assert_code(2);
    assert!(ran.stderr.contains("of docker.io") && ran.stderr.contains("no url"), "{ran}");
}

#[test]
fn wrong_words_are_a_matter_of_usage() {
    let machine = Machine::new();
    for words in [
        "",
        "plt",
        "plt ls",
        "frobnicate",
        "plt ls-img --no-such-flag",
        "cache add-img",
        "--parallel=0 cache ls-img",
    ] {
        let ran = machine.run(words);
        ran.assert_code(2);
        assert!(
            ran.stdout.is_empty() && ran.stderr.contains("Usage") || ran.stderr.contains("--parallel"),
            "{ran}"
        );
    }
}

#[test]
fn a_full_disk_is_told_and_what_was_fetched_is_kept() {
    require_real!(Part::Root);
    let registry = Registry::start().unwrap();
    let mut machine = Machine::new();
    let names: Vec<String> = (0..6).map(|i| format!("acme/app-{i}:1")).collect();
    let set = ImageSet::build(&names, &gzip()).unwrap();
    machine.pallet_in(&registry, &set);
    let needed: u64 = set.layers("linux/amd64").values().map(|layer| layer.size).sum();
    let disk = SmallDisk::new(needed * 3).unwrap();
    let filler = disk.path().join("filler");
    let size = usize::try_from(disk.free().unwrap() - needed / 2).unwrap();
    fs::write(&filler, vec![0; size]).unwrap();
    machine.set("PALLETJACK_CACHE_DIR", disk.path().join("cache"));

    let ran = machine.run("plt cache-img");
    ran.assert_code(7);
    assert!(ran.stderr.contains("no space left"), "{ran}");
    assert!(ran.stderr.contains(&disk.path().display().to_string()), "{ran}");
    let sent = registry.bytes_sent();
    let ran = machine.run("cache verify");
    // 3: no image had all of its layers yet.
    assert!(ran.success() || ran.code == Some(3), "what is there is right: {ran}");

    fs::remove_file(filler).unwrap();
    registry.clear_requests();
    machine.run("plt cache-img").assert_success();
    machine.assert_verified(6);
    let again = registry.bytes_sent();
    assert!(
        again < needed,
        "{again} of {needed} bytes were sent again, after {sent}: something must have been kept"
    );
}

/// Root without the capabilities by which root may open everything is a user like others.
#[test]
fn a_socket_that_may_not_be_opened_names_the_group_or_sudo() {
    require_real!(Part::Root);
    let registry = Registry::start().unwrap();
    let mut machine = Machine::new();
    machine.pallet_in(&registry, small_set());
    machine.run("plt cache-img").assert_success();
    let engine = Engine::start(Profile::docker_20()).unwrap();
    machine.set("DOCKER_HOST", engine.host());
    // The group `daemon` is number 1 on every Debian; the user of that number owns the socket.
    for (group, expected) in [(1, &["group `daemon`", "sudo"][..]), (0, &["sudo"])] {
        chown(engine.socket(), Some(1), Some(group)).unwrap();
        let mode = if group == 0 { 0o600 } else { 0o660 };
        fs::set_permissions(engine.socket(), fs::Permissions::from_mode(mode)).unwrap();
        let ran = machine.run_other(
            "/usr/bin/setpriv",
            &[
                "--clear-groups",
                "--inh-caps=-all",
                "--bounding-set=-dac_override,-dac_read_search",
                PROGRAM,
                "plt",
                "load-img",
            ],
        );
        ran.assert_code(5);
        assert!(ran.stderr.contains("no permission") && ran.stderr.contains(&engine.host()), "{ran}");
        for text in expected {
            assert!(ran.stderr.contains(text), "{text} is not in it: {ran}");
        }
    }
    assert!(engine.loads().is_empty());
}

#[test]
fn an_engine_that_is_not_there_is_told_with_what_to_do() {
    let registry = Registry::start().unwrap();
    let mut machine = Machine::new();
    machine.pallet_in(&registry, small_set());
    machine.run("plt cache-img").assert_success();
    machine.set("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let ran = machine.run("plt load-img");
    ran.assert_code(5);
    for text in ["/nonexistent/docker.sock", "systemctl start docker", "DOCKER_HOST"] {
        assert!(ran.stderr.contains(text), "{text} is not in it: {ran}");
    }
    let socket = machine.sandbox.root().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    machine.set("DOCKER_HOST", format!("unix://{}", socket.display()));
    let ran = machine.run("plt load-img");
    ran.assert_code(5);
    assert!(ran.stderr.contains("nobody listens at"), "{ran}");
}

#[test]
fn a_cache_of_a_newer_format_is_left_alone() {
    let registry = Registry::start().unwrap();
    let machine = Machine::new();
    machine.pallet_in(&registry, small_set());
    machine.run("plt cache-img").assert_success();
    let format = machine.sandbox.cache().join("state/format.json");
    let original = crate::machine::read_json(&format);
    for (key, value) in [("version", serde_json::json!(2)), ("incompatible", serde_json::json!(["sharded"]))]
    {
        let mut newer = original.clone();
        newer[key] = value;
        fs::write(&format, newer.to_string()).unwrap();
        let before = listing(&machine.sandbox.cache());
        for words in
            ["cache ls-img", "cache verify", "plt cache-img", "plt load-img", "cache del-img caddy:2"]
        {
            let ran = machine.run(words);
            ran.assert_code(1);
            assert!(ran.stderr.contains("newer palletjack"), "{ran}");
            assert!(ran.stderr.contains(&machine.sandbox.cache().display().to_string()), "{ran}");
        }
        assert_eq!(listing(&machine.sandbox.cache()), before);
    }
    fs::write(&format, original.to_string()).unwrap();
    machine.assert_verified(4);
}

/// Every file below a directory with its size.
fn listing(directory: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(listing(&path));
        } else {
            found.push((path.display().to_string(), entry.metadata().unwrap().len()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_cache_that_is_damaged_is_told_and_not_overwritten() {
    let registry = Registry::start().unwrap();
    let machine = Machine::new();
    machine.pallet_in(&registry, small_set());
    machine.run("plt cache-img").assert_success();
    let index = machine.layout().join("index.json");
    let whole = fs::read(&index).unwrap();
    fs::write(&index, &whole[..whole.len() / 2]).unwrap();
    for words in ["cache ls-img", "plt cache-img"] {
        let ran = machine.run(words);
        ran.assert_code(6);
        assert!(ran.stderr.contains("index.json"), "{ran}");
    }
    assert_eq!(fs::read(&index).unwrap().len(), whole.len() / 2);
}

#[test]
fn a_cache_that_cannot_be_written_still_lists_verifies_and_loads() {
    require_real!(Part::Root);
    let registry = Registry::start().unwrap();
    let mut machine = Machine::new();
    machine.pallet_in(&registry, small_set());
    let disk = SmallDisk::new(16 << 20).unwrap();
    machine.set("PALLETJACK_CACHE_DIR", disk.path().join("cache"));
    machine.run("plt cache-img").assert_success();
    let remounted =
        machine.run_other("/bin/mount", &["-o", "remount,ro", &disk.path().display().to_string()]);
    remounted.assert_success();

    let (ran, document) = machine.json("cache ls-img");
    ran.assert_success();
    assert_eq!(document["images"].as_array().unwrap().len(), 4);
    machine.assert_verified(4);
    let engine = Engine::start(Profile::docker_20()).unwrap();
    machine.set("DOCKER_HOST", engine.host());
    let (ran, document) = machine.json("plt load-img");
    assert_loaded(&ran);
    assert_eq!(states(&document, "loaded"), 4, "{ran}");
    // What would have to be written is refused, with the reason and a way out.
    let extra = ImageSet::build(&["acme/extra:1"], &gzip()).unwrap();
    registry.publish_all(&extra);
    for words in [
        format!("cache add-img {}", pins(&registry, &extra)[0]),
        "cache del-img".to_owned() + " " + &pins(&registry, small_set())[0],
    ] {
        let ran = machine.run(&words);
        ran.assert_code(1);
        assert!(ran.stderr.contains("no permission for") && ran.stderr.contains("--cache-dir"), "{ran}");
    }
    // All that the pallet needs is there: nothing has to be written.
    let ran = machine.run("plt cache-img --offline");
    ran.assert_success();
}

/// A full log partition must not keep a device from being provisioned.
#[test]
fn standard_error_that_cannot_be_written_stops_nothing() {
    let registry = palletjack_testkit::registry::Registry::start().unwrap();
    registry.publish_all(crate::machine::small_set());
    let machine = Machine::new();
    let references = crate::machine::pins(&registry, crate::machine::small_set()).join(" ");
    let mut command = machine.command(&format!("cache add-img {references}"));
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = command.stderr(full).status().unwrap();
    assert_eq!(status.code(), Some(0));
    machine.assert_verified(references.split(' ').count());
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(machine.command("plt ls-img").stderr(full).status().unwrap().code(), Some(1));
}
