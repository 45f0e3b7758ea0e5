//! Lists: of pallets, pallets under development, bundles and stage stores.

use std::fs;

use palletjack_testkit::sandbox::PalletFiles;

use crate::machine::{Machine, listed, read_json, show, strings, testdata};

/// A pallet with an image that is always needed, one of a feature, and one of a disabled deployment.
fn pallet() -> PalletFiles {
    PalletFiles::new("github.com/acme/pallet")
        .package_with_features("packages/web", &["caddy:2.8.4"], &[("metrics", &["prom/node-exporter:v1"])])
        .package("packages/test", &["hello:1"])
        .deployment("apps/web", "/packages/web", &["metrics"])
        .disabled_deployment("test", "/packages/test", &[])
}

const ENABLED: &str = "caddy:2.8.4\nprom/node-exporter:v1\n";
const ALL: &str = "caddy:2.8.4\nhello:1\nprom/node-exporter:v1\n";

#[test]
fn the_real_pallet_is_listed_as_forklift_lists_it() {
    let machine = Machine::new();
    let case = testdata("pallets/std-2024-10-head");
    machine.sandbox.copy_case(&case).unwrap();
    let ran = machine.run("plt ls-img");
    ran.assert_success();
    assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), listed(&case.join("expected.json")));
    assert_eq!(ran.stderr, "", "a list that succeeds has nothing else to say");
    let ran = machine.run("plt ls-img --include-disabled");
    let expected = read_json(&case.join("expected.json"));
    assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), strings(&expected["all"]));
}

#[test]
fn a_pallet_is_found_from_any_directory_in_it() {
    let machine = Machine::new();
    let root = machine.sandbox.root().join("src/pallet");
    pallet().write(&root).unwrap();
    for cwd in ["", "packages", "packages/web", "deployments/apps"] {
        let cwd = root.join(cwd).display().to_string();
        let ran = machine.run(&format!("dev --cwd {cwd} plt ls-img"));
        ran.assert_success();
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), (ENABLED, ""), "from {cwd}");
        let ran = machine.run(&format!("dev --cwd {cwd} plt ls-img --include-disabled"));
        assert_eq!(ran.stdout, ALL);
    }
    let outside = machine.sandbox.root().join("src").display().to_string();
    let ran = machine.run(&format!("dev --cwd {outside} plt ls-img"));
    ran.assert_code(1);
    assert!(ran.stderr.contains("no forklift-pallet.yml in") && ran.stderr.contains(&outside), "{ran}");
    assert_eq!(ran.stdout, "");
}

#[test]
fn the_working_directory_is_where_a_search_begins() {
    let machine = Machine::new();
    let root = machine.sandbox.root().join("pallet");
    pallet().write(&root).unwrap();
    let mut command = machine.command("dev plt ls-img");
    let output = command.current_dir(root.join("packages")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), ENABLED);
    let mut command = machine.command("dev plt ls-img");
    let output = command.env("FORKLIFT_CWD", root.join("deployments")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), ENABLED);
}

#[test]
fn the_workspace_is_named_in_forklifts_ways_and_ours() {
    let mut machine = Machine::new();
    let workspace = machine.sandbox.root().join("workspace");
    pallet().write(&workspace.join(".local/share/forklift/pallet")).unwrap();
    let path = workspace.display().to_string();
    machine.run("plt ls-img").assert_code(1);
    for words in [
        "--workspace {} plt ls-img",
        "plt --workspace {} ls-img",
        "plt ls-img --workspace {}",
        "plt ls-img --workspace={}",
        "--ws {} pallet list-images",
    ] {
        let ran = machine.run(&words.replace("{}", &path));
        assert_eq!(ran.stdout, ENABLED, "{ran}");
    }
    for name in ["FORKLIFT_WORKSPACE", "PALLETJACK_WORKSPACE"] {
        machine.set(name, &workspace);
        assert_eq!(machine.run("plt ls-img").stdout, ENABLED, "{name}");
        machine.unset(name);
    }
    // What is written on the command line goes before what is in the environment.
    machine.set("FORKLIFT_WORKSPACE", "/nonexistent");
    assert_eq!(machine.run(&format!("plt ls-img --workspace {path}")).stdout, ENABLED);
}

