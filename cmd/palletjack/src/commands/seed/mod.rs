//! `seed`: from the cache into the storage of an engine that does not run.

mod images;
mod plan;
mod report;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use palletjack_engine::seed::{
    Device, Programs, SeedError, SeedOptions, StoreKind, Target, Wishes, seed as fill,
};
use palletjack_engine::{ErrorKind, Event};

use crate::context::Context;
use crate::durability;
use crate::error::{CommandError, Exit};
use crate::load;
use crate::load_report::exit_of;
use crate::progress::LoadProgress;

/// Flags of `seed`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SeedFlags {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    which: Which,
    /// Images of the cache, by reference; without it and without --plt and --stage all of the cache
    #[arg(value_name = "REF", conflicts_with_all = ["plt", "stage"])]
    references: Vec<String>,
    /// Disabled deployments too
    #[arg(long)]
    include_disabled: bool,
    /// The image store of the device's engine, where its files do not say it
    #[arg(long, value_enum, value_name = "STORE")]
    store: Option<Store>,
    /// Where containerd keeps its data, as this machine sees it, where the device's files do not say it
    #[arg(long, value_name = "DIR")]
    containerd_root: Option<PathBuf>,
    /// Look for dockerd and containerd (or podman) here first; may be given more than once
    #[arg(long, value_name = "DIR")]
    engine_path: Vec<PathBuf>,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// The tree of an OS image, of any processor, or / for this device before its Docker is started
    #[arg(long, value_name = "ROOTFS")]
    root: Option<PathBuf>,
    /// Docker's data root, or with --store podman Podman's storage, alone
    #[arg(long, value_name = "DIR")]
    data_root: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
struct Which {
    /// What the pallet in or above this directory requires
    #[arg(long, value_name = "DIR")]
    plt: Option<PathBuf>,
    /// What the next apply of staged bundles can need
    #[arg(long)]
    stage: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Store {
    /// Docker's graph driver: before version 29, unless it is set otherwise
    Graph,
    /// Docker's containerd store: from version 29 on, or where containerd-snapshotter is set
    Containerd,
    /// Podman's storage
    Podman,
}

impl From<Store> for StoreKind {
    fn from(store: Store) -> Self {
        match store {
            Store::Graph => Self::Graph,
            Store::Containerd => Self::Containerd,
            Store::Podman => Self::Podman,
        }
    }
}

pub(crate) const EXAMPLES: &str = "\
Examples:
  Onto a card that is being built, for its own processor:
    palletjack dev plt cache-img --platform linux/arm64
    sudo palletjack seed --root /mnt/card --plt .
  On the device, before docker.service:
    palletjack seed --data-root /var/lib/docker --stage
  What would be done, and how much space it takes:
    palletjack seed --root /mnt/card --plt . --dry-run";

/// Fills it, or shows what would be filled.
pub(super) async fn seed(context: &Context, flags: &SeedFlags) -> Result<(), CommandError> {
    if !context.environment.root && !flags.dry_run {
        return Err(SeedError::NotRoot.into());
    }
    let target = match (&flags.place.root, &flags.place.data_root) {
        (Some(root), _) => Target::Root(root.clone()),
        (None, Some(directory)) => Target::DataRoot(directory.clone()),
        (None, None) => unreachable!("one of the two is required"),
    };
    let programs = programs(context, flags)?;
    let is_this_machines = match &target {
        Target::Root(root) => root.as_path() == Path::new("/"),
        Target::DataRoot(_) => true,
    };
    let version = if is_this_machines { programs.docker_version().ok() } else { None };
    let wishes = Wishes {
        store: flags.store.map(StoreKind::from),
        containerd_root: flags.containerd_root.clone(),
        version,
    };
    let device = Device::find(&target, &wishes)?;
    let store = context.filled_store()?;
    let selected = images::select(context, &store, &device, flags)?;
    let lease = store.lease()?;
    let images = images::read(&store, &selected)?;
    if images.is_empty() {
        context.printer.note("no images are required");
        return Ok(());
    }
    context.printer.note(&format!(
        "{}: {} image store ({}) in {}",
        device.place.display(),
        device.store,
        device.because,
        device.image_root().display()
    ));
    let durable = durability::guard(context, &store, false);
    let load = load::options(context, &store)?;
    if flags.dry_run {
        device.check_architecture(&images)?;
        let plan = device.plan(&images, &durable, load.parallel.unwrap_or(1))?;
        return plan::print(context, &device, &images, &plan, &selected);
    }
    let options = SeedOptions { programs, load, durable: durable.clone(), cancel: context.cancel.clone() };
    warn_of_versions(context, &device, &options.programs);
    let start = Instant::now();
    let progress = LoadProgress::start(context, &images);
    let events = |event: Event<'_>| progress.show(&event);
    let seeded = fill(&store, &lease, &device, &images, &options, &events).await;
    progress.finish();
    report::finish(context, &device, &images, seeded?, &selected, &durable.report(), start.elapsed())
}

fn programs(context: &Context, flags: &SeedFlags) -> Result<Programs, SeedError> {
    let mut places = flags.engine_path.clone();
    places.extend(context.environment.path.iter().cloned());
    Programs::of(&places)
}

/// An older engine reads what a newer one has written, but nobody promises it.
fn warn_of_versions(context: &Context, device: &Device, programs: &Programs) {
    let major = |version: &str| version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if let Some(theirs) = &device.version
        && let Ok(version) = programs.docker_version()
        && let (Some(device), Some(ours)) = (major(theirs), major(&version))
        && ours > device
    {
        context.printer.warning(&format!(
            "this machine's Docker {version} is newer than the device's {theirs}, which has to read what it writes; with \
             --engine-path the one of the device's own version can be used"
        ));
    }
}

impl From<SeedError> for CommandError {
    fn from(error: SeedError) -> Self {
        let exit = match &error {
            SeedError::Interrupted => Exit::Interrupted,
            SeedError::NoTree { .. }
            | SeedError::NoDocker { .. }
            | SeedError::NoDirectory { .. }
            | SeedError::UnknownStore { .. }
            | SeedError::Mismatch { .. } => Exit::Usage,
            other => match other.kind() {
                ErrorKind::Cache => Exit::Failed,
                kind => exit_of(kind),
            },
        };
        Self::new(exit, error)
    }
}
