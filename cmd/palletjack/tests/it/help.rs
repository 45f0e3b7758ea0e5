//! Help texts, as one snapshot; what is made from them; and that documents show commands which exist.

use std::fs;
use std::path::Path;

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
    assert_same_as(&snapshot, &text, "PALLETJACK_UPDATE_SNAPSHOTS=1 writes it anew");
}

#[track_caller]
fn assert_same_as(file: &Path, text: &str, remedy: &str) {
    let expected = fs::read_to_string(file).unwrap_or_default();
    if let Some((line, (was, is))) =
        expected.lines().zip(text.lines()).enumerate().find(|(_, (was, is))| was != is)
    {
        let line = line + 1;
        panic!("{}:{line}: the text was\n  {was}\nand is\n  {is}\n({remedy})", file.display());
    }
    let lengths = (expected.lines().count(), text.lines().count());
    assert_eq!(lengths.0, lengths.1, "{}: one is the beginning of the other ({remedy})", file.display());
}

#[test]
fn the_reference_in_the_documentation_is_current() {
    let ran = machine().run("docs markdown");
    ran.assert_success();
    assert_same_as(&project().join("docs/cli.md"), &ran.stdout, "`cargo xtask docs` writes it anew");
}

/// Every command's words, the program itself first.
fn every_command(machine: &Machine) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut next = 0;
    while let Some(words) = found.get(next).cloned() {
        let help = machine.run(&format!("{words} --help")).stdout;
        found.extend(subcommands(&help).iter().map(|name| format!("{words} {name}").trim().to_owned()));
        next += 1;
    }
    found
}

/// The flags that a command has of its own, as its help shows them: those before the global ones.
fn own_flags(help: &str) -> Vec<String> {
    help.lines()
        .take_while(|line| *line != "Global options:")
        .filter_map(|line| line.split("--").nth(1).filter(|_| line.starts_with("      --")))
        .map(|rest| rest.split([' ', '=', '[']).next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn every_command_has_a_manual_page_with_all_of_its_flags() {
    let machine = machine();
    let pages = tempfile::tempdir().unwrap();
    machine.run_args(&["docs", "man", pages.path().to_str().unwrap()]).assert_success();
    let mut flags = 0;
    let commands = every_command(&machine);
    for words in &commands {
        let name = format!("palletjack {words}").trim().replace(' ', "-");
        let page = fs::read_to_string(pages.path().join(format!("{name}.1")))
            .unwrap_or_else(|error| panic!("{name}.1: {error}"));
        assert!(page.contains(&format!(".TH {name} 1 ")), "{page}");
        for flag in own_flags(&machine.run(&format!("{words} --help")).stdout) {
            let written = format!("--{flag}").replace('-', "\\-");
            assert!(page.contains(&written), "{name}.1 lacks --{flag}");
            flags += 1;
        }
    }
    assert_eq!(fs::read_dir(pages.path()).unwrap().count(), commands.len(), "a page of no command");
    assert!(flags > 30, "{flags} flags");
    let root = fs::read_to_string(pages.path().join("palletjack.1")).unwrap();
    assert!(root.contains("\\-\\-offline") && root.contains("PALLETJACK_OFFLINE"), "{root}");
    assert!(!root.contains("palletjack\\-docs"), "a hidden command: {root}");

    let ran = machine.run("docs man /nowhere");
    ran.assert_code(1);
    assert!(ran.stderr.contains("cannot write manual pages into /nowhere"), "{ran}");
}

#[test]
fn bash_completes_what_the_program_understands() {
    let machine = machine();
    // A mistake in the configuration must not break every new shell of a person.
    machine.configure("nonsense = [");
    let script = machine.run("completions bash");
    script.assert_success();
    let file = machine.sandbox.write("completions.bash", &script.stdout).unwrap();
    let complete = |words: &str, word: &str, previous: &str| {
        let ask = format!(
            "source {}; COMP_WORDS=(palletjack {words} '{word}'); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _palletjack palletjack '{word}' {previous}; echo \"${{COMPREPLY[*]}}\"",
            file.display()
        );
        let ran = machine.run_other("bash", &["--norc", "-c", &ask]);
        ran.assert_success();
        ran.stdout.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete("plt", "cache-", "plt"), ["cache-img", "cache-images"]);
    assert_eq!(complete("", "comp", "palletjack"), ["completions"]);
    assert!(complete("", "doc", "palletjack").is_empty(), "a hidden command is offered");
    let commands = every_command(&machine);
    for words in commands.iter().filter(|words| !words.is_empty()) {
        let (above, last) = words.rsplit_once(' ').unwrap_or(("", words));
        let previous = above.rsplit(' ').next().filter(|word| !word.is_empty()).unwrap_or("palletjack");
        assert!(complete(above, last, previous).iter().any(|word| word == last), "{words}");
        let flags = complete(words, "--", last);
        for flag in own_flags(&machine.run(&format!("{words} --help")).stdout) {
            assert!(flags.contains(&format!("--{flag}")), "{words} --{flag}: {flags:?}");
        }
    }
}

#[test]
fn other_shells_are_told_of_every_command() {
    let machine = machine();
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let ran = machine.run(&format!("completions {shell}"));
        ran.assert_success();
        for words in every_command(&machine) {
            let name = words.rsplit(' ').next().unwrap_or_default();
            assert!(ran.stdout.contains(name), "{shell} does not know {words}");
        }
    }
    machine.run("completions sh").assert_code(2);
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