#[test]
fn a_list_for_scripts_says_who_needs_what() {
    let machine = Machine::new();
    machine.sandbox.write_pallet(&pallet()).unwrap();
    let (ran, document) = machine.json("plt ls-img --include-disabled");
    ran.assert_success();
    assert_eq!(document["schema"], "palletjack.required-images/1");
    let images = document["images"].as_array().unwrap();
    let names: Vec<&str> = images.iter().map(|image| image["image"].as_str().unwrap()).collect();
    assert_eq!(names, ALL.lines().collect::<Vec<_>>());
    let by = &images[2]["required_by"][0];
    assert_eq!(by["deployment"], "apps/web");
    assert_eq!(by["service"], "metrics-0");
    assert_eq!(by["feature"], "metrics");
    assert!(by["compose_file"].as_str().unwrap().ends_with("packages/web/compose-metrics.yml"), "{by}");
    assert_eq!(by["line"], 3);
}

#[test]
fn the_strings_are_the_pallets_own() {
    let machine = Machine::new();
    let pallet = PalletFiles::new("github.com/acme/pallet")
        .package("packages/a", &["docker.io/library/caddy:2", "caddy:2", "ghcr.io/acme/tool"])
        .deployment("a", "/packages/a", &[]);
    machine.sandbox.write_pallet(&pallet).unwrap();
    let ran = machine.run("plt ls-img");
    ran.assert_success();
    assert_eq!(ran.stdout, "caddy:2\ndocker.io/library/caddy:2\nghcr.io/acme/tool\n");
}

#[test]
fn what_is_mounted_from_images_is_told_apart() {
    let machine = Machine::new();
    let compose = "services:\n  a:\n    image: app:1\n    volumes:\n      - {type: image, source: 'data:7', target: /d}\n";
    let pallet = PalletFiles::new("github.com/acme/pallet")
        .package("packages/a", &[])
        .file("packages/a/compose.yml", compose)
        .deployment("a", "/packages/a", &[]);
    machine.sandbox.write_pallet(&pallet).unwrap();
    let ran = machine.run("plt ls-img");
    ran.assert_success();
    assert_eq!(ran.stdout, "app:1\n", "Forklift's list has the images of services alone");
    let (_, document) = machine.json("plt ls-img");
    assert_eq!(document["extra_images"][0]["image"], "data:7");
}

/// A stage store with five bundles: `bundle-N:1` is needed by bundle N, `shared:1` by all.
pub(crate) fn write_stages(machine: &Machine, staged: &str, forklift_version: &str) {
    let store = machine.sandbox.stage_store();
    fs::create_dir_all(&store).unwrap();
    let manifest = format!("forklift-version: v0.7.0\nstaged:\n{staged}");
    fs::write(store.join("forklift-stage-store.yml"), manifest).unwrap();
    for i in 1..=5 {
        let bundle = store.join(i.to_string());
        let image = format!("bundle-{i}:1");
        PalletFiles::default()
            .file(
                "forklift-bundle.yml",
                &format!(
                    "forklift-version: {forklift_version}\npallet:\n  path: github.com/acme/pallet\n  version: v1\n\
                     deploys:\n  web:\n    package: /packages/web\n  off:\n    package: /packages/off\n    disabled: true\n"
                ),
            )
            .package("packages/packages/web", &["shared:1", &image])
            .package("packages/packages/off", &["disabled:1"])
            .file("packages/forklift-repository.yml", "forklift-version: v0.7.0\nrepository:\n  path: github.com/acme/pallet\n")
            .write(&bundle)
            .unwrap();
    }
}

const STAGED: &str = "  next: 4\n  history: [1, 2, 3]\n  names:\n    factory-reset: 1\n    spare: 5\n";

