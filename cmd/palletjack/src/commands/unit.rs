//! `unit`: units printed, or written into an OS image's tree.

use std::path::{Component, Path, PathBuf};

use palletjack_engine::seed::{self, Device, SeedError, StoreKind, Target};
use palletjack_pallet::Overrides;
use serde::Serialize;

use crate::cli::{Output, UnitFlags, UnitName};
use crate::context::Context;
use crate::error::{CommandError, Exit};
use crate::requirements::{PalletAt, Requirements, VersionCheck, wishes_of};
use crate::units::{
    EngineName, Images, InstallError, Installer, Kind, Need, Setting, Unwritable, choose, render,
};

/// The device's cache, unless something else is said.
const CACHE: &str = "/var/cache/palletjack";
/// The program on a device whose tree is not at hand.
const PROGRAM: &str = "/usr/bin/palletjack";
/// Forklift's stage store below a workspace.
const STAGES: &str = ".local/share/forklift/stages";
const STAGE_STORE: &str = "forklift-stage-store.yml";
const APPLY: &str = "forklift-apply.service";

/// The document of `unit --output json`.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    units: Vec<Row<'a>>,
    /// Units of an earlier run that are not needed any more.
    removed: Vec<&'static str>,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'static str,
    wanted_by: &'static str,
    /// Where it was written, as the device sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    text: &'a str,
}

pub(crate) fn unit(
    context: &Context,
    flags: &UnitFlags,
    unit: Option<&UnitName>,
) -> Result<(), CommandError> {
    let (kind, flags) = match unit {
        None => (None, flags),
        Some(UnitName::Load(flags)) => (Some(Kind::Load), flags),
        Some(UnitName::Pins(flags)) => (Some(Kind::Pins), flags),
        Some(UnitName::Fill(flags)) => (Some(Kind::Fill), flags),
    };
    match (&flags.install, kind) {
        (Some(root), kind) => install(context, flags, root, kind),
        (None, Some(kind)) => print(context, flags, kind),
        (None, None) => Err(usage("no unit is named")
            .hint("`palletjack unit load` prints one; `palletjack unit --install ROOTFS` chooses for a system and writes")),
    }
}

fn print(context: &Context, flags: &UnitFlags, kind: Kind) -> Result<(), CommandError> {
    let paths = DevicePaths { root: None };
    let images = images(flags, &paths)?.unwrap_or(Images::All);
    let setting = Setting {
        program: PROGRAM.into(),
        cache: paths.of(context.globals.cache_dir.as_deref().unwrap_or(Path::new(CACHE)))?,
        engine: flags.engine.unwrap_or(EngineName::Docker),
        workspace: paths.of_some(context.globals.workspace.as_deref())?,
        stage_store: paths.of_some(context.globals.stage_store.as_deref())?,
        images,
    };
    refuse_pins(kind, setting.engine)?;
    refuse_bundle(&[kind], &setting.images)?;
    let text = render(kind, &setting)?;
    if context.globals.output == Output::Json {
        let row = Row { name: kind.file(), wanted_by: kind.wanted_by(), path: None, text: &text };
        return context.printer.json(&Document { schema: SCHEMA, units: vec![row], removed: Vec::new() });
    }
    context.printer.result(&text)
}

const SCHEMA: &str = "palletjack.units/1";

