//! Sending what a run has to send: several at once, each with the proof that it arrived.

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use palletjack_image::Digest;
use palletjack_store::{Image, Store};

use crate::answer::is_no_space;
use crate::connect::Engine;
use crate::error::{LoadError, Phase};
use crate::event::Event;
use crate::job::{Job, Waiting};
use crate::known::Known;
use crate::load::LoadOptions;
use crate::order::{self, Candidate};
use crate::outcome::{Loaded, RunsAs, Was};
use crate::plan::Delta;
use crate::sighting::Sighting;
use crate::upload::{Ended, upload};

/// What all loads of a run have in common.
#[derive(Clone, Copy)]
pub(crate) struct Run<'r> {
    pub(crate) engine: &'r Engine,
    pub(crate) store: &'r Store,
    pub(crate) options: &'r LoadOptions,
    pub(crate) events: &'r (dyn Fn(Event<'_>) + Send + Sync),
}

/// How far an image has come.
enum Stage<'i> {
    /// The engine has it, or will not get it: another can be sent.
    Brought(Brought<'i>),
    /// Those who take part have done their part, such as syncing what the engine wrote.
    Done { index: usize, result: Result<Loaded, LoadError> },
}

struct Brought<'i> {
    index: usize,
    job: Job<'i>,
    candidate: Candidate,
    result: Result<Loaded, LoadError>,
    /// Layers that the engine was believed to have, and that it missed.
    distrusted: Vec<Digest>,
}

