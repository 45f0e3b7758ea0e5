//! Writing a list of required images.

use std::io::{IsTerminal, stdout};

use palletjack_pallet::Requirement;
use serde::Serialize;

use crate::cli::Output;
use crate::context::Context;
use crate::error::{CommandError, printable};
use crate::requirements::Requirements;

/// The document of `ls-img --output json`.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    /// Forklift's list.
    images: Vec<Image<'a>>,
    /// Needed on the device, but not in Forklift's list.
    extra_images: Vec<Image<'a>>,
}

#[derive(Serialize)]
struct Image<'a> {
    image: &'a str,
    required_by: Vec<Origin<'a>>,
}

#[derive(Serialize)]
struct Origin<'a> {
    deployment: &'a str,
    service: &'a str,
    feature: Option<&'a str>,
    compose_file: String,
    line: u32,
}

/// Prints one image per line, the strings as Forklift prints them; or all that is known, as JSON.
pub(crate) fn print(context: &Context, requirements: &Requirements) -> Result<(), CommandError> {
    match context.globals.output {
        Output::Text => {
            let mut text = String::new();
            for requirement in &requirements.listed {
                text.push_str(&requirement.image);
                text.push('\n');
            }
            // To the byte as Forklift prints it, unless it would steer somebody's terminal.
            let text = if stdout().is_terminal() { printable(&text) } else { text };
            context.printer.result(&text)
        }
        Output::Json => context.printer.json(&Document {
            schema: "palletjack.required-images/1",
            images: requirements.listed.iter().map(image).collect(),
            extra_images: requirements.extra.iter().map(image).collect(),
        }),
    }
}

fn image(requirement: &Requirement) -> Image<'_> {
    Image {
        image: &requirement.image,
        required_by: requirement
            .origins
            .iter()
            .map(|origin| Origin {
                deployment: &origin.deployment,
                service: &origin.service,
                feature: origin.feature.as_deref(),
                compose_file: origin.compose_file.display().to_string(),
                line: origin.line,
            })
            .collect(),
    }
}
