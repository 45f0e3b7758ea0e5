//! Debian's `docker-registry`: the distribution project's registry, version 2.8.

use std::fs;
use std::io;

use tempfile::TempDir;

use super::process::{Daemon, daemon_command};

/// A running registry on a free port of 127.0.0.1, over plain HTTP, with its blobs in a temporary directory.
#[derive(Debug)]
pub struct DockerRegistry {
    // Before the directory: fields are dropped in order, and the process must go first.
    daemon: Daemon,
    directory: TempDir,
    host: String,
}

impl DockerRegistry {
    /// Starts it and waits until it listens.
    pub fn start() -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("registry-").tempdir()?;
        let config = directory.path().join("config.yml");
        fs::write(
            &config,
            format!(
                "version: 0.1\n\
                 log:\n  level: info\n  accesslog:\n    disabled: true\n\
                 storage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n\
                 http:\n  addr: 127.0.0.1:0\n  secret: testkit\n",
                directory.path().join("root").display()
            ),
        )?;
        let mut command = daemon_command("docker-registry");
        command.arg("serve").arg(&config);
        let daemon = Daemon::start("docker-registry", command)?;
        let line = daemon.wait_for_line("listening on ")?;
        let host = line
            .split("listening on ")
            .nth(1)
            .and_then(|rest| rest.split(['"', ' ']).next())
            .ok_or_else(|| io::Error::other(format!("no address in {line:?}")))?
            .to_owned();
        Ok(Self { daemon, directory, host })
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.host)
    }

    /// Its files, for a test that damages them.
    pub fn root(&self) -> std::path::PathBuf {
        self.directory.path().join("root")
    }

    /// What it has logged so far.
    pub fn log(&self) -> Vec<String> {
        self.daemon.log()
    }

    /// Ends it; nothing listens on its port when this returns.
    pub fn stop(&mut self) {
        self.daemon.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::client::request;
    use crate::image::ImageSet;
    use crate::real::{Part, push_all};

    #[test]
    fn it_takes_and_serves_what_is_built_here() {
        crate::require_real!(Part::DockerRegistry);
        let mut registry = DockerRegistry::start().unwrap();
        let set = ImageSet::small(&["caddy:2", "ghcr.io/acme/a:1", "x/y:1", "z/zstd:1"]).unwrap();
        push_all(registry.host(), &set).unwrap();
        for image in &set.images {
            let target = format!("/v2/{}/manifests/{}", image.name.repository, image.top.digest);
            let accept = [("accept", image.top.media_type)];
            let answer = request(registry.host(), "GET", &target, &accept, None).unwrap();
            assert_eq!(answer.body, image.top.bytes, "{target}");
        }
        registry.stop();
        assert!(std::net::TcpStream::connect(registry.host()).is_err());
    }
}
