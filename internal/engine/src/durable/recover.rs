//! What an interrupted run left in an engine.

use palletjack_image::Digest;
use palletjack_store::{Image, Leftovers, Store, StoreError, UnsettledImage};

use crate::capabilities::EngineKind;
use crate::connect::{Engine, innermost};
use crate::error::EngineError;

use super::compare::Compared;
use super::place::DataRoot;
use super::remove::Removal;
use super::report::RecoveredAs;

/// What came of one distrusted image.
#[derive(Debug)]
pub(super) enum Fate {
    /// The engine does not have it: there is nothing to distrust.
    Absent,
    /// Compared and whole, as far as it can be seen now; it may not have reached the disk yet.
    Whole(Box<Image>),
    /// Damaged and removed; these tags went with it.
    Removed { image: Box<Image>, tags: Vec<String> },
    /// It stays, and is not believed.
    Stays(RecoveredAs),
}

/// The images that leftovers distrust.
pub(super) fn distrusted(store: &Store, leftovers: &Leftovers) -> Result<Vec<UnsettledImage>, StoreError> {
    let mut images = leftovers.images.clone();
    if leftovers.everything {
        for entry in store.snapshot()?.entries() {
            // What the cache cannot read it cannot have loaded whole, and says so itself when it is asked for it.
            let Ok(image) = store.image(entry) else { continue };
            let image = UnsettledImage::of(&image);
            if !images.contains(&image) {
                images.push(image);
            }
        }
    }
    Ok(images)
}

/// Compares a distrusted image, and removes it if it is damaged.
pub(super) async fn examine(
    engine: &Engine,
    store: &Store,
    named: &UnsettledImage,
) -> Result<Fate, EngineError> {
    let id = id_of(engine, named);
    if !engine.lists(&id).await? {
        return Ok(Fate::Absent);
    }
    let name = name_of(named);
    let doubtful = |what: String| {
        let todo = format!("nobody knows whether it is whole: {what}");
        Ok(Fate::Stays(RecoveredAs::Doubtful { todo }))
    };
    let Some(image) = from_cache(store, named) else {
        return doubtful(format!(
            "the cache has it no more, so that its files cannot be checked; fetch it and load again, or remove it \
             (`docker rmi {name}`)"
        ));
    };
    let compared = match engine.compare(store, &image).await {
        Ok(compared) => compared,
        Err(error) => {
            return doubtful(format!("its files could not be checked: {error} ({})", innermost(&error)));
        }
    };
    match compared {
        Compared::Whole(_) => return Ok(Fate::Whole(Box::new(image))),
        Compared::NotThere => return Ok(Fate::Absent),
        Compared::Damaged(_) | Compared::Unusable { .. } => {}
    }
    tracing::info!(name, trouble = compared.trouble(), "damaged by an interrupted load");
    Ok(match engine.remove_image(&id).await? {
        Removal::Gone { tags } => Fate::Removed { image: Box::new(image), tags },
        Removal::NotThere => Fate::Removed { image: Box::new(image), tags: Vec::new() },
        stays => Fate::Stays(RecoveredAs::Stuck { todo: advice(engine, &name, &id, &stays) }),
    })
}

/// What to do about a damaged image that stays.
pub(super) fn advice(engine: &Engine, name: &str, id: &Digest, removal: &Removal) -> String {
    let docker = if engine.capabilities().kind == EngineKind::Podman { "podman" } else { "docker" };
    match removal {
        Removal::InUse { containers } => format!(
            "its files are damaged and a container uses it; `{docker} rm -f {}` and load again",
            containers.join(" ")
        ),
        Removal::Refused { message } => format!(
            "its files are damaged and the engine does not remove it ({message}); `{docker} rmi -f {}` and load again",
            id.short()
        ),
        Removal::Gone { .. } | Removal::NotThere => format!("{name} was removed"),
    }
}

/// What to do when an image that was sent whole is still damaged.
///
/// containerd keeps what a load has unpacked under a lease that Docker gives a day and that a power cut leaves behind;
/// an image that is loaded again gets the same layers back, whatever is in them. Neither a removal nor a restart ends a
/// lease, and Docker has no request that does.
pub(super) fn still_damaged(engine: &Engine, data: &DataRoot) -> String {
    let root = engine.capabilities().root_dir.as_ref();
    let root = root.map_or_else(|| "its data root".to_owned(), |root| root.display().to_string());
    match engine.capabilities().kind {
        EngineKind::DockerContainerd => {
            let store = match &data.containerd {
                Some((address, _)) => format!("the root of containerd at {address}"),
                None => "/var/lib/containerd".to_owned(),
            };
            format!(
                "containerd keeps its damaged layers for a day on behalf of the load that was interrupted; `load-img \
                 --reset-store`, on the engine's machine, ends that and loads again. Or stop Docker and containerd, move {root} \
                 and {store} away and start them again; containers and volumes go with them"
            )
        }
        EngineKind::DockerGraph => format!(
            "another image holds a damaged layer that it shares; `status --deep` names it if it is in the cache. Else remove \
             images that are not needed (`docker image ls --all`), or move {root} away while Docker is stopped"
        ),
        EngineKind::Podman => {
            "another image holds a damaged layer that it shares; `podman system check --repair` finds it \
                               (Podman 5), or remove images that are not needed (`podman images --all`)"
                .to_owned()
        }
    }
}

/// As a person writes it.
pub(super) fn name_of(named: &UnsettledImage) -> String {
    named.parsed().map_or_else(|| named.reference.clone(), |reference| reference.familiar())
}

pub(super) fn id_of(engine: &Engine, named: &UnsettledImage) -> Digest {
    match engine.capabilities().kind {
        EngineKind::DockerContainerd => named.target,
        EngineKind::DockerGraph | EngineKind::Podman => named.config,
    }
}

/// The image as the cache has it now: the same content, under the same name if it still has it.
fn from_cache(store: &Store, named: &UnsettledImage) -> Option<Image> {
    let snapshot = store.snapshot().ok()?;
    let same = || {
        snapshot
            .entries()
            .iter()
            .filter(|entry| entry.manifest.digest == named.manifest && entry.target.digest == named.target)
    };
    let entry = same()
        .find(|entry| entry.reference.to_string() == named.reference && entry.platform == named.platform)
        .or_else(|| same().next())?;
    store.image(entry).ok()
}
