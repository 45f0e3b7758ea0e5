//! Progress of downloads.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use palletjack_image::Digest;
use palletjack_registry::Event;
use serde::Serialize;

use crate::cli::ProgressMode;
use crate::context::Context;
use crate::printer::{Printer, human_bytes, short_digests, short_reference};

use super::{JSON_INTERVAL, json_line, locked, shows_bars};

/// What a run of downloads shows.
pub(crate) struct FetchProgress {
    view: View,
    printer: Printer,
    /// Why something was tried again, as far as it was told.
    retried: Mutex<HashSet<String>>,
}

enum View {
    Bars(Mutex<Bars>),
    Lines,
    Json(Mutex<JsonState>),
    Silent,
}

struct Bars {
    images: ProgressBar,
    bytes: u64,
    started: Instant,
    blobs: HashMap<Digest, ProgressBar>,
}

/// Bytes that were not told yet, so that a line is written some five times a second and not per piece.
struct JsonState {
    bytes: u64,
    told: Instant,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line<'a> {
    Resolving { image: &'a str },
    Resolved { image: &'a str, bytes: u64 },
    Fetched { bytes: u64 },
    Retrying { what: &'a str, after_ms: u128, why: &'a str },
    ImageDone { image: &'a str, cached: bool },
    ImageFailed { image: &'a str, error: &'a str },
    Warning { message: &'a str },
}

impl FetchProgress {
    /// Progress of `images` images.
    pub(crate) fn start(context: &Context, images: usize) -> Arc<Self> {
        let printer = context.printer.clone();
        let view = match context.globals.progress {
            _ if context.globals.quiet => View::Silent,
            ProgressMode::None => View::Silent,
            ProgressMode::Json => View::Json(Mutex::new(JsonState { bytes: 0, told: Instant::now() })),
            _ if shows_bars(context) => View::Bars(Mutex::new(Bars::new(&printer, images))),
            ProgressMode::Plain | ProgressMode::Auto => View::Lines,
        };
        Arc::new(Self { view, printer, retried: Mutex::default() })
    }

    /// Takes an event.
    pub(crate) fn show(&self, event: &Event) {
        self.printer.service().moved();
        match event {
            Event::BlobProgress { .. } => {}
            Event::Retrying { .. } | Event::Resolved { .. } => tracing::info!("{event:?}"),
            _ => tracing::debug!("{event:?}"),
        }
        if let Event::Warning(message) = event
            && !matches!(self.view, View::Json(_))
        {
            self.printer.warning(message);
            return;
        }
        match &self.view {
            View::Silent => {}
            View::Lines => self.lines(event),
            View::Bars(bars) => {
                let mut bars = locked(bars);
                bars.show(event, &self.printer);
                drop(bars);
                if matches!(event, Event::Retrying { .. } | Event::ImageFailed { .. }) {
                    self.lines(event);
                }
            }
            View::Json(state) => self.json(state, event),
        }
    }

    /// Takes the bars away.
    pub(crate) fn finish(&self) {
        if let View::Bars(bars) = &self.view {
            let bars = locked(bars);
            bars.blobs.values().for_each(ProgressBar::finish_and_clear);
            bars.images.finish_and_clear();
        }
    }

    fn lines(&self, event: &Event) {
        match event {
            Event::ImageDone { image, cached } => {
                let state = if *cached { "in the cache" } else { "fetched" };
                self.printer.note(&format!("{}: {state}", short_reference(image)));
            }
            Event::Retrying { after, why, .. } => {
                // A registry that is down fails for every image in the same way; saying it once is enough.
                let why = short_digests(why);
                let cause = why.split_once(" from ").map_or(&*why, |(_, cause)| cause).to_owned();
                if locked(&self.retried).insert(cause) {
                    self.printer.note(&format!("trying again in {:.1} s: {why}", after.as_secs_f64()));
                }
            }
            // The whole error follows when everything else is done.
            Event::ImageFailed { image, .. } => {
                self.printer.note(&format!("{}: failed", short_reference(image)));
            }
            _ => {}
        }
    }

    fn json(&self, state: &Mutex<JsonState>, event: &Event) {
        let mut state = locked(state);
        if let Event::BlobProgress { bytes, .. } = event {
            state.bytes += bytes;
            if state.told.elapsed() < JSON_INTERVAL {
                return;
            }
        }
        if state.bytes > 0 {
            let bytes = std::mem::take(&mut state.bytes);
            state.told = Instant::now();
            json_line(&self.printer, &Line::Fetched { bytes });
        }
        let line = match event {
            Event::Resolving { image } => Line::Resolving { image },
            Event::Resolved { image, total } => Line::Resolved { image, bytes: *total },
            Event::Retrying { what, after, why } => Line::Retrying { what, after_ms: after.as_millis(), why },
            Event::ImageDone { image, cached } => Line::ImageDone { image, cached: *cached },
            Event::ImageFailed { image, error } => Line::ImageFailed { image, error },
            Event::Warning(message) => Line::Warning { message },
            _ => return,
        };
        json_line(&self.printer, &line);
    }
}

impl Bars {
    fn new(printer: &Printer, images: usize) -> Self {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} images  {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(images as u64).with_style(style);
        let images = printer.bars().add(bar);
        images.tick();
        Self { images, bytes: 0, started: Instant::now(), blobs: HashMap::new() }
    }

    fn show(&mut self, event: &Event, printer: &Printer) {
        match event {
            Event::BlobStarted { digest, size, offset } => {
                let style = ProgressStyle::with_template("  {msg} {bar:22} {bytes}/{total_bytes}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar());
                let bar = self
                    .blobs
                    .entry(*digest)
                    .or_insert_with(|| printer.bars().add(ProgressBar::new(*size).with_style(style)));
                bar.set_message(digest.short());
                bar.set_position(*offset);
            }
            Event::BlobProgress { digest, bytes } => {
                self.bytes += bytes;
                if let Some(bar) = self.blobs.get(digest) {
                    bar.inc(*bytes);
                }
                let seconds = self.started.elapsed().as_secs_f64().max(0.1);
                let rate = per_second(self.bytes, seconds);
                self.images.set_message(format!("{} at {}/s", human_bytes(self.bytes), human_bytes(rate)));
            }
            Event::BlobDone { digest } => {
                if let Some(bar) = self.blobs.remove(digest) {
                    bar.finish_and_clear();
                }
            }
            Event::ImageDone { .. } | Event::ImageFailed { .. } => self.images.inc(1),
            _ => {}
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate to be shown, never negative"
)]
fn per_second(bytes: u64, seconds: f64) -> u64 {
    (bytes as f64 / seconds) as u64
}
