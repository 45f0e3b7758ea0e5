//! The example of a GitHub workflow: it is YAML with steps, and the program understands its command lines.

use std::fs;

use granit_parser::{Event, Parser};

use crate::machine::{Machine, project};

/// The scalars of a document, each with the keys that lead to it; an element of a sequence has none of its own.
fn scalars(text: &str) -> Vec<(Vec<String>, String)> {
    let mut path: Vec<Option<String>> = Vec::new();
    let mut mappings: Vec<bool> = Vec::new();
    let mut found = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.unwrap_or_else(|error| panic!("the workflow is no YAML: {error}"));
        match event {
            Event::Scalar(text, ..) => {
                let is_key = mappings.last() == Some(&true) && path.last() == Some(&None);
                if is_key {
                    *path.last_mut().unwrap() = Some(text.into_owned());
                    continue;
                }
                found.push((path.iter().flatten().cloned().collect(), text.into_owned()));
                value_ends(&mut path, &mappings);
            }
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                mappings.push(matches!(event, Event::MappingStart(..)));
                path.push(None);
            }
            Event::MappingEnd | Event::SequenceEnd => {
                mappings.pop();
                path.pop();
                value_ends(&mut path, &mappings);
            }
            _ => {}
        }
    }
    found
}

/// A mapping's next scalar is a key again.
fn value_ends(path: &mut [Option<String>], mappings: &[bool]) {
    if mappings.last() == Some(&true) {
        *path.last_mut().unwrap() = None;
    }
}

/// The words of the shell's commands, with what continues on a next line. Variables stay as they are written.
fn commands(script: &str) -> Vec<Vec<String>> {
    let lines = script.replace("\\\n", " ");
    let one = |line: &str| line.split_whitespace().map(|word| word.replace('"', "")).collect();
    lines.lines().flat_map(|line| line.split(" | ")).map(one).collect()
}

/// What of a command is the program's: its own, or what the script for image files gives it.
fn of_the_program(command: &[String]) -> Option<Vec<String>> {
    let at = |name: &str| command.iter().position(|word| word == name);
    if at("palletjack") == Some(0) {
        return Some(command[1..].to_vec());
    }
    at(".github/seed-image.sh")?;
    let seed = at("seed").unwrap();
    Some([&["seed".into(), "--root".into(), "/card".into()], &command[seed + 1..]].concat())
}

#[test]
fn the_workflow_says_what_the_program_understands() {
    let text = fs::read_to_string(project().join("docs/examples/github-workflow.yml")).unwrap();
    let scalars = scalars(&text);
    let runs: Vec<&String> = scalars
        .iter()
        .filter(|(path, _)| path.iter().map(String::as_str).eq(["jobs", "card", "steps", "run"]))
        .map(|(_, text)| text)
        .collect();
    assert!(runs.len() > 3, "{scalars:?}");
    let machine = Machine::new();
    let mut understood = Vec::new();
    for words in runs.iter().flat_map(|run| commands(run)).filter_map(|command| of_the_program(&command)) {
        // With --help in the end, what comes before is read and nothing is done.
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
        let ran = machine.run_args(&words);
        ran.assert_success();
        assert!(ran.stdout.contains("Usage: palletjack"), "{ran}");
        understood.push(words.contains(&"--root"));
    }
    assert!(understood.len() > 2 && understood.contains(&true), "{understood:?}");
    machine.run_args(&["seed", "--root", "/card", "--no-such-flag", "--help"]).assert_code(2);
}
