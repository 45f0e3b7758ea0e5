//! A machine on which the program runs: its home, its configuration, its pallet.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use palletjack_testkit::Ran;
use palletjack_testkit::image::{ImageSet, Shape};
use palletjack_testkit::registry::Registry;
use palletjack_testkit::sandbox::{PalletFiles, Sandbox, rewrite_images};
use serde_json::Value;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_palletjack");

/// A home with nothing in it.
///
/// Images are for linux/amd64 unless a test says otherwise, because the generated ones that have a single manifest
/// are. Nothing outside this machine can be reached: the proxy for TLS is a closed port.
pub(crate) struct Machine {
    pub(crate) sandbox: Sandbox,
    variables: BTreeMap<String, String>,
    /// Whether runs have no more rights than any user, even if the tests are run by root.
    unprivileged: bool,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let variables = [("PALLETJACK_PLATFORM", "linux/amd64"), ("https_proxy", "http://127.0.0.1:1")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { sandbox: Sandbox::new().unwrap(), variables: variables.into(), unprivileged: false }
    }

    /// One whose runs may write only what its owner may write. Root may write anything, and so sees fewer errors.
    pub(crate) fn unprivileged() -> Self {
        Self { unprivileged: rustix::process::geteuid().is_root(), ..Self::new() }
    }

    /// Sets a variable for every run.
    pub(crate) fn set(&mut self, name: &str, value: impl AsRef<Path>) {
        self.variables.insert(name.to_owned(), value.as_ref().to_string_lossy().into_owned());
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.variables.remove(name);
    }