fn install(
    context: &Context,
    flags: &UnitFlags,
    root: &Path,
    kind: Option<Kind>,
) -> Result<(), CommandError> {
    let installer = Installer::open(root)?;
    let Some(engine) = flags.engine.or_else(|| installer.engine()) else {
        return Err(usage(format!("there is neither Docker nor Podman in {}", root.display()))
            .hint("install one there first, or say which it will be with --engine"));
    };
    let paths = DevicePaths { root: Some(installer.tree().path().to_owned()) };
    let binary = flags.binary.as_deref().map(|path| installer.program(path)).transpose()?;
    let program = match &binary {
        Some(program) => program.path().to_owned(),
        None => installer.own_program()?,
    };
    let mut setting = Setting {
        program,
        cache: paths.of(context.globals.cache_dir.as_deref().unwrap_or(Path::new(CACHE)))?,
        engine,
        images: images(flags, &paths)?.unwrap_or(Images::All),
        workspace: paths.of_some(context.globals.workspace.as_deref())?,
        stage_store: paths.of_some(context.globals.stage_store.as_deref())?,
    };
    find_stages(context, flags, &installer, &mut setting)?;
    let kinds = match kind {
        Some(kind) => {
            refuse_pins(kind, engine)?;
            vec![kind]
        }
        None => choose(Need {
            graph_driver: engine == EngineName::Docker && has_graph_driver(context, &installer)?,
            pinned: has_pins(context, &installer, &setting)?,
        }),
    };
    refuse_bundle(&kinds, &setting.images)?;
    installer.check(&kinds)?;
    let units: Result<Vec<(Kind, String)>, Unwritable> =
        kinds.iter().map(|kind| Ok((*kind, render(*kind, &setting)?))).collect();
    let units = units?;
    let copied = binary.is_some();
    let installed = installer.install(binary, &units, kind.is_none())?;
    if context.globals.output == Output::Json {
        let rows = units.iter().map(|(kind, text)| Row {
            name: kind.file(),
            wanted_by: kind.wanted_by(),
            path: Some(format!("/etc/systemd/system/{}", kind.file())),
            text,
        });
        return context.printer.json(&Document {
            schema: SCHEMA,
            units: rows.collect(),
            removed: installed.removed,
        });
    }
    let printer = &context.printer;
    if copied {
        printer.note(&format!("program: {}", setting.program.display()));
    }
    for kind in &kinds {
        printer.note(&format!("{}: written, started by {}", kind.file(), kind.wanted_by()));
    }
    for name in &installed.removed {
        printer.note(&format!("{name}: removed, this system does not need it"));
    }
    if !kinds.contains(&Kind::Fill) && !has_cache(&installer, &setting.cache) {
        printer.warning(&format!(
            "there is no cache at {} of the tree yet: the units fail until it is there",
            setting.cache.display()
        ));
    }
    Ok(())
}

/// Paths as the device sees them.
struct DevicePaths {
    /// The device's tree on this machine.
    root: Option<PathBuf>,
}

impl DevicePaths {
    fn of(&self, path: &Path) -> Result<PathBuf, CommandError> {
        let below = self.root.as_ref().and_then(|root| {
            let real = std::fs::canonicalize(path).ok();
            let real = real.as_deref().unwrap_or(path);
            real.strip_prefix(root)
                .ok()
                .filter(|_| root != Path::new("/"))
                .map(|rest| Path::new("/").join(rest))
        });
        let path = below.as_deref().unwrap_or(path);
        let goes_up = path.components().any(|part| part == Component::ParentDir);
        if !path.is_absolute() || goes_up || path.to_str().is_none() {
            return Err(usage(format!(
                "units want absolute paths, as the device sees them, in UTF-8 and without `..`: `{}` is none",
                path.display()
            )));
        }
        Ok(path.to_owned())
    }

    fn of_some(&self, path: Option<&Path>) -> Result<Option<PathBuf>, CommandError> {
        path.map(|path| self.of(path)).transpose()
    }
}

/// What was asked for, if anything was.
fn images(flags: &UnitFlags, paths: &DevicePaths) -> Result<Option<Images>, CommandError> {
    Ok(if let Some(bundle) = &flags.stage {
        if bundle.as_ref().is_some_and(|bundle| bundle.starts_with('-')) {
            return Err(usage("a bundle's name does not begin with `-`"));
        }
        Some(Images::Stage(bundle.clone()))
    } else if let Some(directory) = &flags.plt {
        Some(Images::Pallet(paths.of(directory)?))
    } else if flags.references.is_empty() {
        None
    } else {
        wishes_of(&flags.references)?;
        Some(Images::References(flags.references.clone()))
    })
}

/// Where the device's stage store is, and whether it is what the units are about.
fn find_stages(
    context: &Context,
    flags: &UnitFlags,
    installer: &Installer,
    setting: &mut Setting,
) -> Result<(), CommandError> {
    let is_asked_for = flags.stage.is_some();
    let is_open = !is_asked_for && flags.plt.is_none() && flags.references.is_empty();
    if !(is_asked_for || is_open) {
        return Ok(());
    }
    if setting.stage_store.is_none()
        && let Some(workspace) = &setting.workspace
    {
        setting.stage_store = Some(workspace.join(STAGES));
    }
    if setting.stage_store.is_none() {
        let tree = installer.tree();
        let homes =
            tree.names(Path::new("/home")).into_iter().map(|name| Path::new("/home").join(name).join(STAGES));
        let usual = ["/var/lib/forklift/stages".into(), Path::new("/root").join(STAGES)];
        let found: Vec<PathBuf> =
            usual.into_iter().chain(homes).filter(|store| tree.has_file(store.join(STAGE_STORE))).collect();
        match &found[..] {
            [] if is_asked_for => {
                return Err(usage(
                    "no stage store is known: it is not where Forklift keeps it in a home of the tree",
                )
                .hint("say where it will be on the device with --stage-store DIR or --workspace DIR"));
            }
            [] => {}
            [store] => {
                context.printer.note(&format!("stage store: {}", store.display()));
                setting.stage_store = Some(store.clone());
            }
            several => {
                let places: Vec<String> = several.iter().map(|place| place.display().to_string()).collect();
                return Err(usage(format!("the tree has several stage stores: {}", places.join(", ")))
                    .hint("say which with --stage-store DIR"));
            }
        }
    }
    if is_open && (setting.stage_store.is_some() || installer.has_unit(APPLY)) {
        setting.images = Images::Stage(None);
    }
    Ok(())
}

