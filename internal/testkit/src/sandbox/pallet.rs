//! Small pallets, written as Forklift lays them out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

/// The files of a pallet, by path relative to its root.
///
/// The methods write what Forklift v0.8.0 reads; [`PalletFiles::file`] adds or replaces anything, right or wrong.
#[derive(Debug, Clone, Default)]
pub struct PalletFiles {
    files: BTreeMap<String, String>,
}

impl PalletFiles {
    /// A pallet of this path (`github.com/acme/pallet`), for Forklift v0.7.0 and later.
    pub fn new(path: &str) -> Self {
        let declaration =
            format!("forklift-version: v0.7.0\npallet:\n  path: {path}\n  description: A test\n");
        Self::default().file("forklift-pallet.yml", &declaration)
    }

    /// Any file.
    #[must_use]
    pub fn file(mut self, path: &str, content: &str) -> Self {
        self.files.insert(path.to_owned(), content.to_owned());
        self
    }

    /// A package at `/<path>` whose one Compose file has a service per image.
    #[must_use]
    pub fn package(self, path: &str, images: &[&str]) -> Self {
        self.package_with_features(path, images, &[])
    }

    /// The same with features, each with a Compose file of its own that adds a service per image.
    #[must_use]
    pub fn package_with_features(
        mut self,
        path: &str,
        images: &[&str],
        features: &[(&str, &[&str])],
    ) -> Self {
        let mut declaration = "package:\n  description: A test\n".to_owned();
        declaration.push_str("deployment:\n  compose-files: [compose.yml]\n");
        if !features.is_empty() {
            declaration.push_str("features:\n");
        }
        self = self.file(&format!("{path}/compose.yml"), &compose("service", images));
        for (name, images) in features {
            // Writing to a String cannot fail.
            let _ = writeln!(
                declaration,
                "  {name}:\n    description: A test\n    compose-files: [compose-{name}.yml]"
            );
            self = self.file(&format!("{path}/compose-{name}.yml"), &compose(name, images));
        }
        self.file(&format!("{path}/forklift-package.yml"), &declaration)
    }

    /// A deployment of this package (`/packages/a`, or `github.com/x/y/packages/a`) with these features.
    #[must_use]
    pub fn deployment(self, name: &str, package: &str, features: &[&str]) -> Self {
        self.deploy(name, package, features, false)
    }

    /// A disabled deployment.
    #[must_use]
    pub fn disabled_deployment(self, name: &str, package: &str, features: &[&str]) -> Self {
        self.deploy(name, package, features, true)
    }

    fn deploy(self, name: &str, package: &str, features: &[&str], disabled: bool) -> Self {
        let features = features.join(", ");
        self.file(
            &format!("deployments/{name}.deploy.yml"),
            &format!("package: {package}\nfeatures: [{features}]\ndisabled: {disabled}\n"),
        )
    }

    /// Writes the files below this directory.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        self.files
            .iter()
            .try_for_each(|(path, content)| super::write_file(&directory.join(path), content.as_bytes()))
    }
}

/// A Compose file with a service for each image.
fn compose(prefix: &str, images: &[&str]) -> String {
    if images.is_empty() {
        return "services: {}\n".to_owned();
    }
    let mut text = "services:\n".to_owned();
    for (i, image) in images.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {prefix}-{i}:\n    image: {image}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_pallet_is_laid_out_as_forklift_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        PalletFiles::new("github.com/acme/pallet")
            .package_with_features("packages/web", &["caddy:2"], &[("extra", &["x/y:1"])])
            .deployment("apps/web", "/packages/web", &["extra"])
            .disabled_deployment("off", "/packages/web", &[])
            .write(directory.path())
            .unwrap();
        let read = |path: &str| fs::read_to_string(directory.path().join(path)).unwrap();
        assert!(read("forklift-pallet.yml").contains("path: github.com/acme/pallet\n"));
        assert_eq!(read("packages/web/compose.yml"), "services:\n  service-0:\n    image: caddy:2\n");
        assert_eq!(
            read("deployments/apps/web.deploy.yml"),
            "package: /packages/web\nfeatures: [extra]\ndisabled: false\n"
        );
        assert!(read("packages/web/forklift-package.yml").contains("compose-files: [compose-extra.yml]"));
    }
}
