//! The configuration files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::error::{CommandError, Exit};
use crate::printer::Printer;

/// What the configuration files set. Flags and environment variables go before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// Where the cache is.
    pub(crate) cache_dir: Option<PathBuf>,
    /// The platform of images, such as `linux/arm64`.
    pub(crate) platform: Option<String>,
    /// How many downloads at once.
    pub(crate) parallel: Option<usize>,
    /// How long a unit may go on without anything moving before it ends as failed.
    #[serde(default, deserialize_with = "duration")]
    pub(crate) unit_stall_timeout: Option<Duration>,
    /// Settings per registry, by the name that references use: `docker.io`, `ghcr.io`, `localhost:5000`.
    #[serde(default)]
    pub(crate) registries: BTreeMap<String, Registry>,
}

/// Settings of one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Registry {
    /// Base URLs that are tried in this order before the registry itself.
    #[serde(default)]
    pub(crate) mirrors: Vec<String>,
}

/// What becomes of keys that this version does not know.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unknown<'a> {
    /// They are errors: most are misspelt.
    Refuse,
    /// They are told and passed over: a device whose program was rolled back still boots.
    Warn(&'a Printer),
}

/// The keys that are known, and those of each registry.
const KEYS: [&str; 5] = ["cache-dir", "platform", "parallel", "unit-stall-timeout", "registries"];
const REGISTRY_KEYS: [&str; 1] = ["mirrors"];

impl Config {
    /// See the field of this name.
    pub(crate) fn unit_stall_timeout(&self) -> Duration {
        self.unit_stall_timeout.unwrap_or(Duration::from_mins(5))
    }

    /// Reads the system's file and then the user's, which wins key by key; or `only` and nothing else.
    ///
    /// A file that is not there is fine, unless it was named.
    pub(crate) fn read(
        only: Option<&Path>,
        user: Option<&Path>,
        unknown: Unknown<'_>,
    ) -> Result<Self, CommandError> {
        if let Some(path) = only {
            return match Self::read_file(path, unknown)? {
                Some(config) => Ok(config),
                None => Err(CommandError::new(
                    Exit::Usage,
                    anyhow::anyhow!("there is no configuration file {}", path.display()),
                )),
            };
        }
        let mut config =
            Self::read_file(Path::new("/etc/palletjack/config.toml"), unknown)?.unwrap_or_default();
        if let Some(user) = user.map(|user| Self::read_file(user, unknown)).transpose()?.flatten() {
            config.override_with(user);
        }
        Ok(config)
    }

    fn read_file(path: &Path, unknown: Unknown<'_>) -> Result<Option<Self>, CommandError> {
        let text = match read_text(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let error = anyhow::Error::new(error).context(format!("cannot read {}", path.display()));
                return Err(CommandError::new(Exit::Usage, error));
            }
        };
        match unknown {
            Unknown::Refuse => Self::parse(&text, path, |text| toml::from_str(text)),
            Unknown::Warn(printer) => Self::parse(&text, path, |text| {
                let mut table: toml::Table = text.parse()?;
                for key in take_unknown(&mut table) {
                    printer.warning(&format!(
                        "{}: this version of palletjack does not know `{key}`, which is passed over",
                        path.display()
                    ));
                }
                table.try_into()
            }),
        }
        .map(Some)
    }

    fn parse(
        text: &str,
        path: &Path,
        read: impl FnOnce(&str) -> Result<Self, toml::de::Error>,
    ) -> Result<Self, CommandError> {
        let config = read(text).map_err(|error| {
            let line = error.span().map(|span| 1 + text[..span.start].matches('\n').count());
            let place =
                line.map_or_else(|| path.display().to_string(), |line| format!("{}:{line}", path.display()));
            CommandError::new(Exit::Usage, anyhow::anyhow!("{place}: {}", error.message()))
        })?;
        match config.fault() {
            None => Ok(config),
            Some(fault) => {
                Err(CommandError::new(Exit::Usage, anyhow::anyhow!("{}: {fault}", path.display())))
            }
        }
    }

    /// What is wrong with the values, whatever the command is going to use of them.
    fn fault(&self) -> Option<String> {
        if let Some(directory) = self.cache_dir.as_ref().filter(|directory| !directory.is_absolute()) {
            return Some(format!("cache-dir must be an absolute path, and `{}` is not", directory.display()));
        }
        if let Some(parallel) = self.parallel.filter(|parallel| !(1..=64).contains(parallel)) {
            return Some(format!("parallel must be from 1 to 64, and {parallel} is not"));
        }
        if let Some(Err(error)) =
            self.platform.as_ref().map(|platform| platform.parse::<palletjack_image::Platform>())
        {
            return Some(error.to_string());
        }
        let is_url = |mirror: &&String| mirror.starts_with("http://") || mirror.starts_with("https://");
        self.registries.iter().find_map(|(name, registry)| {
            let mirror = registry.mirrors.iter().find(|mirror| !is_url(mirror))?;
            Some(format!("mirror `{mirror}` of {name} is not an http or https URL"))
        })
    }

    fn override_with(&mut self, user: Self) {
        self.cache_dir = user.cache_dir.or(self.cache_dir.take());
        self.platform = user.platform.or(self.platform.take());
        self.parallel = user.parallel.or(self.parallel.take());
        self.unit_stall_timeout = user.unit_stall_timeout.or(self.unit_stall_timeout.take());
        self.registries.extend(user.registries);
    }
}

