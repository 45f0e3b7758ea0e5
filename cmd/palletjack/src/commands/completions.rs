//! `completions`: the shells' halves of tab completion.

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::CommandError;
use crate::printer::Printer;

pub(crate) fn completions(printer: &Printer, shell: Shell) -> Result<(), CommandError> {
    let mut command = shown(&Cli::command());
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, env!("CARGO_BIN_NAME"), &mut script);
    printer.result(&String::from_utf8_lossy(&script))
}

/// The program without its hidden commands, which the generators would offer.
fn shown(program: &Command) -> Command {
    Command::new(env!("CARGO_BIN_NAME"))
        .version(env!("CARGO_PKG_VERSION"))
        .about(program.get_about().cloned().unwrap_or_default())
        .args(program.get_arguments())
        .subcommands(program.get_subcommands().filter(|command| !command.is_hide_set()))
}
