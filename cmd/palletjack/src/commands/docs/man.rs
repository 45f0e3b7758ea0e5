//! One manual page per command, in section 1.

use std::fs;
use std::io;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{chapters, shown};
use crate::error::{CommandError, Exit};

/// Writes `palletjack.1`, `palletjack-plt.1`, `palletjack-plt-ls-img.1`, …
pub(super) fn write(root: &Command, directory: &Path) -> Result<(), CommandError> {
    pages(root, None, directory).map_err(|error| {
        let context = format!("cannot write manual pages into {}", directory.display());
        CommandError::new(Exit::Failed, error).context(context)
    })
}

fn pages(command: &Command, above: Option<&str>, directory: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    fs::write(directory.join(format!("{name}.1")), page(command, above)?)?;
    shown(command).try_for_each(|below| pages(below, Some(name), directory))
}

fn page(command: &Command, above: Option<&str>) -> io::Result<Vec<u8>> {
    let version = command.get_version().unwrap_or_default();
    let man = Man::new(command.clone()).source(format!("palletjack {version}")).manual("palletjack");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    if command.get_arguments().any(|arg| !arg.is_hide_set()) {
        man.render_options_section(&mut out)?;
    }
    if shown(command).next().is_some() {
        man.render_subcommands_section(&mut out)?;
    }
    let mut roff = Roff::new();
    for (heading, lines) in chapters(command) {
        roff.control("SH", [heading.to_uppercase().as_str()]);
        roff.control("nf", []);
        for line in lines {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
    if let Some(above) = above {
        roff.control("SH", ["SEE ALSO"]);
        let mut see = vec![bold(above), roman("(1)")];
        if above != "palletjack" {
            see.extend([roman(", "), bold("palletjack"), roman("(1)")]);
        }
        see.push(roman(", which has the options of every command"));
        roff.text(see);
    }
    roff.to_writer(&mut out)?;
    Ok(out)
}
