//! `docs`: the manual pages and the reference, from the definition of the command line itself.
//!
//! Global options are told once, in the first page or chapter: on every command they would bury its own.

mod man;
mod markdown;

use clap::{Command, CommandFactory};

use crate::cli::{Cli, DocsVerb};
use crate::error::CommandError;
use crate::printer::Printer;

pub(crate) fn run(printer: &Printer, what: &DocsVerb) -> Result<(), CommandError> {
    let mut root = Cli::command().disable_help_subcommand(true);
    // This hands the global options down, and gives each command its whole name.
    root.build();
    let root = root.mut_subcommands(without_globals);
    match what {
        DocsVerb::Man { directory } => man::write(&root, directory),
        DocsVerb::Markdown => printer.result(&markdown::render(&root)),
    }
}

/// The same command, showing its own options only, and so those below it.
fn without_globals(command: Command) -> Command {
    let hide = |arg: clap::Arg| {
        let of_clap = matches!(arg.get_id().as_str(), "help" | "version");
        let hide = arg.is_hide_set() || arg.is_global_set() || of_clap;
        arg.hide(hide)
    };
    command.mut_args(hide).mut_subcommands(without_globals)
}

/// The commands below one that people are told of.
fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|below| !below.is_hide_set())
}

/// What stands after a command's options: chapters such as `Examples:`, each with its lines.
fn chapters(command: &Command) -> Vec<(String, Vec<String>)> {
    let text = command.get_after_long_help().or_else(|| command.get_after_help());
    let mut chapters: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.map(ToString::to_string).unwrap_or_default().lines() {
        match line.strip_suffix(':') {
            Some(heading) if !line.starts_with(' ') => chapters.push((heading.to_owned(), Vec::new())),
            _ => {
                let line = line.strip_prefix("  ").unwrap_or(line).to_owned();
                match chapters.last_mut() {
                    Some((_, lines)) => lines.push(line),
                    None => chapters.push(("Notes".to_owned(), vec![line])),
                }
            }
        }
    }
    for (_, lines) in &mut chapters {
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
    }
    chapters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_options_has_chapters() {
        let command = Command::new("x").after_help("Examples:\n  Do it:\n    x y\n\nExit status:\n  0 done");
        let examples = ("Examples".to_owned(), vec!["Do it:".to_owned(), "  x y".to_owned()]);
        let status = ("Exit status".to_owned(), vec!["0 done".to_owned()]);
        assert_eq!(chapters(&command), [examples, status]);
        assert!(chapters(&Command::new("x")).is_empty());
    }
}
