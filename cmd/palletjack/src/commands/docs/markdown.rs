//! The reference of the command line, as the project's documentation has it.

use clap::{Arg, Command};

use super::{chapters, shown};

const INTRODUCTION: &str = "\
<!-- Made by `cargo xtask docs` from the program itself: change the texts in cmd/palletjack/src/cli.rs. -->

# The command line

What `palletjack COMMAND --help` says, in one place.
";

pub(super) fn render(root: &Command) -> String {
    let mut out = INTRODUCTION.to_owned();
    chapter(root, &mut out);
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn chapter(command: &Command, out: &mut String) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    out.truncate(out.trim_end().len());
    out.push_str(&format!("\n\n## `{name}`\n\n"));
    if let Some(about) = command.get_long_about().or_else(|| command.get_about()) {
        out.push_str(&format!("{}\n\n", escaped(about.to_string().trim_end())));
    }
    let aliases: Vec<String> = command.get_visible_aliases().map(|alias| format!("`{alias}`")).collect();
    if !aliases.is_empty() {
        out.push_str(&format!("Also: {}\n\n", aliases.join(", ")));
    }
    let usage = command.clone().render_usage().to_string();
    out.push_str(&format!("    {}\n\n", usage.trim_start_matches("Usage: ").trim()));
    let mut heading = None;
    let mut listed = false;
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        if let Some(next) = arg.get_help_heading()
            && heading != Some(next)
        {
            out.push_str(if listed { "\n" } else { "" });
            out.push_str(&format!("{next}:\n\n"));
            heading = Some(next);
        }
        out.push_str(&format!("* {}\n", argument(arg)));
        listed = true;
    }
    if shown(command).next().is_some() {
        out.push_str(if listed { "\nCommands:\n\n" } else { "Commands:\n\n" });
    }
    for below in shown(command) {
        let name = below.get_bin_name().unwrap_or_else(|| below.get_name());
        let about = below.get_about().map(ToString::to_string).unwrap_or_default();
        out.push_str(&format!("* [`{name}`](#{}): {}\n", name.replace(' ', "-"), escaped(&about)));
    }
    for (heading, lines) in chapters(command) {
        out.push_str(&format!("\n{heading}:\n\n"));
        for line in lines {
            out.push_str(format!("    {line}").trim_end());
            out.push('\n');
        }
    }
    for below in shown(command) {
        chapter(below, out);
    }
}

/// `--wait[=<TIME>]`: what it does, its values, its variable.
fn argument(arg: &Arg) -> String {
    let mut line = format!("`{}`", arg.to_string().trim());
    if let Some(short) = arg.get_short().filter(|_| arg.get_long().is_some()) {
        line = format!("`-{short}`, {line}");
    }
    let help = arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default();
    line.push_str(&format!(": {}", escaped(&help).replace("\n\n", ". ").replace('\n', " ")));
    let choices: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| match value.get_help() {
            Some(help) => format!("`{}` ({})", value.get_name(), escaped(&help.to_string())),
            None => format!("`{}`", value.get_name()),
        })
        .collect();
    let is_flag = !arg.get_action().takes_values();
    if !choices.is_empty() && !is_flag {
        let end = if line.ends_with('.') { "" } else { ":" };
        line.push_str(&format!("{end} {}", choices.join(", ")));
    }
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    if !defaults.is_empty() && !is_flag {
        line.push_str(&format!(" [default: {}]", defaults.join(" ")));
    }
    if let Some(variable) = arg.get_env().filter(|_| !arg.is_hide_env_set()) {
        line.push_str(&format!(" [env: {}]", variable.to_string_lossy()));
    }
    line
}

/// Text in which Markdown finds no HTML.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    let mut code = false;
    for c in text.chars() {
        code ^= c == '`';
        if matches!(c, '<' | '*' | '_') && !code {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
