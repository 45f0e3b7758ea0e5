//! What the files of a tree say of its engine: command line, `daemon.json`, containerd's configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::SeedError;
use super::tree::Tree;
use super::unit::Service;

const LARGEST_CONFIG: u64 = 1 << 20;
const DAEMON_JSON: &str = "/etc/docker/daemon.json";
const CONTAINERD_TOML: &str = "/etc/containerd/config.toml";
const DATA_ROOT: &str = "/var/lib/docker";
const CONTAINERD_ROOT: &str = "/var/lib/containerd";
/// Where the system's containerd listens; `/var/run` is `/run`.
const SYSTEM_CONTAINERD: [&str; 2] =
    ["/run/containerd/containerd.sock", "/var/run/containerd/containerd.sock"];
/// The namespace of Docker's images in containerd.
pub(super) const NAMESPACE: &str = "moby";

/// Paths are those of the tree's system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) data_root: PathBuf,
    pub(super) storage_driver: Option<String>,
    /// `features.containerd-snapshotter`, where it is said.
    pub(super) snapshotter: Option<bool>,
    pub(super) containerd_root: PathBuf,
    pub(super) namespace: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct DaemonJson {
    data_root: Option<PathBuf>,
    graph: Option<PathBuf>,
    storage_driver: Option<String>,
    features: Option<BTreeMap<String, bool>>,
    containerd: Option<String>,
    containerd_namespace: Option<String>,
    userns_remap: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerdToml {
    root: Option<PathBuf>,
}

impl Settings {
    pub(super) fn read(tree: &Tree) -> Result<Self, SeedError> {
        let service = |name: &str| {
            let read = Service::read(tree, name);
            read.map_err(|source| SeedError::Unreadable { path: name.into(), source })
        };
        let docker = service("docker.service")?.unwrap_or_default();
        let path = PathBuf::from(docker.option(&["--config-file"]).unwrap_or(DAEMON_JSON));
        let json = match text(tree, &path)? {
            Some(text) if !text.trim().is_empty() => serde_json::from_str(&text)
                .map_err(|error| SeedError::Settings { path: path.clone(), what: error.to_string() })?,
            _ => DaemonJson::default(),
        };
        let option = |names: &[&str]| docker.option(names).map(str::to_owned);
        if json.userns_remap.is_some() || option(&["--userns-remap"]).is_some() {
            let what = "userns-remap is set, and the owners of the files would have to be those of the device's \
                        users; load the images on the device instead";
            return Err(SeedError::Settings { path, what: what.to_owned() });
        }
        let feature = option(&["--feature"]).and_then(|feature| match feature.split_once('=') {
            None => (feature == "containerd-snapshotter").then_some(true),
            Some((name, value)) => (name == "containerd-snapshotter").then(|| value == "true"),
        });
        let data_root = option(&["--data-root", "--graph", "-g"])
            .map(PathBuf::from)
            .or(json.data_root)
            .or(json.graph)
            .unwrap_or_else(|| DATA_ROOT.into());
        let address = option(&["--containerd"]).or(json.containerd);
        let containerd_root =
            containerd_root(tree, &data_root, address.as_deref(), service("containerd.service")?)?;
        Ok(Self {
            storage_driver: option(&["--storage-driver", "-s"]).or(json.storage_driver),
            snapshotter: feature.or_else(|| json.features.as_ref()?.get("containerd-snapshotter").copied()),
            namespace: option(&["--containerd-namespace"])
                .or(json.containerd_namespace)
                .unwrap_or_else(|| NAMESPACE.to_owned()),
            data_root,
            containerd_root,
        })
    }
}

/// dockerd takes the containerd that it is told, else the system's if that runs, else it starts one of its own below its
/// data root (moby, `cmd/dockerd`: `initContainerd`).
fn containerd_root(
    tree: &Tree,
    data_root: &Path,
    address: Option<&str>,
    service: Option<Service>,
) -> Result<PathBuf, SeedError> {
    match address {
        Some(address) if !SYSTEM_CONTAINERD.contains(&address) => {
            let what = format!(
                "dockerd is told to use the containerd at {address}, whose data is nobody knows where; name its root with \
                 --containerd-root"
            );
            return Err(SeedError::Settings { path: "docker.service".into(), what });
        }
        None if service.is_none() => return Ok(own_containerd_root(data_root)),
        _ => {}
    }
    let service = service.unwrap_or_default();
    if let Some(root) = service.option(&["--root"]) {
        return Ok(root.into());
    }
    let path = PathBuf::from(service.option(&["--config", "-c"]).unwrap_or(CONTAINERD_TOML));
    let Some(text) = text(tree, &path)? else { return Ok(CONTAINERD_ROOT.into()) };
    let config: ContainerdToml = toml::from_str(&text)
        .map_err(|error| SeedError::Settings { path, what: error.message().to_owned() })?;
    Ok(config.root.unwrap_or_else(|| CONTAINERD_ROOT.into()))
}

/// Where a containerd that dockerd has started keeps its data.
pub(super) fn own_containerd_root(data_root: &Path) -> PathBuf {
    data_root.join("containerd/daemon")
}

fn text(tree: &Tree, path: &Path) -> Result<Option<String>, SeedError> {
    tree.text(path, LARGEST_CONFIG).map_err(|source| SeedError::Unreadable { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(files: &[(&str, &str)]) -> Result<Settings, SeedError> {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Settings::read(&Tree::open(directory.path()).unwrap())
    }

    const DEBIANS: (&str, &str) = (
        "lib/systemd/system/docker.service",
        "[Service]\nExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS\n",
    );

    #[test]
    fn settings_come_from_where_the_engine_reads_them() {
        let plain = read(&[DEBIANS]).unwrap();
        assert_eq!(plain.data_root, Path::new("/var/lib/docker"));
        assert_eq!(plain.containerd_root, Path::new("/var/lib/containerd"));
        assert_eq!((plain.snapshotter, plain.storage_driver, &*plain.namespace), (None, None, "moby"));

        // No containerd of the system's: dockerd starts its own.
        let own = read(&[("etc/docker/daemon.json", r#"{"data-root":"/srv/d"}"#)]).unwrap();
        assert_eq!(own.containerd_root, Path::new("/srv/d/containerd/daemon"));

        let told = read(&[
            DEBIANS,
            (
                "etc/docker/daemon.json",
                r#"{"data-root":"/srv/d","storage-driver":"vfs","features":{"containerd-snapshotter":true}}"#,
            ),
            ("etc/containerd/config.toml", "version = 2\nroot = \"/srv/c\"\n[plugins.x]\nroot = 1\n"),
        ])
        .unwrap();
        assert_eq!((&*told.data_root, &*told.containerd_root), (Path::new("/srv/d"), Path::new("/srv/c")));
        assert_eq!((told.snapshotter, told.storage_driver.as_deref()), (Some(true), Some("vfs")));

        let flags = "[Service]\nExecStart=dockerd --feature containerd-snapshotter=false --data-root=/f --config-file /x.json\n";
        let told = read(&[
            ("etc/systemd/system/docker.service", flags),
            ("x.json", r#"{"data-root":"/no","features":{"containerd-snapshotter":true}}"#),
            ("lib/systemd/system/containerd.service", "[Service]\nExecStart=containerd --root /c2\n"),
        ])
        .unwrap();
        assert_eq!((&*told.data_root, &*told.containerd_root), (Path::new("/f"), Path::new("/c2")));
        assert_eq!(told.snapshotter, Some(false));
    }

    #[test]
    fn what_cannot_be_followed_is_said() {
        for (files, want) in [
            (("etc/docker/daemon.json", "{"), "daemon.json"),
            (("etc/docker/daemon.json", r#"{"userns-remap":"default"}"#), "userns-remap"),
            (("etc/docker/daemon.json", r#"{"containerd":"/run/k3s.sock"}"#), "--containerd-root"),
            (("lib/systemd/system/containerd.service", "[Service]\nExecStart=c -c /c.toml\n"), ""),
        ] {
            match read(&[files, ("c.toml", "root = [")]) {
                Err(error) => assert!(error.to_string().contains(want), "{error}"),
                Ok(settings) => panic!("{settings:?}"),
            }
        }
    }
}
