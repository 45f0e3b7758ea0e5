//! `status`: would it run offline now? From the engine and the cache, without changing either.

use std::error::Error as _;

use palletjack_engine::{CompareError, Compared, Engine, Resolved};
use palletjack_image::{Platform, Reference};
use palletjack_store::{Image, Lease, Snapshot, Store};
use serde::Serialize;

use crate::cli::{LoadFlags, Output, StatusFlags};
use crate::context::Context;
use crate::durability;
use crate::error::{CommandError, Exit};
use crate::load;
use crate::load_report;
use crate::localize;
use crate::printer::table;
use crate::repin;
use crate::requirements::ImageWish;

/// The document of `status --output json`.
#[derive(Serialize)]
struct Document {
    schema: &'static str,
    engine: String,
    endpoint: String,
    platform: String,
    /// Whether all of it would run offline now.
    runs_offline: bool,
    images: Vec<Verdict>,
}

#[derive(Debug, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "fields of a document, each of which answers a question of its own"
)]
struct Verdict {
    reference: String,
    required_by: Vec<String>,
    state: State,
    /// Whether a container of exactly this reference would start without a network.
    runs_offline: bool,
    /// Whether the cache has it.
    cached: bool,
    /// Whether the cache has it as it was rebuilt from an engine.
    rebuilt: bool,
    /// Files, directories and links that were compared and are alike; with `--deep`.
    #[serde(skip_serializing_if = "Option::is_none")]
    alike: Option<u64>,
    /// Those that differ; with `--deep`.
    #[serde(skip_serializing_if = "Option::is_none")]
    different: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// Where its files were to be compared and the cache's could not be read: what that means for the exit code.
    #[serde(skip)]
    unread: Option<Exit>,
    /// Whether staged Compose files name it by an ID that is not its own in this engine; `note` says so.
    #[serde(skip)]
    strange_id: bool,
}

/// Where an image stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// The engine resolves the reference.
    Runs,
    /// The engine has it, but not under this reference.
    Unnamed,
    /// An interrupted load may have damaged it.
    Unsettled,
    /// Its files in the engine are not those of the cache.
    Damaged,
    /// Only the cache has it.
    Cached,
    /// Neither has it.
    Missing,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Unnamed => "unnamed",
            Self::Unsettled => "unsettled",
            Self::Damaged => "damaged",
            Self::Cached => "cached",
            Self::Missing => "missing",
        }
    }
}

/// What the cache knows; nothing where there is none.
struct Known {
    store: Store,
    snapshot: Snapshot,
    lease: Lease,
}