impl Run<'_> {
    /// Sends what waits, each as soon as nothing in flight brings something that it lacks.
    pub(crate) async fn send(
        &self,
        mut waiting: Vec<Waiting<'_>>,
        known: &mut Known,
        parallel: usize,
        results: &mut [Option<Result<Loaded, LoadError>>],
    ) {
        let mut in_flight: FuturesUnordered<BoxFuture<'_, Stage<'_>>> = FuturesUnordered::new();
        let mut flying: Vec<Candidate> = Vec::new();
        let mut sent: Vec<Job<'_>> = Vec::new();
        loop {
            while flying.len() < parallel {
                let candidates: Vec<Candidate> =
                    waiting.iter().map(|waiting| waiting.candidate(known)).collect();
                let Some(next) = order::next(&candidates, &flying) else { break };
                let next_up = waiting.remove(next);
                let candidate = candidates[next].clone();
                // A load of this run may have brought it along, or taken a name from it.
                let tag = next_up.job.image.entry.reference.tagged();
                let stale = sent.iter().any(|earlier| {
                    earlier.is_same_image(&next_up.job) || earlier.image.entry.reference.tagged() == tag
                });
                flying.push(candidate.clone());
                in_flight.push(self.load_one(next_up, known.clone(), candidate, stale).boxed());
            }
            let brought = match in_flight.next().await {
                None => break,
                Some(Stage::Brought(brought)) => brought,
                Some(Stage::Done { index, result }) => {
                    if let Err(error) = &result {
                        (self.events)(Event::Failed { image: index, error });
                    }
                    results[index] = Some(result);
                    continue;
                }
            };
            let Brought { index, job, candidate, result, distrusted } = brought;
            if let Some(at) = flying.iter().position(|flying| *flying == candidate) {
                flying.swap_remove(at);
            }
            known.distrust(&distrusted);
            sent.push(job);
            if result.is_ok() {
                known.add(known.keys_of(job.image));
            }
            in_flight.push(
                self.complete(index, job, result).map(move |result| Stage::Done { index, result }).boxed(),
            );
        }
    }

    async fn load_one<'i>(
        &self,
        waiting: Waiting<'i>,
        known: Known,
        candidate: Candidate,
        stale: bool,
    ) -> Stage<'i> {
        let Waiting { index, job, seen } = waiting;
        let mut distrusted = Vec::new();
        let result = self.bring(index, job, seen, &known, stale, &mut distrusted).await;
        Stage::Brought(Brought { index, job, candidate, result, distrusted })
    }

    /// Lets those who take part do theirs, and tells what came of it.
    async fn complete(
        &self,
        index: usize,
        job: Job<'_>,
        brought: Result<Loaded, LoadError>,
    ) -> Result<Loaded, LoadError> {
        let mut loaded = brought?;
        self.after_seen(&job, &mut loaded).await?;
        (self.events)(match loaded.was {
            Was::Present => Event::Skipped { image: index, loaded: &loaded },
            Was::Sent { .. } => Event::Loaded { image: index, loaded: &loaded },
        });
        Ok(loaded)
    }

    async fn bring(
        &self,
        index: usize,
        job: Job<'_>,
        mut seen: Sighting,
        known: &Known,
        stale: bool,
        distrusted: &mut Vec<Digest>,
    ) -> Result<Loaded, LoadError> {
        if stale {
            let looked = self.engine.look_at(job, None).await?;
            if looked.enough {
                return Ok(loaded(job.image, Was::Present, looked.seen));
            }
            seen = looked.seen;
        }
        tracing::debug!(image = job.name(), ?seen, "sending");
        let was_known = seen.content || seen.tag == Some(true);
        let takes_tag = job.tag && seen.tag == Some(false);
        let displaced = if takes_tag { self.engine.tag_holder(job.image).await } else { None };
        let delta = job.delta(known);
        let mut whole_again = false;
        let mut sent = Sent::default();
        let mut attempt = self.attempt(index, &job, delta.clone(), &mut sent).await;
        if let Err(error) = &attempt
            && error.may_be_a_hole()
            && !delta.omit.is_empty()
        {
            whole_again = true;
            distrusted.extend(&delta.omitted_keys);
            (self.events)(Event::WholeAgain { image: index, error });
            let whole = job.delta(&Known::nothing(self.engine.capabilities().kind));
            attempt = self.attempt(index, &job, whole, &mut sent).await;
        }
        let seen = attempt?;
        if whole_again || was_known {
            self.engine.forget_nameless(job.image, &seen).await;
        }
        if let Some(id) = displaced {
            self.engine.forget_displaced(&id).await;
        }
        let was = Was::Sent { bytes: sent.bytes, layer_bytes: sent.layer_bytes, whole_again };
        Ok(loaded(job.image, was, seen))
    }

    /// One request, and the proof that it did what it says.
    async fn attempt(
        &self,
        index: usize,
        job: &Job<'_>,
        delta: Delta,
        sent: &mut Sent,
    ) -> Result<Sighting, LoadError> {
        let mut export = self.engine.export(self.store, job, delta)?;
        if let Some(scratch) = &self.options.scratch {
            export = export.with_scratch(scratch.clone());
        }
        let planned = export.length();
        let progress = |phase, taken: u64| match phase {
            // What is recoded gets another length than it had.
            Phase::Sending => {
                (self.events)(Event::Sending { image: index, bytes: taken, total: planned.max(taken) });
            }
            Phase::Waiting => (self.events)(Event::Waiting { image: index }),
        };
        let (ended, bytes, layer_bytes) = upload(&self.engine.docker, export, self.options, &progress).await;
        sent.bytes += bytes;
        sent.layer_bytes += layer_bytes;
        accepted(&job.name(), ended, planned)?;

        let image = job.image;
        let unknown = |source| LoadError::Unknown { image: job.name(), source };
        let seen = self.engine.look(image).await.map_err(unknown)?;
        if seen.content && (seen.exact || seen.tag != Some(false) || !job.tag) {
            Ok(seen)
        } else {
            Err(LoadError::NotThere { image: job.name(), what: what_is_missing(&seen).to_owned() })
        }
    }

    /// An image that was there before anything was sent.
    pub(crate) async fn is_present(
        &self,
        index: usize,
        job: &Job<'_>,
        seen: Sighting,
    ) -> Result<Loaded, LoadError> {
        let result = self.complete(index, *job, Ok(loaded(job.image, Was::Present, seen))).await;
        if let Err(error) = &result {
            (self.events)(Event::Failed { image: index, error });
        }
        result
    }

    async fn after_seen(&self, job: &Job<'_>, loaded: &mut Loaded) -> Result<(), LoadError> {
        for around in &self.options.around {
            around.after_seen(self.engine, job.image, loaded).await?;
        }
        Ok(())
    }
}

/// Bytes of all requests of one image.
#[derive(Default)]
struct Sent {
    bytes: u64,
    layer_bytes: u64,
}

pub(crate) fn loaded(image: &Image, was: Was, seen: Sighting) -> Loaded {
    let reference = image.entry.reference.clone();
    let runs_as = RunsAs::of(&reference, &seen);
    Loaded { reference, was, resolves: seen, runs_as, rebuilt: image.entry.rebuilt.is_some() }
}

fn what_is_missing(seen: &Sighting) -> &'static str {
    match (seen.content, seen.tag) {
        (true, _) => "its tag means another image",
        (false, Some(true)) => "it is listed, but its content is not complete",
        (false, _) => "no image by its name or ID",
    }
}

fn accepted(image: &str, ended: Ended, total: u64) -> Result<(), LoadError> {
    let image = image.to_owned();
    match ended {
        Ended::Answered(answer) => match answer.failure {
            None => Ok(()),
            Some(message) if is_no_space(&message) => {
                Err(LoadError::NoSpace { image, message, bytes: total })
            }
            Some(message) => Err(LoadError::Refused { image, message }),
        },
        Ended::Export(source) => Err(LoadError::Export { image, source: Box::new(source) }),
        Ended::Stalled { phase, after, sent } => Err(LoadError::Stalled { image, after, phase, sent, total }),
        Ended::Lost(source) => Err(LoadError::Lost { image, source: source.into() }),
    }
}