/// Whether Docker will keep images in a graph driver.
fn has_graph_driver(context: &Context, installer: &Installer) -> Result<bool, CommandError> {
    let root = installer.tree().path().to_owned();
    match Device::find(&Target::Root(root), &seed::Wishes::default()) {
        Ok(device) => {
            context.printer.note(&format!("image store: {} ({})", device.store, device.because));
            Ok(device.store == StoreKind::Graph)
        }
        // Its package does not say its version; on the device `seed` asks the program itself.
        Err(SeedError::UnknownStore { .. } | SeedError::NoDocker { .. }) => {
            context.printer.note(
                "image store: taken to be a graph driver, as of every Docker before 29 unless it is set",
            );
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether some of the images are referred to by their digest. Where nobody can tell yet, they are: devices' pallets pin.
fn has_pins(context: &Context, installer: &Installer, setting: &Setting) -> Result<bool, CommandError> {
    let tree = installer.tree();
    let unknown = |place: &Path| {
        context.printer.note(&format!(
            "{} is not in the tree yet; its images are taken to be pinned by their digests",
            place.display()
        ));
        Ok(true)
    };
    let mut inside = context.clone();
    inside.globals.offline = true;
    if let Some(workspace) = &setting.workspace {
        inside.globals.workspace = tree.locate(workspace);
    }
    let wishes = match &setting.images {
        Images::References(references) => wishes_of(references)?,
        Images::Stage(bundle) => {
            let store = setting.stage_store.as_deref().unwrap_or(Path::new("/root"));
            let Some(directory) = tree.locate(store).filter(|place| place.join(STAGE_STORE).is_file()) else {
                return unknown(store);
            };
            inside.globals.stage_store = Some(directory);
            Requirements::of_stage(&inside, bundle.as_deref(), false, VersionCheck::No)?.wishes(&inside)?
        }
        Images::Pallet(directory) => {
            let Some(place) = tree.locate(directory) else { return unknown(directory) };
            let overrides = Overrides::default();
            let at = PalletAt::Above(&place, &overrides);
            Requirements::of_pallet(&inside, at, false, VersionCheck::No)?.wishes(&inside)?
        }
        Images::All => {
            if !has_cache(installer, &setting.cache) {
                return unknown(&setting.cache);
            }
            inside.globals.cache_dir = tree.locate(&setting.cache);
            let snapshot = inside.filled_store()?.snapshot()?;
            return Ok(snapshot.entries().iter().any(|entry| entry.reference.digest().is_some()));
        }
    };
    Ok(wishes.iter().any(|wish| wish.reference.digest().is_some()))
}

fn has_cache(installer: &Installer, cache: &Path) -> bool {
    installer.tree().has_file(cache.join("docker-archives/index.json"))
}

fn refuse_pins(kind: Kind, engine: EngineName) -> Result<(), CommandError> {
    if kind == Kind::Pins && engine == EngineName::Podman {
        return Err(usage(
            "`pins` is for Docker with a graph driver; Podman keeps the digests of what it loads",
        )
        .hint("`palletjack unit load` is enough for it"));
    }
    Ok(())
}

/// What is put into storage before Docker starts is all that the next apply can need.
fn refuse_bundle(kinds: &[Kind], images: &Images) -> Result<(), CommandError> {
    match images {
        Images::Stage(Some(bundle)) if kinds.contains(&Kind::Pins) => Err(usage(format!(
            "`pins` is about all bundles that the next apply can need, not `{bundle}` alone"
        ))
        .hint("say --stage without a bundle")),
        _ => Ok(()),
    }
}

fn usage(what: impl Into<String>) -> CommandError {
    CommandError::new(Exit::Usage, anyhow::anyhow!(what.into()))
}

impl From<Unwritable> for CommandError {
    fn from(error: Unwritable) -> Self {
        Self::new(Exit::Usage, error)
    }
}

impl From<InstallError> for CommandError {
    fn from(error: InstallError) -> Self {
        let exit = match &error {
            InstallError::Write { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Exit::NoSpace
            }
            InstallError::Write { .. } | InstallError::Unreadable { .. } => Exit::Failed,
            _ => Exit::Usage,
        };
        Self::new(exit, error)
    }
}
