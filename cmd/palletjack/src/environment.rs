//! What the program takes from its environment, read once. The libraries are handed values.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The variables that matter, and who runs the program.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a variable of its own")]
pub(crate) struct Environment {
    /// The user's home.
    pub(crate) home: Option<PathBuf>,
    /// The XDG cache directory.
    pub(crate) xdg_cache: Option<PathBuf>,
    /// The XDG state directory.
    pub(crate) xdg_state: Option<PathBuf>,
    /// The XDG configuration directory.
    pub(crate) xdg_config: Option<PathBuf>,
    /// The XDG runtime directory, where rootless engines have their sockets.
    pub(crate) xdg_runtime: Option<PathBuf>,
    /// The home of the person who called `sudo`.
    pub(crate) sudo_home: Option<PathBuf>,
    /// systemd's `CacheDirectory=`.
    pub(crate) systemd_cache: Option<PathBuf>,
    /// Whether this is root.
    pub(crate) root: bool,
    /// `PALLETJACK_UNIT`: a unit of ours started the program, so nobody watches.
    pub(crate) unit: bool,
    /// `NOTIFY_SOCKET`, where a service manager listens.
    pub(crate) notify_socket: Option<OsString>,
    /// Whether standard error is the journal, which reads a line's importance at its beginning.
    pub(crate) journal: bool,
    pub(crate) forklift_workspace: Option<PathBuf>,
    pub(crate) forklift_stage_store: Option<PathBuf>,
    pub(crate) forklift_platform: Option<String>,
    pub(crate) forklift_parallel: Option<String>,
    pub(crate) forklift_ignore_tool_version: bool,
    pub(crate) docker_host: Option<String>,
    pub(crate) docker_context: Option<String>,
    pub(crate) docker_tls_verify: bool,
    /// `DOCKER_CONFIG`, the directory of Docker's client configuration.
    pub(crate) docker_config: Option<PathBuf>,
    /// `REGISTRY_AUTH_FILE`, Podman's and skopeo's.
    pub(crate) registry_auth_file: Option<PathBuf>,
    /// The directories of `PATH`, where credential helpers are.
    pub(crate) path: Vec<PathBuf>,
    pub(crate) http_proxy: Option<String>,
    pub(crate) https_proxy: Option<String>,
    pub(crate) no_proxy: Option<String>,
}

impl Environment {
    /// Reads the process's environment.
    pub(crate) fn read() -> Self {
        let path = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let text = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let base = directories::BaseDirs::new();
        let root = rustix::process::geteuid().is_root();
        let sudo_uid =
            text("SUDO_UID").and_then(|uid| uid.parse::<u32>().ok()).filter(|uid| root && *uid != 0);
        Self {
            home: base.as_ref().map(|base| base.home_dir().to_owned()),
            xdg_cache: base.as_ref().map(|base| base.cache_dir().to_owned()),
            xdg_state: base.as_ref().and_then(|base| base.state_dir().map(Path::to_owned)),
            xdg_config: base.as_ref().map(|base| base.config_dir().to_owned()),
            xdg_runtime: base.as_ref().and_then(|base| base.runtime_dir().map(Path::to_owned)),
            sudo_home: sudo_uid.and_then(|uid| home_of(uid, &std::fs::read_to_string("/etc/passwd").ok()?)),
            // systemd separates several directories with colons; the first is the one named first in the unit.
            systemd_cache: text("CACHE_DIRECTORY")
                .and_then(|value| value.split(':').next().map(PathBuf::from))
                .filter(|path| path.is_absolute()),
            root,
            unit: text("PALLETJACK_UNIT").is_some_and(|value| value != "0"),
            notify_socket: path("NOTIFY_SOCKET").map(PathBuf::into_os_string),
            journal: text("JOURNAL_STREAM").is_some_and(|stream| is_stderr(&stream)),
            forklift_workspace: path("FORKLIFT_WORKSPACE"),
            forklift_stage_store: path("FORKLIFT_STAGE_STORE"),
            forklift_platform: text("FORKLIFT_PLATFORM"),
            forklift_parallel: text("FORKLIFT_PARALLEL"),
            forklift_ignore_tool_version: text("FORKLIFT_IGNORE_TOOL_VERSION")
                .is_some_and(|value| matches!(&*value.to_ascii_lowercase(), "1" | "t" | "true")),
            docker_host: text("DOCKER_HOST"),
            docker_context: text("DOCKER_CONTEXT"),
            docker_tls_verify: text("DOCKER_TLS_VERIFY").is_some(),
            docker_config: path("DOCKER_CONFIG"),
            registry_auth_file: path("REGISTRY_AUTH_FILE"),
            path: env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default(),
            // Upper-case HTTP_PROXY can be set by a request header where a CGI server starts the program (httpoxy),
            // which is why curl reads the lower-case name only; nobody starts this program so, and Docker reads both.
            http_proxy: text("http_proxy").or_else(|| text("HTTP_PROXY")),
            https_proxy: text("https_proxy").or_else(|| text("HTTPS_PROXY")),
            no_proxy: text("no_proxy").or_else(|| text("NO_PROXY")),
        }
    }

    /// The directory of Docker's client configuration.
    pub(crate) fn docker_client_dir(&self) -> Option<PathBuf> {
        self.docker_config.clone().or_else(|| Some(self.home.as_ref()?.join(".docker")))
    }
}

/// Whether this device and inode (`8:12345`) are those of standard error: a child may have another one.
fn is_stderr(stream: &str) -> bool {
    let Ok(stat) = rustix::fs::fstat(std::io::stderr()) else { return false };
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}

/// Looks a user's home up in the text of `/etc/passwd`.
fn home_of(uid: u32, passwd: &str) -> Option<PathBuf> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let home = fields.get(5).filter(|home| home.starts_with('/'))?;
        (fields.get(2)?.parse() == Ok(uid)).then(|| PathBuf::from(home))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_looked_up_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\npi:x:1000:1000:,,,:/home/pi:/bin/bash\nbad:x:1001:1\n";
        assert_eq!(home_of(1000, passwd), Some(PathBuf::from("/home/pi")));
        assert_eq!(home_of(1001, passwd), None);
        assert_eq!(home_of(7, passwd), None);
    }
}
