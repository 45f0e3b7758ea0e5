//! Help texts, as one snapshot; and that documents show commands which exist.

use std::fs;

use crate::machine::{Machine, project, testdata};

fn machine() -> Machine {
    let mut machine = Machine::new();
    machine.unset("PALLETJACK_PLATFORM");
    machine
}

/// The commands below one, as its help lists them.
fn subcommands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

fn collect(machine: &Machine, words: &str, out: &mut String) {
    let ran = machine.run(&format!("{words} --help"));
    ran.assert_success();
    assert_eq!(ran.stderr, "");
    out.push_str(&format!(
        "$ palletjack{}{words} --help\n{}\n",
        if words.is_empty() { "" } else { " " },
        ran.stdout
    ));
    for name in subcommands(&ran.stdout) {
        collect(machine, format!("{words} {name}").trim(), out);
    }
}

/// Set `PALLETJACK_UPDATE_SNAPSHOTS=1` to write the file anew, then read the difference.
#[test]
fn the_help_of_every_command_is_the_one_that_was_read_and_found_good() {
    let mut text = String::new();
    collect(&machine(), "", &mut text);
    let snapshot = testdata("cli/help.txt");
    if std::env::var_os("PALLETJACK_UPDATE_SNAPSHOTS").is_some() {
        fs::create_dir_all(snapshot.parent().unwrap()).unwrap();
        fs::write(&snapshot, &text).unwrap();
    }
    let expected = fs::read_to_string(&snapshot).unwrap_or_default();
    if let Some((line, (was, is))) =
        expected.lines().zip(text.lines()).enumerate().find(|(_, (was, is))| was != is)
    {
        panic!(
            "{}:{}: the help was\n  {was}\nand is\n  {is}\n(PALLETJACK_UPDATE_SNAPSHOTS=1 writes it anew)",
            snapshot.display(),
            line + 1
        );
    }
    assert_eq!(expected.lines().count(), text.lines().count(), "one is the beginning of the other");
}

#[test]
fn every_verb_that_the_design_promises_is_there_with_forklifts_long_name() {
    let machine = machine();
    let verbs = [("ls-img", "list-images"), ("cache-img", "cache-images"), ("load-img", "load-images")];
    let groups = ["plt", "pallet", "dev plt", "development pallet", "stage"];
    let of_cache = [
        ("add-img", "add-images"),
        ("del-img", "delete-images"),
        ("ls-img", "list-images"),
        ("load-img", "load-images"),
    ];
    let with_cache = groups.iter().flat_map(|group| verbs.iter().map(move |verb| (*group, *verb)));
    for (group, (short, long)) in with_cache.chain(of_cache.iter().map(|verb| ("cache", *verb))) {
        let help = |verb: &str| machine.run(&format!("{group} {verb} --help"));
        help(short).assert_success();
        assert_eq!(help(short).stdout, help(long).stdout, "{group} {long}");
    }
    machine.run("cache verify --help").assert_success();
    let ran = machine.run("--version");
    assert_eq!(ran.stdout, format!("palletjack {}\n", env!("CARGO_PKG_VERSION")));
}

/// Commands in indented blocks, and short ones between backticks.
fn commands(document: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in document.lines() {
        if let Some(command) = line.strip_prefix("    palletjack ") {
            found.push(command.split("  ").next().unwrap_or_default().trim().to_owned());
        } else {
            let quoted = line.split('`').skip(1).step_by(2);
            found.extend(quoted.filter_map(|text| text.strip_prefix("palletjack ")).map(str::to_owned));
        }
    }
    found
}

#[test]
fn documents_show_commands_that_exist() {
    let machine = machine();
    let mut seen = 0;
    for document in ["README.md", "docs/TROUBLESHOOTING.md", "pallets/field-station/README.md"] {
        let text = fs::read_to_string(project().join(document))
            .unwrap_or_else(|error| panic!("{document}: {error}"));
        for command in commands(&text) {
            let ran = machine.run(&format!("{command} --help"));
            assert!(ran.success(), "{document} shows `palletjack {command}`: {ran}");
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen} commands");
}
