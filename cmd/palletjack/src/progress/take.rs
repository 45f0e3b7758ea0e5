//! Progress of taking images from an engine.

use std::sync::Mutex;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use palletjack_engine::{TakeEvent, TakeWish, Taken};
use serde::Serialize;

use crate::cli::ProgressMode;
use crate::context::Context;
use crate::printer::{Printer, human_bytes, short_reference};

use super::{JSON_INTERVAL, json_line, locked, shows_bars};

/// What a run shows.
pub(crate) struct TakeProgress {
    view: View,
    printer: Printer,
    names: Vec<String>,
}

enum View {
    Bars { images: ProgressBar, reading: ProgressBar },
    Lines,
    Json(Mutex<Option<Instant>>),
    Silent,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line<'a> {
    Reading { image: &'a str, bytes: u64 },
    ImageDone { image: &'a str, cached: bool, rebuilt: bool },
    ImageFailed { image: &'a str, error: String },
}

impl TakeProgress {
    /// Progress of these images.
    pub(crate) fn start(context: &Context, wishes: &[TakeWish]) -> Self {
        let printer = context.printer.clone();
        let view = match context.globals.progress {
            _ if context.globals.quiet => View::Silent,
            ProgressMode::None => View::Silent,
            ProgressMode::Json => View::Json(Mutex::new(None)),
            _ if shows_bars(context) => bars(&printer, wishes.len()),
            ProgressMode::Plain | ProgressMode::Auto => View::Lines,
        };
        let names =
            wishes.iter().map(|wish| short_reference(&wish.reference.familiar()).to_owned()).collect();
        Self { view, printer, names }
    }

    /// Takes an event.
    pub(crate) fn show(&self, event: &TakeEvent<'_>) {
        self.printer.service().moved();
        match &self.view {
            View::Silent => {}
            View::Lines => self.lines(event),
            View::Bars { images, reading } => match event {
                TakeEvent::Asking { image } => {
                    images.set_message(self.name(*image).to_owned());
                    reading.set_position(0);
                }
                TakeEvent::Reading { bytes, .. } => reading.set_position(*bytes),
                TakeEvent::Done { .. } | TakeEvent::Failed { .. } => images.inc(1),
            },
            View::Json(told) => self.json(told, event),
        }
    }

    /// Takes the bars away.
    pub(crate) fn finish(&self) {
        if let View::Bars { images, reading } = &self.view {
            reading.finish_and_clear();
            images.finish_and_clear();
        }
    }

    fn name(&self, image: usize) -> &str {
        self.names.get(image).map_or("", String::as_str)
    }

    fn lines(&self, event: &TakeEvent<'_>) {
        match event {
            TakeEvent::Done { image, taken } => {
                self.printer.note(&format!("{}: {}", self.name(*image), described(taken)));
            }
            // The whole error follows when everything else is done.
            TakeEvent::Failed { image, .. } => self.printer.note(&format!("{}: failed", self.name(*image))),
            TakeEvent::Asking { .. } | TakeEvent::Reading { .. } => {}
        }
    }

    fn json(&self, told: &Mutex<Option<Instant>>, event: &TakeEvent<'_>) {
        let line = match event {
            TakeEvent::Asking { .. } => return,
            TakeEvent::Reading { image, bytes } => {
                let mut told = locked(told);
                if told.is_some_and(|told| told.elapsed() < JSON_INTERVAL) {
                    return;
                }
                *told = Some(Instant::now());
                Line::Reading { image: self.name(*image), bytes: *bytes }
            }
            TakeEvent::Done { image, taken } => Line::ImageDone {
                image: self.name(*image),
                cached: taken.cached,
                rebuilt: taken.entry.rebuilt.is_some(),
            },
            TakeEvent::Failed { image, error } => {
                Line::ImageFailed { image: self.name(*image), error: error.to_string() }
            }
        };
        json_line(&self.printer, &line);
    }
}

fn described(taken: &Taken) -> String {
    let how = if taken.entry.rebuilt.is_some() { "rebuilt" } else { "as its registry has it" };
    if taken.cached {
        "in the cache".to_owned()
    } else if taken.read == 0 {
        format!("{how}, all of it in the cache under other names")
    } else {
        format!("{how}, {} read", human_bytes(taken.read))
    }
}

fn bars(printer: &Printer, images: usize) -> View {
    let style =
        |template| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let all = ProgressBar::new(images as u64).with_style(style("{bar:30} {pos}/{len} images  {msg}"));
    let one = ProgressBar::no_length().with_style(style("  {spinner} {bytes} read, {bytes_per_sec}"));
    let images = printer.bars().add(all);
    let reading = printer.bars().add(one);
    View::Bars { images, reading }
}