    /// Runs the program with these words.
    pub(crate) fn run(&self, words: &str) -> Ran {
        self.run_args(&words.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs the program with these arguments.
    pub(crate) fn run_args(&self, args: &[&str]) -> Ran {
        let mut words = self.words();
        let program = words.remove(0);
        words.extend(args);
        self.run_other(program, &words)
    }

    /// How the program is started. Without capabilities, root is a user like any other.
    fn words(&self) -> Vec<&'static str> {
        if self.unprivileged {
            vec!["/usr/bin/setpriv", "--inh-caps=-all", "--bounding-set=-all", PROGRAM]
        } else {
            vec![PROGRAM]
        }
    }

    /// Runs another program in the same environment.
    pub(crate) fn run_other(&self, program: &str, args: &[&str]) -> Ran {
        let variables: Vec<(&str, &str)> =
            self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.sandbox.run_with(program, args, &variables).unwrap()
    }

    /// The program with these words, not yet run, its output kept.
    pub(crate) fn command(&self, words: &str) -> Command {
        let start = self.words();
        let mut command = self.sandbox.command(start[0]);
        command
            .args(&start[1..])
            .args(words.split_whitespace())
            .envs(&self.variables)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program with `--output json`, and returns how it ended and its document.
    #[track_caller]
    pub(crate) fn json(&self, words: &str) -> (Ran, Value) {
        let ran = self.run(&format!("{words} --output json"));
        let document = serde_json::from_str(&ran.stdout)
            .unwrap_or_else(|error| panic!("standard output is no JSON ({error}): {ran}"));
        (ran, document)
    }

    /// The program's configuration.
    pub(crate) fn configure(&self, toml: &str) -> PathBuf {
        self.sandbox.write(".config/palletjack/config.toml", toml).unwrap()
    }

    /// Takes the images of Docker Hub and GitHub from this registry.
    pub(crate) fn mirror(&self, url: &str) {
        self.configure(&format!(
            "[registries.\"docker.io\"]\nmirrors = [\"{url}\"]\n\n[registries.\"ghcr.io\"]\nmirrors = [\"{url}\"]\n"
        ));
    }

    /// Makes the real PlanktoScope pallet the workspace's, with all names and tags kept and only the digests those of
    /// generated images, which are returned in the order of Forklift's list.
    pub(crate) fn standard_pallet(&self, shape: &Shape) -> ImageSet {
        let case = testdata("pallets/std-2024-10-head");
        self.sandbox.copy_case(&case).unwrap();
        let names = listed(&case.join("expected.json"));
        let set = ImageSet::build(&names, shape).unwrap();
        rewrite_images(&self.sandbox.pallet(), &set.replacements(&names)).unwrap();
        set
    }

    /// Makes a pallet the workspace's that needs these images, each in a deployment `app-0`, `app-1`, …
    pub(crate) fn pallet_of<R: AsRef<str>>(&self, references: &[R]) {
        let mut files = PalletFiles::new("github.com/acme/pallet");
        for (i, reference) in references.iter().enumerate() {
            let package = format!("packages/app-{i}");
            files = files.package(&package, &[reference.as_ref()]);
            files = files.deployment(&format!("app-{i}"), &format!("/{package}"), &[]);
        }
        self.sandbox.write_pallet(&files).unwrap();
    }

    /// Publishes images in a registry and makes a pallet the workspace's that pins them there. Returns the pins.
    pub(crate) fn pallet_in(&self, registry: &Registry, set: &ImageSet) -> Vec<String> {
        registry.publish_all(set);
        let pins = pins(registry, set);
        self.pallet_of(&pins);
        pins
    }

    /// The part of the cache that other tools read.
    pub(crate) fn layout(&self) -> PathBuf {
        self.sandbox.cache().join("docker-archives")
    }

    /// The names that the cache's `index.json` gives its images, by which other tools find them.
    pub(crate) fn names_in_layout(&self) -> Vec<(String, String)> {
        let index: Value =
            serde_json::from_slice(&fs::read(self.layout().join("index.json")).unwrap()).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let manifests = index["manifests"].as_array().unwrap().iter();
        manifests
            .map(|d| (text(&d["annotations"]["org.opencontainers.image.ref.name"]), text(&d["mediaType"])))
            .collect()
    }

    pub(crate) fn blob(&self, digest: &palletjack_image::Digest) -> PathBuf {
        self.layout().join("blobs/sha256").join(digest.to_string().trim_start_matches("sha256:"))
    }

    /// Turns one bit in the middle of a blob, as a failing medium does.
    pub(crate) fn damage(&self, digest: &palletjack_image::Digest) {
        let path = self.blob(digest);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        fs::write(&path, bytes).unwrap();
    }

    /// Checks every blob and name of the cache, which must all be right, with nothing left for `verify` to complete.
    #[track_caller]
    pub(crate) fn assert_verified(&self, images: usize) {
        let manifest = || fs::read(self.layout().join("manifest.json")).ok();
        let before = manifest();
        let (ran, document) = self.json("cache verify");
        assert!(before == manifest(), "manifest.json was not up to date");
        ran.assert_success();
        assert_eq!(document["problems"], Value::Array(Vec::new()), "{ran}");
        assert_eq!(document["images"], images, "{ran}");
    }
}

/// The images by the registry's own address: `127.0.0.1:1234/acme/tool:1@sha256:…`.
pub(crate) fn pins(registry: &Registry, set: &ImageSet) -> Vec<String> {
    let pin = |image: &palletjack_testkit::image::Image| {
        let (name, digest) = (&image.name, image.top.digest);
        format!("{}/{}:{}@{digest}", registry.host(), name.repository, name.tag.as_deref().unwrap())
    };
    set.images.iter().map(pin).collect()
}

/// A file or directory of the project's `testdata`.
pub(crate) fn testdata(path: &str) -> PathBuf {
    project().join("testdata").join(path)
}

/// The project's root.
pub(crate) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The images of a corpus case's enabled deployments.
pub(crate) fn listed(expected: &Path) -> Vec<String> {
    strings(&read_json(expected)["enabled"])
}

pub(crate) fn read_json(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

pub(crate) fn strings(array: &Value) -> Vec<String> {
    array.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// Four small images that every engine reads: all kinds of manifests, gzip layers.
pub(crate) fn small_set() -> &'static ImageSet {
    static SET: OnceLock<ImageSet> = OnceLock::new();
    SET.get_or_init(|| {
        let shape = Shape { zstd: false, ..Shape::small() };
        let names = ["one:1", "two:2", "three:3", "four:4"].map(|name| format!("example.com/acme/{name}"));
        ImageSet::build(&names, &shape).unwrap()
    })
}

/// The small images' own layers for amd64, which no other image has.
pub(crate) fn own_layer(set: &ImageSet, image: usize) -> &palletjack_testkit::image::Layer {
    set.images[image].platform("linux/amd64").unwrap().layers.last().unwrap()
}

/// Output of a program that was started with [`Machine::command`].
pub(crate) fn show(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n--- stdout\n{}\n--- stderr\n{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Everything is loaded. On an engine that keeps no digests, pins do not resolve after that: exit code 5 says so.
#[track_caller]
pub(crate) fn assert_loaded(ran: &Ran) {
    let says_so = ran.stderr.contains("do not resolve by their pinned reference");
    ran.assert_code(if says_so { 5 } else { 0 });
}
