//! Where the cache is: under sudo, in units, with a named workspace; and what is said when it is empty.

use std::fs;

use palletjack_testkit::real::Part;
use palletjack_testkit::registry::Registry;
use palletjack_testkit::require_real;

use crate::machine::{Machine, PROGRAM, pins, small_set};

/// A machine with one image in this directory's cache, which is below the machine's root.
fn filled(at: &str) -> (Machine, String) {
    let registry = Registry::start().unwrap();
    registry.publish_all(small_set());
    let machine = Machine::new();
    let cache = machine.sandbox.root().join(at).display().to_string();
    let reference = &pins(&registry, small_set())[2];
    machine.run(&format!("--cache-dir {cache} cache add-img {reference}")).assert_success();
    (machine, cache)
}

#[test]
fn an_empty_cache_says_where_the_full_one_is() {
    let (machine, full) = filled("home/.cache/palletjack");
    fs::create_dir(machine.sandbox.root().join("workspace")).unwrap();
    let workspace = machine.sandbox.root().join("workspace").display().to_string();
    for words in [
        format!("--cache-dir {workspace}/empty cache load-img"),
        format!("--workspace {workspace} cache verify"),
        format!("--workspace {workspace} cache del-img x:1"),
    ] {
        let ran = machine.run(&words);
        ran.assert_code(3);
        let hint = format!("the cache at {full} has 1 image: use it with --cache-dir {full}");
        assert!(ran.stderr.contains("has no images") && ran.stderr.contains(&hint), "{ran}");
    }
    let ran = machine.run(&format!("--workspace {workspace} cache ls-img"));
    ran.assert_success();
    assert!(ran.stdout.is_empty() && ran.stderr.contains(&full), "{ran}");
    assert!(!machine.sandbox.root().join("workspace/.cache").exists(), "reading creates nothing");
}

#[test]
fn nothing_anywhere_says_how_to_begin() {
    let machine = Machine::new();
    let ran = machine.run("cache load-img");
    ran.assert_code(3);
    assert!(ran.stderr.contains("plt cache-img") && ran.stderr.contains("cache add-img"), "{ran}");
    let (ran, document) = machine.json("cache ls-img");
    ran.assert_success();
    assert_eq!(document["images"], serde_json::json!([]));
}

#[test]
fn a_named_workspace_has_its_own_cache_and_flags_go_before_variables() {
    let (mut machine, cache) = filled("workspace/.cache/palletjack");
    let workspace = machine.sandbox.root().join("workspace");
    let count = |machine: &Machine, words: &str| {
        let (ran, document) = machine.json(words);
        ran.assert_success();
        document["images"].as_array().unwrap().len()
    };
    assert_eq!(count(&machine, "cache ls-img"), 0);
    assert_eq!(count(&machine, &format!("cache ls-img --workspace {}", workspace.display())), 1);
    assert_eq!(count(&machine, &format!("cache ls-img --cache-dir {cache}")), 1);
    machine.set("FORKLIFT_WORKSPACE", &workspace);
    assert_eq!(count(&machine, "cache ls-img"), 1);
    machine.set("PALLETJACK_CACHE_DIR", "/nonexistent");
    assert_eq!(count(&machine, "cache ls-img"), 0);
    assert_eq!(count(&machine, &format!("cache ls-img --cache-dir {cache}")), 1);
    machine.unset("FORKLIFT_WORKSPACE");
    machine.unset("PALLETJACK_CACHE_DIR");
    machine.configure(&format!("cache-dir = \"{cache}\"\n"));
    assert_eq!(count(&machine, "cache ls-img"), 1);
    machine.configure("");
    machine.set("CACHE_DIRECTORY", &cache);
    assert_eq!(count(&machine, "cache ls-img"), 1);
}

#[test]
fn a_cache_may_lie_at_any_path() {
    let registry = Registry::start().unwrap();
    registry.publish_all(small_set());
    let machine = Machine::new();
    let cache = machine.sandbox.root().join("Daten, größer: 100 %").display().to_string();
    let reference = &pins(&registry, small_set())[0];
    machine.run_args(&["--cache-dir", &cache, "cache", "add-img", reference]).assert_success();
    machine.run_args(&["cache", "verify", "--cache-dir", &cache]).assert_success();
    let ran = machine.run_args(&["cache", "ls-img", "--cache-dir", &cache]);
    assert!(ran.stdout.contains("acme/one:1"), "{ran}");
}

/// Runs the program as `sudo` starts it: as root with root's home, and the caller's number in `SUDO_UID`. The caller's
/// home stands in a user database of the test's own, which only this process sees.
fn under_sudo(machine: &mut Machine, words: &str) -> palletjack_testkit::Ran {
    let users = machine.sandbox.root().join("passwd");
    let callers = machine.sandbox.root().join("callers");
    let line = format!("root:x:0:0::/root:/bin/sh\npi:x:4242:4242::{}:/bin/sh\n", callers.display());
    fs::write(&users, line).unwrap();
    machine.set("SUDO_UID", "4242");
    let script = format!("mount --bind {} /etc/passwd && exec {PROGRAM} {words}", users.display());
    machine.run_other("/usr/bin/unshare", &["--mount", "sh", "-c", &script])
}

#[test]
fn under_sudo_it_is_the_callers_cache() {
    require_real!(Part::Root);
    let (mut machine, full) = filled("callers/.cache/palletjack");
    let ran = under_sudo(&mut machine, "cache ls-img --output json");
    ran.assert_success();
    assert!(ran.stdout.contains(&full) && ran.stdout.contains("acme/three:3"), "{ran}");
}

#[test]
fn a_cache_that_is_empty_because_sudo_changed_the_home_says_where_the_full_one_is() {
    require_real!(Part::Root);
    // The caller's, while a workspace is named; root's own, while the caller has none.
    for (at, words) in [
        ("callers/.cache/palletjack", "--workspace /tmp cache load-img"),
        ("home/.cache/palletjack", "cache load-img"),
    ] {
        let (mut machine, full) = filled(at);
        let ran = under_sudo(&mut machine, words);
        ran.assert_code(3);
        assert!(ran.stderr.contains(&format!("--cache-dir {full}")), "{ran}");
    }
}

/// What root fetches into a user's cache belongs to that user, who may then delete it.
#[test]
fn what_root_fetches_belongs_to_the_caches_owner() {
    use std::os::unix::fs::{MetadataExt, chown};
    require_real!(Part::Root);
    let registry = Registry::start().unwrap();
    registry.publish_all(small_set());
    let machine = Machine::new();
    let cache = machine.sandbox.cache();
    fs::create_dir_all(&cache).unwrap();
    chown(&cache, Some(4242), Some(4343)).unwrap();
    machine.run(&format!("cache add-img {}", pins(&registry, small_set())[0])).assert_success();
    let mut seen = 0;
    let mut rest = vec![cache];
    while let Some(directory) = rest.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let metadata = entry.metadata().unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (4242, 4343), "{}", entry.path().display());
            seen += 1;
            if metadata.is_dir() {
                rest.push(entry.path());
            }
        }
    }
    assert!(seen > 10, "{seen} files");
}