impl Known {
    fn open(context: &Context) -> Result<Option<Self>, CommandError> {
        let store = match context.filled_store() {
            Ok(store) => store,
            // The engine may have it all the same; that another cache has images is worth a word.
            Err(error) if error.exit == Exit::Missing => {
                context.printer.note(&error.report().replacen("error: ", "", 1));
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let lease = store.lease()?;
        Ok(Some(Self { snapshot: store.snapshot()?, store, lease }))
    }

    fn image(&self, reference: &Reference, platform: &Platform) -> Result<Option<Image>, CommandError> {
        let entry = self.snapshot.find(reference, platform);
        Ok(entry.map(|entry| self.store.image(entry)).transpose()?)
    }
}

/// Says for each wish whether it would run offline now.
///
/// # Errors
/// Exit code 3 when one would not, 6 when files differ (`--deep`).
pub(crate) async fn status(
    context: &Context,
    wishes: Vec<ImageWish>,
    flags: StatusFlags,
) -> Result<(), CommandError> {
    if wishes.is_empty() {
        context.printer.note("no images are required");
    }
    let known = Known::open(context)?;
    let engine = load::connect(context, LoadFlags { wait: flags.wait, ..LoadFlags::default() }).await?;
    let platform = context.asked_platform()?.unwrap_or_else(|| engine.capabilities().platform.clone());
    let unsettled = match &known {
        None => Vec::new(),
        Some(known) => durability::guard(context, &known.store, false).distrusted(&engine).await?,
    };
    let mut verdicts = Vec::with_capacity(wishes.len());
    for wish in wishes {
        let looked = tokio::select! {
            looked = look(&engine, known.as_ref(), &platform, &wish, &unsettled, flags) => looked,
            () = context.cancel.cancelled() => {
                return Err(CommandError::new(Exit::Interrupted, anyhow::anyhow!("interrupted")));
            }
        };
        verdicts.push(looked?);
    }
    drop(known.map(|known| known.lease));
    let exit = exit_of(&verdicts);
    // Loading again gives such an engine no digests.
    let strange = |verdict: &Verdict| verdict.state == State::Unnamed && verdict.strange_id;
    let unnamed = |verdict: &Verdict| {
        verdict.state == State::Unnamed && !verdict.strange_id && !engine.capabilities().resolves_pins()
    };
    let is_strange = verdicts.iter().any(strange);
    let is_unnamed = verdicts.iter().any(unnamed);
    let is_away =
        verdicts.iter().any(|verdict| !verdict.runs_offline && !unnamed(verdict) && !strange(verdict));
    let is_damaged = verdicts.iter().any(|verdict| verdict.state == State::Damaged);
    let unread = verdicts.iter().filter(|verdict| verdict.unread.is_some()).count();
    let (total, running) = (verdicts.len(), verdicts.iter().filter(|verdict| verdict.runs_offline).count());
    print(context, &engine, &platform, verdicts)?;
    let Some(exit) = exit else {
        context.printer.note(&format!("all {total} would run offline now"));
        return Ok(());
    };
    let error = match (total - running, unread) {
        (0, unread) => {
            anyhow::anyhow!("the files of {unread} of {total} could not be compared with the cache's")
        }
        (away, _) => anyhow::anyhow!("{away} of {total} would not run offline now"),
    };
    let mut error = CommandError::new(exit, error);
    if unread > 0 {
        error = error.hint(
            "`palletjack cache verify --discard` deletes what is corrupt in the cache; `cache-img` brings it again",
        );
    }
    if is_damaged {
        error = error.hint("`load-img --repair` removes what is damaged and loads it again");
    } else if is_away {
        error = error.hint("`cache-img` fetches what is missing, `load-img` loads what is cached");
    }
    if is_strange {
        error = error.hint(localize::MENDS);
    }
    if is_unnamed {
        error = error.hint(repin::WAYS);
    }
    Err(error)
}

async fn look(
    engine: &Engine,
    known: Option<&Known>,
    platform: &Platform,
    wish: &ImageWish,
    unsettled: &[String],
    flags: StatusFlags,
) -> Result<Verdict, CommandError> {
    let reference = &wish.reference;
    let name = reference.familiar();
    let image = match known {
        Some(known) => known.image(reference, platform)?,
        None => None,
    };
    let mut verdict = Verdict {
        reference: name.clone(),
        required_by: wish.wanted_by.clone(),
        state: State::Missing,
        runs_offline: false,
        cached: image.is_some(),
        rebuilt: image.as_ref().is_some_and(|image| image.entry.rebuilt.is_some()),
        alike: None,
        different: None,
        note: None,
        unread: None,
        strange_id: false,
    };
    let Some(image) = image else {
        let resolved = engine.resolves(reference, platform).await?;
        let mut runs = !wish.naming.by_reference || resolved == Resolved::Here;
        for id in &wish.naming.ids {
            runs = runs && engine.has(id).await?;
        }
        if runs {
            verdict.state = State::Runs;
            if flags.deep {
                verdict.note = Some("not compared: the cache does not have it".to_owned());
            }
        }
        if let (State::Missing, Resolved::For(other)) = (verdict.state, &resolved) {
            verdict.note = Some(format!("the engine has it for {other}, which is not {platform}"));
        }
        verdict.runs_offline = verdict.state == State::Runs;
        return Ok(verdict);
    };
    let seen = engine.look(&image).await?;
    verdict.state = if wish.naming.runs(&seen) {
        State::Runs
    } else if reference.digest().is_none()
        && wish.naming.ids.is_empty()
        && engine.resolves(reference, platform).await? == Resolved::Here
    {
        verdict.note = Some("the engine has another image under this tag than the cache".to_owned());
        State::Runs
    } else if seen.content {
        State::Unnamed
    } else {
        State::Cached
    };
    if verdict.state == State::Runs && !seen.exact && !wish.naming.ids.is_empty() {
        verdict.note = Some(format!("the staged Compose files name it by its ID, {}", seen.id));
    }
    if verdict.state == State::Unnamed {
        verdict.note = Some(if let Some(id) = wish.naming.ids.iter().find(|id| **id != seen.id) {
            verdict.strange_id = true;
            format!("the staged Compose files name it {id}, which is not its ID in this engine, {}", seen.id)
        } else if seen.tag == Some(true) {
            format!("the engine knows it as {} only", reference.clone().without_digest().familiar())
        } else {
            format!("the engine knows it by its ID only, {}", seen.id)
        });
    }
    if verdict.rebuilt && verdict.state != State::Runs {
        let rebuilt =
            "the cache has it as it was rebuilt from an engine, which no load gives the name of its pin";
        let note =
            verdict.note.take().map_or_else(|| rebuilt.to_owned(), |note| format!("{note}; {rebuilt}"));
        verdict.note = Some(note);
    }
    let is_unsettled = unsettled.contains(&name);
    if flags.deep && (seen.content || is_unsettled) {
        compare(engine, known, &image, &mut verdict).await?;
    } else if is_unsettled {
        verdict.state = State::Unsettled;
        verdict.note = Some(
            "its load was interrupted: `load-img` compares it, and mends it if it is damaged".to_owned(),
        );
    }
    verdict.runs_offline = verdict.state == State::Runs;
    Ok(verdict)
}

async fn compare(
    engine: &Engine,
    known: Option<&Known>,
    image: &Image,
    verdict: &mut Verdict,
) -> Result<(), CommandError> {
    let Some(known) = known else { return Ok(()) };
    let compared = match engine.compare(&known.store, image).await {
        Ok(compared) => compared,
        // What there is to say of the other images is worth having all the same.
        Err(error @ CompareError::Cache { .. }) => {
            verdict.unread = Some(load_report::exit_of(error.kind()));
            let why = std::iter::successors(error.source(), |&cause| cause.source()).last();
            verdict.note = why.map(|why| format!("its files were not compared: {why}"));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    if let Compared::Whole(found) | Compared::Damaged(found) = &compared {
        (verdict.alike, verdict.different) = (Some(found.alike), Some(found.different));
    }
    if compared.is_damaged() {
        verdict.state = State::Damaged;
        verdict.note = compared.trouble();
    }
    Ok(())
}

fn exit_of(verdicts: &[Verdict]) -> Option<Exit> {
    if verdicts.iter().any(|verdict| verdict.state == State::Damaged) {
        return Some(Exit::Corrupt);
    }
    let missing = verdicts.iter().any(|verdict| !verdict.runs_offline).then_some(Exit::Missing);
    verdicts.iter().filter_map(|verdict| verdict.unread).chain(missing).reduce(Exit::and)
}

fn print(
    context: &Context,
    engine: &Engine,
    platform: &Platform,
    verdicts: Vec<Verdict>,
) -> Result<(), CommandError> {
    if context.globals.output == Output::Json {
        return context.printer.json(&Document {
            schema: "palletjack.status/1",
            engine: engine.capabilities().to_string(),
            endpoint: engine.endpoint().to_string(),
            platform: platform.to_string(),
            runs_offline: verdicts.iter().all(|verdict| verdict.runs_offline),
            images: verdicts,
        });
    }
    let mut rows = Vec::new();
    for verdict in &verdicts {
        rows.push(vec![verdict.state.word().to_owned(), verdict.reference.clone()]);
        if let Some(note) = &verdict.note {
            rows.push(vec![String::new(), format!("  {note}")]);
        }
        if !verdict.runs_offline && !verdict.required_by.is_empty() {
            rows.push(vec![String::new(), format!("  needed by {}", verdict.required_by.join(", "))]);
        }
    }
    context.printer.result(&table(&rows, &[]))
}

impl From<palletjack_engine::CompareError> for CommandError {
    fn from(error: palletjack_engine::CompareError) -> Self {
        Self::new(load_report::exit_of(error.kind()), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_worse_than_absence() {
        let verdict = |state| Verdict {
            reference: String::new(),
            required_by: Vec::new(),
            state,
            runs_offline: state == State::Runs,
            cached: true,
            rebuilt: false,
            alike: None,
            different: None,
            note: None,
            unread: None,
            strange_id: false,
        };
        for (states, exit) in [
            (&[][..], None),
            (&[State::Runs, State::Runs], None),
            (&[State::Runs, State::Unnamed], Some(Exit::Missing)),
            (&[State::Unsettled], Some(Exit::Missing)),
            (&[State::Cached, State::Damaged, State::Missing], Some(Exit::Corrupt)),
        ] {
            let verdicts: Vec<Verdict> = states.iter().copied().map(verdict).collect();
            assert_eq!(exit_of(&verdicts), exit, "{states:?}");
        }
    }
}
