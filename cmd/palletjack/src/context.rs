//! What a command works with: flags, configuration and environment brought together.

use std::path::{Path, PathBuf};

use palletjack_image::Platform;
use palletjack_pallet::Workspace;
use palletjack_store::{Access, Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::cache_location::{CacheLocation, Wishes};
use crate::cli::{Globals, Parallel};
use crate::config::{Config, Unknown};
use crate::environment::Environment;
use crate::error::{CommandError, Exit};
use crate::printer::Printer;

/// The settings of one run.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) globals: Globals,
    pub(crate) config: Config,
    pub(crate) environment: Environment,
    pub(crate) printer: Printer,
    /// Cancelled by SIGINT and SIGTERM.
    pub(crate) cancel: CancellationToken,
}

impl Context {
    pub(crate) fn new(
        globals: Globals,
        environment: Environment,
        printer: Printer,
    ) -> Result<Self, CommandError> {
        let user = environment.xdg_config.as_ref().map(|config| config.join("palletjack/config.toml"));
        let unknown = if environment.unit { Unknown::Warn(&printer) } else { Unknown::Refuse };
        let config = Config::read(globals.config.as_deref(), user.as_deref(), unknown)?;
        Ok(Self { globals, config, environment, printer, cancel: CancellationToken::new() })
    }

    /// The Forklift workspace: what was named, else the home directory, as in Forklift.
    pub(crate) fn workspace(&self) -> Result<Workspace, CommandError> {
        let root = self.named_workspace().or_else(|| self.environment.home.clone()).ok_or_else(|| {
            CommandError::new(
                Exit::Usage,
                anyhow::anyhow!("there is no home directory to look for a workspace in"),
            )
            .hint("name the workspace with --workspace DIR")
        })?;
        if !root.is_dir() {
            let error = anyhow::anyhow!("the workspace {} is not a directory", root.display());
            return Err(CommandError::new(Exit::Usage, error).hint("name the workspace with --workspace DIR"));
        }
        Ok(Workspace::new(root))
    }

    fn named_workspace(&self) -> Option<PathBuf> {
        self.globals.workspace.clone().or_else(|| self.environment.forklift_workspace.clone())
    }

    /// The stage store's directory.
    pub(crate) fn stage_store(&self) -> Result<PathBuf, CommandError> {
        match self.globals.stage_store.clone().or_else(|| self.environment.forklift_stage_store.clone()) {
            Some(directory) => Ok(directory),
            None => Ok(self.workspace()?.stages()),
        }
    }

    /// Whether Forklift versions are compared at all.
    pub(crate) fn ignores_tool_version(&self) -> bool {
        self.globals.ignore_tool_version || self.environment.forklift_ignore_tool_version
    }

    /// The platform that was asked for, if any was.
    pub(crate) fn asked_platform(&self) -> Result<Option<Platform>, CommandError> {
        let text = self
            .globals
            .platform
            .as_ref()
            .or(self.environment.forklift_platform.as_ref())
            .or(self.config.platform.as_ref());
        text.map(|text| {
            text.parse()
                .map_err(|error: palletjack_image::PlatformError| CommandError::new(Exit::Usage, error))
        })
        .transpose()
    }

    /// The platform of images: the one asked for, else this machine's.
    pub(crate) fn platform(&self) -> Result<Platform, CommandError> {
        Ok(self.asked_platform()?.unwrap_or_else(Platform::host))
    }

    /// How many blobs are downloaded at once, where somebody says.
    pub(crate) fn parallel(&self) -> Result<Option<usize>, CommandError> {
        Ok(self.asked_parallel()?.or(self.config.parallel))
    }

    /// How many at once, where the command line or its environment says. The configuration speaks of downloads alone.
    pub(crate) fn asked_parallel(&self) -> Result<Option<usize>, CommandError> {
        let parallel = match (&self.globals.parallel, &self.environment.forklift_parallel) {
            (Some(parallel), _) => *parallel,
            (None, Some(text)) => text.parse().map_err(|error: String| {
                CommandError::new(Exit::Usage, anyhow::anyhow!("FORKLIFT_PARALLEL is `{text}`: {error}"))
            })?,
            (None, None) => return Ok(None),
        };
        Ok(match parallel {
            Parallel::Default => None,
            Parallel::Limit(limit) => Some(limit),
        })
    }

    fn cache_location(&self) -> Result<CacheLocation, CommandError> {
        let wishes = Wishes {
            explicit: self.globals.cache_dir.clone().or_else(|| self.config.cache_dir.clone()),
            workspace: self.named_workspace(),
        };
        CacheLocation::choose(&wishes, &self.environment).ok_or_else(|| {
            CommandError::new(Exit::Usage, anyhow::anyhow!("there is no home directory to keep the cache in"))
                .hint("say where it is with --cache-dir DIR or PALLETJACK_CACHE_DIR")
        })
    }

    /// Opens the cache to write to it, creating it where there is none.
    pub(crate) fn writable_store(&self) -> Result<Store, CommandError> {
        Ok(Store::open(&self.cache_location()?.chosen, Access::Write, &self.platform()?)?)
    }

    /// Opens the cache for reading.
    ///
    /// Where there is none, or nothing is in it, the error says where a cache with images is: `sudo` and units change
    /// the home, and with it the place.
    pub(crate) fn filled_store(&self) -> Result<Store, CommandError> {
        let location = self.cache_location()?;
        let platform = self.platform()?;
        match Store::open(&location.chosen, Access::Read, &platform) {
            Ok(store) if !store.snapshot()?.entries().is_empty() => Ok(store),
            Ok(_) | Err(StoreError::Absent(_)) => {
                let error = anyhow::anyhow!("the cache at {} has no images", location.chosen.display());
                let error = CommandError::new(Exit::Missing, error);
                Err(match elsewhere(&location.others, &platform) {
                    Some((place, images)) => error.hint(format!(
                        "the cache at {place} has {images}: use it with --cache-dir {place}",
                        place = place.display()
                    )),
                    None => error.hint(
                        "fetch some first, with `palletjack plt cache-img` or `palletjack cache add-img REF`",
                    ),
                })
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Another cache that has images, and how many.
fn elsewhere(places: &[PathBuf], platform: &Platform) -> Option<(PathBuf, String)> {
    places.iter().find_map(|place| {
        let images = count(place, platform).filter(|images| *images > 0)?;
        Some((place.clone(), format!("{images} image{}", if images == 1 { "" } else { "s" })))
    })
}

fn count(place: &Path, platform: &Platform) -> Option<usize> {
    Some(Store::open(place, Access::Read, platform).ok()?.snapshot().ok()?.entries().len())
}