#[test]
fn bundles_are_found_by_each_identifier() {
    let machine = Machine::new();
    write_stages(&machine, STAGED, "v0.8.0");
    for (identifier, number) in [
        ("next", 4),
        ("pending", 4),
        ("current", 3),
        ("rollback", 2),
        ("factory-reset", 1),
        ("spare", 5),
        ("2", 2),
    ] {
        let ran = machine.run(&format!("stage ls-img {identifier}"));
        ran.assert_success();
        assert_eq!(ran.stdout, format!("bundle-{number}:1\nshared:1\n"), "{identifier}");
        assert_eq!(ran.stderr, "");
    }
    let ran = machine.run("stage ls-img next --include-disabled");
    assert_eq!(ran.stdout, "bundle-4:1\ndisabled:1\nshared:1\n");
}

#[test]
fn without_an_identifier_it_is_what_the_next_apply_can_need() {
    let machine = Machine::new();
    for (staged, expected) in [
        (STAGED, "bundle-3:1\nbundle-4:1\nshared:1\n"),
        ("  next: 3\n  history: [1, 2, 3]\n", "bundle-3:1\nshared:1\n"),
        ("  next: 1\n", "bundle-1:1\nshared:1\n"),
        ("  history: [2]\n", "bundle-2:1\nshared:1\n"),
        // The next one has failed: an apply uses the current one now, and both are kept ready.
        ("  next: 4\n  next-failed: true\n  history: [3]\n", "bundle-3:1\nbundle-4:1\nshared:1\n"),
    ] {
        write_stages(&machine, staged, "v0.8.0");
        let ran = machine.run("stage ls-img");
        ran.assert_success();
        assert_eq!(ran.stdout, expected, "{staged}");
    }
}

#[test]
fn an_identifier_that_leads_nowhere_is_named() {
    let machine = Machine::new();
    write_stages(&machine, STAGED, "v0.8.0");
    let ran = machine.run("stage ls-img factory");
    ran.assert_code(2);
    assert!(ran.stderr.contains("\"factory\"") && ran.stderr.contains("factory-reset, spare"), "{ran}");
    let ran = machine.run("stage ls-img 9");
    assert!(!ran.success() && ran.stderr.contains("bundle 9"), "{ran}");
    assert_eq!(ran.stdout, "");
    write_stages(&machine, "  next: 1\n", "v0.8.0");
    let ran = machine.run("stage ls-img rollback");
    ran.assert_code(2);
    assert!(ran.stderr.contains("no rollback bundle"), "{ran}");
}

#[test]
fn the_stage_store_is_named_in_forklifts_ways_and_ours() {
    let mut machine = Machine::new();
    write_stages(&machine, STAGED, "v0.8.0");
    let elsewhere = machine.sandbox.root().join("elsewhere");
    fs::rename(machine.sandbox.stage_store(), &elsewhere).unwrap();
    let path = elsewhere.display().to_string();
    let expected = "bundle-4:1\nshared:1\n";
    assert_eq!(machine.run(&format!("--stage-store {path} stage ls-img next")).stdout, expected);
    assert_eq!(machine.run(&format!("stage ls-img next --stage-store {path}")).stdout, expected);
    machine.set("FORKLIFT_STAGE_STORE", &elsewhere);
    assert_eq!(machine.run("stage ls-img next").stdout, expected);
}

#[test]
fn a_real_stage_store_is_listed_as_forklift_lists_it() {
    let machine = Machine::new();
    let case = testdata("pallets/stages-fresh");
    machine.sandbox.copy_case(&case).unwrap();
    let expected = read_json(&case.join("expected.json"));
    let expected = strings(&expected["store"]["bundles"]["1"]["enabled"]);
    for words in ["stage ls-img", "stage ls-img next", "stage ls-img 1"] {
        let ran = machine.run(words);
        ran.assert_success();
        assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), expected, "{words}");
    }
}

#[test]
fn a_list_that_nobody_reads_is_no_failure() {
    let machine = Machine::new();
    machine.sandbox.copy_case(&testdata("pallets/std-2024-10-head")).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = machine.command("plt ls-img").stdout(writer).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", show(&output));
}
