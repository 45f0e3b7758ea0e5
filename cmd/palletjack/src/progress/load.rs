//! Progress of loads.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use palletjack_engine::{Event, Was};
use palletjack_store::Image;
use serde::Serialize;

use crate::cli::ProgressMode;
use crate::context::Context;
use crate::printer::{Printer, human_bytes, short_reference};

use super::{JSON_INTERVAL, json_line, locked, shows_bars};

/// What a run of loads shows.
pub(crate) struct LoadProgress {
    view: View,
    printer: Printer,
    names: Vec<String>,
    /// Images that nothing more is done for.
    done: AtomicUsize,
}

enum View {
    Bars { images: ProgressBar, sending: ProgressBar, sent: Mutex<Sent> },
    Lines,
    Json(Mutex<Option<Instant>>),
    Silent,
}

/// Bytes taken and bytes in all, of each image whose sending has begun: several are in flight at once.
type Sent = BTreeMap<usize, (u64, u64)>;

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line<'a> {
    Sending { image: &'a str, bytes: u64, total: u64 },
    Unpacking { image: &'a str },
    SendingWhole { image: &'a str, reason: String },
    ImageDone { image: &'a str, present: bool },
    ImageFailed { image: &'a str, error: String },
}

impl LoadProgress {
    /// Progress of loading `images`.
    pub(crate) fn start(context: &Context, images: &[Image]) -> Self {
        let printer = context.printer.clone();
        let view = match context.globals.progress {
            _ if context.globals.quiet => View::Silent,
            ProgressMode::None => View::Silent,
            ProgressMode::Json => View::Json(Mutex::new(None)),
            _ if shows_bars(context) => bars(&printer, images.len()),
            ProgressMode::Plain | ProgressMode::Auto => View::Lines,
        };
        let names = images
            .iter()
            .map(|image| short_reference(&image.entry.reference.familiar()).to_owned())
            .collect();
        Self { view, printer, names, done: AtomicUsize::new(0) }
    }

    /// Takes an event.
    pub(crate) fn show(&self, event: &Event<'_>) {
        if let Event::DiskMayBeShort { forecast } = event {
            self.printer.warning(&crate::load_plan::disk_warning(forecast));
        }
        self.tell_service(event);
        match &self.view {
            View::Silent => {}
            View::Lines => self.lines(event),
            View::Bars { images, sending, sent } => self.bars(images, sending, sent, event),
            View::Json(told) => self.json(told, event),
        }
    }

    /// Takes the bars away.
    pub(crate) fn finish(&self) {
        if let View::Bars { images, sending, .. } = &self.view {
            sending.finish_and_clear();
            images.finish_and_clear();
        }
    }

    fn tell_service(&self, event: &Event<'_>) {
        let service = self.printer.service();
        service.moved();
        let (image, does) = match event {
            Event::Checking { image } => (*image, "looking".to_owned()),
            Event::Sending { image, bytes, total } => {
                (*image, format!("{} of {} sent", human_bytes(*bytes), human_bytes(*total)))
            }
            Event::Waiting { image } => (*image, "unpacking".to_owned()),
            Event::Skipped { .. } | Event::Loaded { .. } | Event::Failed { .. } => {
                self.done.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Event::DiskMayBeShort { .. } | Event::WholeAgain { .. } => return,
        };
        let (done, all) = (self.done.load(Ordering::Relaxed), self.names.len());
        service.status(&format!("{done} of {all} images; {}: {does}", self.name(image)));
    }

    fn name(&self, image: usize) -> &str {
        self.names.get(image).map_or("", String::as_str)
    }

    fn lines(&self, event: &Event<'_>) {
        match event {
            Event::Skipped { image, .. } => self.printer.note(&format!("{}: present", self.name(*image))),
            Event::Loaded { image, loaded } => {
                let sent = match loaded.was {
                    Was::Present => 0,
                    Was::Sent { bytes, .. } => bytes,
                };
                self.printer.note(&format!("{}: loaded, {} sent", self.name(*image), human_bytes(sent)));
            }
            // The whole error follows when everything else is done.
            Event::Failed { image, .. } => self.printer.note(&format!("{}: failed", self.name(*image))),
            Event::WholeAgain { image, .. } => self.printer.note(&format!(
                "{}: the engine lacks a layer that it seemed to have; all of the image is sent",
                self.name(*image)
            )),
            Event::Checking { .. }
            | Event::DiskMayBeShort { .. }
            | Event::Sending { .. }
            | Event::Waiting { .. } => {}
        }
    }

    fn bars(&self, images: &ProgressBar, sending: &ProgressBar, sent: &Mutex<Sent>, event: &Event<'_>) {
        match event {
            Event::Checking { image } => images.set_message(self.name(*image).to_owned()),
            Event::Sending { image, bytes, total } => {
                let mut sent = locked(sent);
                sent.insert(*image, (*bytes, *total));
                sending.set_length(sent.values().map(|(_, total)| total).sum());
                sending.set_position(sent.values().map(|(bytes, _)| bytes).sum());
            }
            Event::DiskMayBeShort { .. } | Event::WholeAgain { .. } => {}
            Event::Waiting { image } => images.set_message(format!("{}: unpacking", self.name(*image))),
            Event::Skipped { .. } | Event::Loaded { .. } | Event::Failed { .. } => images.inc(1),
        }
    }

    fn json(&self, told: &Mutex<Option<Instant>>, event: &Event<'_>) {
        let line = match event {
            Event::Checking { .. } | Event::DiskMayBeShort { .. } => return,
            Event::WholeAgain { image, error } => {
                Line::SendingWhole { image: self.name(*image), reason: error.to_string() }
            }
            Event::Sending { image, bytes, total } => {
                let mut told = locked(told);
                if told.is_some_and(|told| told.elapsed() < JSON_INTERVAL) {
                    return;
                }
                *told = Some(Instant::now());
                Line::Sending { image: self.name(*image), bytes: *bytes, total: *total }
            }
            Event::Waiting { image } => Line::Unpacking { image: self.name(*image) },
            Event::Skipped { image, .. } => Line::ImageDone { image: self.name(*image), present: true },
            Event::Loaded { image, .. } => Line::ImageDone { image: self.name(*image), present: false },
            Event::Failed { image, error } => {
                Line::ImageFailed { image: self.name(*image), error: error.to_string() }
            }
        };
        json_line(&self.printer, &line);
    }
}

fn bars(printer: &Printer, images: usize) -> View {
    let style =
        |template| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let all = ProgressBar::new(images as u64).with_style(style("{bar:30} {pos}/{len} images  {msg}"));
    let one = ProgressBar::no_length().with_style(style("  {bar:28} {bytes}/{total_bytes}"));
    let images = printer.bars().add(all);
    let sending = printer.bars().add(one);
    View::Bars { images, sending, sent: Mutex::default() }
}
