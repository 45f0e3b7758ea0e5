//! skopeo, of Debian 12 or of forky, with a configuration of its own.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::forky::Forky;
use super::process::SYSTEM_PATH;
use crate::run::Ran;

/// Runs skopeo. It takes any image without signatures, speaks plain HTTP to registries, and reads no configuration
/// or credentials of the machine.
#[derive(Debug)]
pub struct Skopeo {
    /// Program and the arguments before skopeo's own.
    program: Vec<PathBuf>,
    home: TempDir,
}

impl Skopeo {
    /// skopeo 1.9 of Debian 12.
    pub fn debian() -> io::Result<Self> {
        Self::new(vec!["/usr/bin/skopeo".into()])
    }

    /// skopeo 1.22 of Debian forky, run by forky's own dynamic loader: it wants a newer C library than Debian 12's.
    pub fn forky() -> io::Result<Self> {
        Self::new(Forky::install()?.skopeo())
    }

    fn new(program: Vec<PathBuf>) -> io::Result<Self> {
        let home = tempfile::Builder::new().prefix("skopeo-").tempdir()?;
        fs::write(home.path().join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)?;
        fs::write(home.path().join("registries.conf"), "")?;
        fs::create_dir(home.path().join("registries.d"))?;
        Ok(Self { program, home })
    }

    /// skopeo with these arguments, not yet run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut words = self.program.iter();
        let mut command = Command::new(words.next().map_or_else(PathBuf::new, Clone::clone));
        let home = self.home.path();
        command
            .env_clear()
            .env("PATH", SYSTEM_PATH)
            .env("HOME", home)
            .env("XDG_RUNTIME_DIR", home)
            .env("CONTAINERS_REGISTRIES_CONF", home.join("registries.conf"))
            .args(words)
            .arg("--policy")
            .arg(home.join("policy.json"))
            .arg("--registries.d")
            .arg(home.join("registries.d"))
            .arg("--tmpdir")
            .arg(home)
            .args(args);
        command
    }

    /// Runs skopeo with these arguments.
    pub fn run(&self, args: &[&str]) -> io::Result<Ran> {
        Ran::run(&mut self.command(args))
    }

    /// Its version, e.g. `1.22.0`.
    pub fn version(&self) -> io::Result<String> {
        let text = self.run(&["--version"])?.ok()?;
        Ok(text.trim().rsplit(' ').next().unwrap_or_default().to_owned())
    }

    /// `skopeo inspect --raw`: the manifest as it lies there, byte for byte.
    pub fn raw_manifest(&self, image: &str) -> io::Result<String> {
        self.run(&["inspect", "--raw", "--tls-verify=false", image])?.ok()
    }

    /// `skopeo inspect`: name, layers, architecture; reads the config too.
    pub fn inspect(&self, image: &str) -> io::Result<Value> {
        let text = self.run(&["inspect", "--no-tags", "--tls-verify=false", image])?.ok()?;
        Ok(serde_json::from_str(&text)?)
    }

    /// `skopeo copy` from one transport to another, plain HTTP where a registry is meant.
    pub fn copy(&self, from: &str, to: &str) -> io::Result<Ran> {
        self.run(&["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false", from, to])
    }
}

#[cfg(test)]
mod tests {
    use super::super::Part;
    use super::*;
    use crate::image::ImageSet;
    use crate::registry::Registry;

    /// Reads every image of a set from a registry and copies one into an OCI layout.
    fn exercise(skopeo: &Skopeo, version: &str) {
        assert!(skopeo.version().unwrap().starts_with(version));
        let set = ImageSet::small(&["caddy:2", "ghcr.io/acme/a:1", "x/y:1", "z/zstd:1"]).unwrap();
        let registry = Registry::start().unwrap();
        registry.publish_all(&set);
        for image in &set.images {
            let reference =
                format!("docker://{}/{}@{}", registry.host(), image.name.repository, image.top.digest);
            let raw = skopeo.raw_manifest(&reference).unwrap();
            assert_eq!(raw.as_bytes(), image.top.bytes);
            let seen = skopeo.inspect(&reference).unwrap();
            let layers = &image.platform("linux/amd64").unwrap().layers;
            if cfg!(target_arch = "x86_64") {
                assert_eq!(seen["Layers"].as_array().unwrap().len(), layers.len());
            }
            let directory = tempfile::tempdir().unwrap();
            let target = format!("oci:{}:copied", directory.path().display());
            skopeo.copy(&reference, &target).unwrap().assert_success();
            assert_eq!(skopeo.inspect(&target).unwrap()["Os"], "linux");
        }
    }

    #[test]
    fn debian_12_has_1_9() {
        crate::require_real!(Part::Skopeo);
        exercise(&Skopeo::debian().unwrap(), "1.9");
    }

    #[test]
    fn forky_has_1_22() {
        crate::require_real!(Part::Skopeo122);
        exercise(&Skopeo::forky().unwrap(), "1.22");
    }
}
