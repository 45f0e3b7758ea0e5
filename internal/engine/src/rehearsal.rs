//! A run of loads without sending anything: what would be sent, in its order, and what the disk would hold.

use std::collections::HashSet;

use palletjack_image::{Digest, LayerCompression};
use palletjack_store::{Image, Store};

use crate::capabilities::EngineKind;
use crate::connect::Engine;
use crate::disk::{self, Forecast, local_disk};
use crate::error::LoadError;
use crate::job::{Job, Looked, Waiting};
use crate::known::Known;
use crate::load::LoadOptions;
use crate::order::{self, Candidate};
use crate::plan::{Delta, ImagePlan, LoadPlan, Step};
use crate::sighting::Sighting;
use crate::spool::Spool;

impl Engine {
    /// What [`Self::load_all`] would do now. Changes nothing.
    pub async fn plan(&self, store: &Store, images: &[Image], options: &LoadOptions) -> LoadPlan {
        let mut plans: Vec<Option<Result<ImagePlan, LoadError>>> = images.iter().map(|_| None).collect();
        let mut waiting = Vec::new();
        for (index, seen) in self.look_at_all(images, &|_| ()).await {
            match seen {
                Ok(Looked { enough: false, job, seen }) => waiting.push(Waiting { index, job, seen }),
                Ok(Looked { job, seen, .. }) => plans[index] = Some(Ok(nothing_to_send(job.image, &seen))),
                Err(error) => plans[index] = Some(Err(error)),
            }
        }
        let mut parallel = self.parallel(options);
        let mut disk = None;
        if !waiting.is_empty() {
            let known = self.known_or_nothing(store).await;
            disk = self.forecast(&waiting, &known, &mut parallel);
            for (turn, step) in self.rehearse(&waiting, known).into_iter().enumerate() {
                let plan = match step.delta {
                    None => Ok(nothing_to_send(step.job.image, step.seen)),
                    Some(delta) => self.image_plan(store, step.job, step.seen, delta, turn),
                };
                plans[step.index] = Some(plan);
            }
        }
        let images = plans.into_iter().map(|plan| plan.expect("looked at, each once")).collect();
        LoadPlan { images, parallel, disk }
    }

    fn image_plan(
        &self,
        store: &Store,
        job: &Job<'_>,
        seen: &Sighting,
        delta: Delta,
        turn: usize,
    ) -> Result<ImagePlan, LoadError> {
        let recoded: HashSet<Digest> = if self.capabilities().reads_zstd() {
            HashSet::new()
        } else {
            let is_zstd = |media_type: &str| LayerCompression::of(media_type) == Some(LayerCompression::Zstd);
            let sent = job.image.layers.iter().filter(|layer| delta.send.contains(&layer.digest));
            sent.filter(|layer| is_zstd(&layer.media_type)).map(|layer| layer.digest).collect()
        };
        let recoded = recoded.len();
        let (step, layers, omitted) = (delta.step(), delta.send.len(), delta.omit.len());
        let (layer_bytes, omitted_bytes) = (delta.layer_bytes, delta.omitted_bytes);
        let archive_bytes = self.export(store, job, delta)?.length();
        Ok(ImagePlan {
            step,
            turn: Some(turn),
            layers,
            layer_bytes,
            omitted,
            omitted_bytes,
            recoded,
            archive_bytes,
            resolves: seen.exact,
        })
    }

    /// Goes through the run without an engine: what would be sent, in its order. `None` for an image that an earlier
    /// one brings along under all its names.
    fn rehearse<'w, 'i>(&self, waiting: &'w [Waiting<'i>], mut known: Known) -> Vec<Rehearsed<'w, 'i>> {
        let mut left: Vec<&Waiting<'i>> = waiting.iter().collect();
        let mut done: Vec<Rehearsed<'w, 'i>> = Vec::new();
        while !left.is_empty() {
            let candidates: Vec<Candidate> = left.iter().map(|waiting| waiting.candidate(&known)).collect();
            let Some(next) = order::next(&candidates, &[]) else { break };
            let Waiting { index, job, seen } = left.remove(next);
            let brought = done.iter().any(|earlier| job.comes_with(earlier.job, self.capabilities().kind));
            let delta = (!brought).then(|| job.delta(&known));
            known.add(known.keys_of(job.image));
            done.push(Rehearsed { index: *index, job, seen, delta });
        }
        done
    }

    pub(crate) fn forecast(
        &self,
        waiting: &[Waiting<'_>],
        known: &Known,
        parallel: &mut usize,
    ) -> Option<Forecast> {
        let (directory, free) = local_disk(self.endpoint(), self.capabilities())?;
        let rehearsed = self.rehearse(waiting, known.clone());
        let loads: Vec<disk::Load> = rehearsed
            .iter()
            .filter_map(|step| step.delta.as_ref())
            .map(|delta| disk::Load { archive: delta.layer_bytes, layers: delta.layer_bytes })
            .collect();
        let kind = self.capabilities().kind;
        let spool = (kind == EngineKind::Podman).then(|| Spool::of(self.endpoint(), &directory)).flatten();
        Some(disk::forecast(kind, &loads, parallel, &directory, free, spool.as_ref()))
    }
}

struct Rehearsed<'w, 'i> {
    index: usize,
    job: &'w Job<'i>,
    seen: &'w Sighting,
    delta: Option<Delta>,
}

fn nothing_to_send(image: &Image, seen: &Sighting) -> ImagePlan {
    let mut distinct = HashSet::new();
    let layers = image.layers.iter().filter(|layer| distinct.insert(layer.digest));
    let (omitted, omitted_bytes) =
        layers.fold((0, 0_u64), |(count, bytes), layer| (count + 1, bytes.saturating_add(layer.size)));
    ImagePlan {
        step: Step::Nothing,
        turn: None,
        layers: 0,
        layer_bytes: 0,
        omitted,
        omitted_bytes,
        recoded: 0,
        archive_bytes: 0,
        resolves: seen.exact,
    }
}