/// Takes out what is not known, and returns its names.
fn take_unknown(table: &mut toml::Table) -> Vec<String> {
    let mut unknown = keys_besides(table, &KEYS, "");
    if let Some(toml::Value::Table(registries)) = table.get_mut("registries") {
        for (name, registry) in registries {
            if let toml::Value::Table(registry) = registry {
                unknown.extend(keys_besides(registry, &REGISTRY_KEYS, &format!("registries.{name}.")));
            }
        }
    }
    unknown
}

fn keys_besides(table: &mut toml::Table, known: &[&str], prefix: &str) -> Vec<String> {
    let unknown: Vec<String> = table.keys().filter(|key| !known.contains(&&***key)).cloned().collect();
    for key in &unknown {
        table.remove(key);
    }
    unknown.into_iter().map(|key| format!("{prefix}{key}")).collect()
}

/// `"5min"`, `"90s"`.
fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    match humantime::parse_duration(&text) {
        Ok(duration) if duration >= Duration::from_secs(1) => Ok(Some(duration)),
        Ok(_) => Err(D::Error::custom(format!("`{text}` is less than a second"))),
        Err(error) => Err(D::Error::custom(format!("`{text}` is not a time such as `5min`: {error}"))),
    }
}

/// The largest configuration file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

fn read_text(path: &Path) -> std::io::Result<String> {
    use std::io::{Error, ErrorKind, Read};
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(Error::new(ErrorKind::InvalidInput, "not a regular file of at most 1 MiB"));
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("config.toml"), |text| toml::from_str(text))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn mirrors_are_read_per_registry() {
        let config =
            parse("parallel = 4\n[registries.\"docker.io\"]\nmirrors = [\"http://127.0.0.1:5000\"]\n")
                .unwrap();
        assert_eq!(config.registries["docker.io"].mirrors, ["http://127.0.0.1:5000"]);
        assert_eq!(config.parallel, Some(4));
    }

    #[test]
    fn unknown_keys_are_errors_with_their_line() {
        let error = parse("parallel = 4\n\n[registries.\"docker.io\"]\nmirror = []\n").unwrap_err();
        assert!(error.starts_with("config.toml:4:") && error.contains("mirror"), "{error}");
        let error = parse("parallel = [").unwrap_err();
        assert!(error.starts_with("config.toml:1:"), "{error}");
    }

    #[test]
    fn what_is_not_known_can_be_told_and_passed_over() {
        let text =
            "parallel = 4\nnew = 1\n[registries.a]\nmirrors = []\nnewer = { x = 1 }\n[future]\nx = 1\n";
        let mut table: toml::Table = text.parse().unwrap();
        assert_eq!(take_unknown(&mut table), ["future", "new", "registries.a.newer"]);
        let config: Config = table.try_into().unwrap();
        assert_eq!((config.parallel, config.registries.len()), (Some(4), 1));
        // Every key that the types have is known here as well.
        let error = parse("x = 1").unwrap_err();
        assert!(KEYS.iter().all(|key| error.contains(&format!("`{key}`"))), "{error}");
        assert_eq!(error.matches('`').count() / 2, KEYS.len() + 1, "{error}");
    }

    #[test]
    fn values_are_checked_whatever_is_used_of_them() {
        for (text, want) in [
            ("parallel = 0", "from 1 to 64"),
            ("unit-stall-timeout = \"soon\"", "not a time such as"),
            ("unit-stall-timeout = \"0s\"", "less than a second"),
            ("parallel = 1000", "from 1 to 64"),
            ("cache-dir = \"\"", "absolute"),
            ("cache-dir = \"~/cache\"", "absolute"),
            ("platform = \"arm64\"", "not a platform"),
            ("[registries.\"docker.io\"]\nmirrors = [\"ftp://mirror\"]", "ftp://mirror"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with("config.toml:") && error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn the_users_file_wins_key_by_key() {
        let mut system =
            parse("parallel = 4\nplatform = \"linux/arm64\"\n[registries.a]\nmirrors=[\"http://x\"]")
                .unwrap();
        system.override_with(parse("parallel = 2\n[registries.b]").unwrap());
        assert_eq!(system.parallel, Some(2));
        assert_eq!(system.platform.as_deref(), Some("linux/arm64"));
        assert_eq!(system.registries.len(), 2);
    }
}
