//! A device: a tree that boots, with the pallet, the cache and the units in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use palletjack_testkit::image::{Image, ImageSet, Shape};
use palletjack_testkit::real::{Boot, BootEngine, BootTree, Forky};
use palletjack_testkit::registry::Registry;
use palletjack_testkit::sandbox::rewrite_images;
use serde_json::Value;

use crate::machine::{Machine, PROGRAM, listed, project, read_json, strings, testdata};

/// Where the device has the PlanktoScope's pallet, and this repository's example.
const PALLET: &str = "home/pi/.local/share/forklift/pallet";
const EXAMPLE: &str = "srv/field-station";
const CASE: &str = "pallets/std-2024-10-head/expected.json";
/// The example's enabled deployments, with their packages and the Compose files that they apply.
const DEPLOYMENTS: [(&str, &str, &[&str]); 5] = [
    ("docs", "docs", &["compose.yml"]),
    ("files", "files", &["compose.yml"]),
    ("broker", "broker", &["compose.yml"]),
    ("ingress", "ingress", &["compose.yml", "compose-public.yml"]),
    ("metrics", "metrics", &["compose.yml", "compose-host-metrics.yml"]),
];

pub(crate) const LOAD: &str = "palletjack-load.service";
pub(crate) const PINS: &str = "palletjack-pins.service";

pub(crate) struct Device {
    pub(crate) tree: BootTree,
    pub(crate) machine: Machine,
    pub(crate) set: ImageSet,
    /// The cache, as the device sees it, without the first slash.
    cache: String,
}

/// What a boot found out.
pub(crate) struct Seen {
    pub(crate) boot: Boot,
    /// Sections of what the script printed, by their names.
    sections: BTreeMap<String, String>,
}

impl Device {
    /// The PlanktoScope's pallet and the example with the digests of generated images, in a system with this Docker, and
    /// all of their images in a cache there.
    pub(crate) fn cached(tree: BootTree, cache: &str) -> Self {
        let machine = Machine::new();
        let example = project().join("pallets/field-station");
        let ran = machine.run_args(&["dev", "--cwd", example.to_str().unwrap(), "plt", "ls-img"]);
        let of_example: Vec<String> = ran.assert_success().stdout.lines().map(str::to_owned).collect();
        let of_pallet = listed(&testdata(CASE));
        // One image for each name and tag.
        let mut tags: BTreeMap<String, String> = BTreeMap::new();
        for name in of_pallet.iter().chain(&of_example) {
            let tag = name
                .split('@')
                .next()
                .unwrap()
                .trim_start_matches("docker.io/")
                .trim_start_matches("library/");
            tags.entry(tag.to_owned()).or_insert_with(|| name.clone());
        }
        let names: Vec<&String> = tags.values().collect();
        let set = ImageSet::build(&names, &Shape { stays: true, ..Shape::small() }).unwrap();

        machine.sandbox.copy_case(&testdata("pallets/std-2024-10-head")).unwrap();
        tree.copy_in(&machine.sandbox.pallet(), PALLET).unwrap();
        tree.copy_in(&example, EXAMPLE).unwrap();
        rewrite_images(&tree.root().join(PALLET), &set.replacements(&of_pallet)).unwrap();
        rewrite_images(&tree.root().join(EXAMPLE), &set.replacements(&of_example)).unwrap();

        let device = Self { tree, machine, set, cache: cache.to_owned() };
        let pallets = [PALLET, EXAMPLE].map(|pallet| device.tree.root().join(pallet));
        device.fill_cache(&pallets.each_ref().map(PathBuf::as_path))
    }

    /// Only these images, in a cache.
    pub(crate) fn with_images(tree: BootTree, set: ImageSet, cache: &str) -> Self {
        let machine = Machine::new();
        machine.pallet_of(&set.images.iter().map(Image::pinned).collect::<Vec<_>>());
        let pallet = machine.sandbox.pallet();
        Self { tree, machine, set, cache: cache.to_owned() }.fill_cache(&[&pallet])
    }

    /// Has the cache take the images of these pallets.
    fn fill_cache(mut self, pallets: &[&Path]) -> Self {
        let registry = Registry::start().unwrap();
        registry.publish_all(&self.set);
        self.machine.mirror(&registry.url());
        self.machine.set("PALLETJACK_CACHE_DIR", self.tree.root().join(&self.cache));
        for pallet in pallets {
            self.machine
                .run_args(&["dev", "--cwd", pallet.to_str().unwrap(), "plt", "cache-img"])
                .assert_success();
        }
        self.machine.unset("PALLETJACK_CACHE_DIR");
        self
    }

    /// Writes the units that the system needs for all of the cache, and the program. Returns what was said.
    pub(crate) fn install_units(&self) -> String {
        let (root, cache) = (self.tree.root().to_str().unwrap(), format!("/{}", self.cache));
        let ran =
            self.machine.run_args(&["--cache-dir", &cache, "unit", "--install", root, "--binary", PROGRAM]);
        ran.assert_success();
        ran.stderr
    }

    /// Fills the storage of the system's Docker, with a Docker of the same version.
    pub(crate) fn seed(&self) {
        let (root, cache) = (self.tree.root(), self.tree.root().join(&self.cache));
        let mut words =
            vec!["--cache-dir", cache.to_str().unwrap(), "seed", "--root", root.to_str().unwrap()];
        let forky = Forky::install().unwrap();
        let programs = ["docker/usr/sbin", "docker/usr/bin"].map(|place| forky.directory().join(place));
        if matches!(self.tree.engine(), BootEngine::Docker28(_)) {
            words.extend(programs.iter().flat_map(|place| ["--engine-path", place.to_str().unwrap()]));
        }
        self.machine.run_args(&words).assert_success();
    }

    /// Empties the storage of the engine.
    pub(crate) fn wipe(&self) {
        for directory in ["var/lib/docker", "var/lib/containerd"] {
            let directory = self.tree.root().join(directory);
            if directory.exists() {
                fs::remove_dir_all(directory).unwrap();
            }
        }
    }

    /// Boots, looks at the units, and asks the engine for every reference.
    pub(crate) fn boot(&self) -> Seen {
        self.boot_with("")
    }

    /// The same; then Compose makes the containers of every deployment of the pallet from its own files, and starts those
    /// of the example.
    pub(crate) fn boot_with_compose(&self) -> Seen {
        self.boot_with(&compose_script())
    }

    /// The same; then the files of all images in the engine are compared with the cache.
    pub(crate) fn boot_deep(&self) -> Seen {
        let status = format!("palletjack --cache-dir /{} cache status --deep >&2", self.cache);
        self.boot_with(&format!("section deep\nif {status}; then echo 0; else echo $?; fi\n"))
    }

    /// The same; then `more` is run. What it prints is in sections that it begins with `section NAME`.
    pub(crate) fn boot_with(&self, more: &str) -> Seen {
        let boot = self.tree.boot(&(self.script() + more)).unwrap();
        let mut sections: BTreeMap<String, String> = BTreeMap::new();
        let mut name = String::new();
        for line in boot.output.lines() {
            match line.strip_prefix("=== ") {
                Some(next) => next.clone_into(&mut name),
                None => {
                    let section = sections.entry(name.clone()).or_default();
                    section.push_str(line);
                    section.push('\n');
                }
            }
        }
        Seen { boot, sections }
    }

    fn script(&self) -> String {
        let mut script = "set -eu\nsection() { echo \"=== $1\"; }\n".to_owned();
        for unit in [PINS, LOAD, "docker.service"] {
            script.push_str(&format!(
                "section {unit}; systemctl show {unit} --property=ActiveState,Result,StatusText,LoadState\n"
            ));
        }
        script.push_str("section verify; systemd-analyze verify /etc/systemd/system/palletjack-*.service 2>&1\nsection resolves\n");
        for image in &self.set.images {
            let reference = image.pinned();
            script.push_str(&format!(
                "if docker create --pull never {reference} >/dev/null; then echo {reference}; fi\n"
            ));
        }
        script
    }

    /// A container can be made of every reference of the pallet.
    #[track_caller]
    pub(crate) fn assert_resolves(&self, seen: &Seen) {
        seen.boot.assert_success();
        let references: Vec<String> = self.set.images.iter().map(Image::pinned).collect();
        assert_eq!(seen.section("resolves").lines().collect::<Vec<_>>(), references, "{}", seen.boot);
    }

    /// Compose made the containers of all deployments, of every reference of the pallet one.
    #[track_caller]
    pub(crate) fn assert_composed(&self, seen: &Seen) {
        seen.boot.assert_success();
        let made = seen.section("containers");
        for image in &self.set.images {
            let pin = image.top.digest.to_string();
            assert!(made.lines().any(|line| line.ends_with(&pin)), "{}: {}", image.pinned(), seen.boot);
        }
        assert_eq!(seen.section("up").lines().count(), DEPLOYMENTS.len(), "{}", seen.boot);
        let running = seen.section("running").lines();
        assert!(
            running.clone().all(|image| image.contains("@sha256:")) && running.count() >= DEPLOYMENTS.len(),
            "{}",
            seen.boot
        );
    }
}

/// Has Compose make the containers of every deployment, in the way in which Forklift v0.8.0 hands them to it.
fn compose_script() -> String {
    let mut script = "echo metal-slope-23501 >/run/machine-name\n\
        if_cpu_can_be_limited() { if grep -qw cpu /sys/fs/cgroup/cgroup.controllers; then echo \"$@\"; fi; }\n\
        section compose\n"
        .to_owned();
    let expected = read_json(&testdata(CASE));
    let mut projects: Vec<(&String, &Value)> = expected["per_deployment"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, deployment)| {
            deployment["disabled"] == false && !deployment["images"].as_array().unwrap().is_empty()
        })
        .collect();
    assert!(projects.len() > 10);
    // It makes the network that is external to the others.
    projects.sort_by_key(|(name, _)| *name != "infra/caddy-ingress");
    for (name, deployment) in projects {
        let package = deployment["package"].as_str().unwrap().trim_start_matches('/');
        // Docker refuses limits that the machine's cgroups cannot set, as where another hierarchy has the controller.
        let files: Vec<String> = strings(&deployment["compose-files"])
            .iter()
            .map(|file| match file.as_str() {
                "compose-cpu-limit.yml" => format!("$(if_cpu_can_be_limited --file {file})"),
                file => format!("--file {file}"),
            })
            .collect();
        script.push_str(&format!(
            "cd /{PALLET}/{package} && docker compose --project-name {} {} create --pull never\necho {name}\n",
            name.replace('/', "_"),
            files.join(" "),
        ));
    }
    script.push_str("mkdir -p /srv/data\nsection up\n");
    for (name, package, files) in DEPLOYMENTS {
        let files: Vec<String> = files.iter().map(|file| format!("--file {file}")).collect();
        script.push_str(&format!(
            "cd /{EXAMPLE}/packages/{package} && docker compose --project-name up_{name} {} up --detach --wait --pull never\n\
             echo {name}\n",
            files.join(" "),
        ));
    }
    script.push_str("section running; docker ps --no-trunc --format '{{.Image}}'\n");
    script.push_str("section containers; docker ps --all --no-trunc --format '{{.Image}}' --filter label=com.docker.compose.project\n");
    script
}

impl Seen {
    pub(crate) fn section(&self, name: &str) -> &str {
        self.sections.get(name).map_or("", String::as_str)
    }

    /// A property of a unit at the end of the boot.
    #[track_caller]
    pub(crate) fn property(&self, unit: &str, name: &str) -> &str {
        let property = self.section(unit).lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        property.unwrap_or_else(|| panic!("{unit} has no {name}: {}", self.boot))
    }

    /// The lines that the program wrote in this unit, which a person can read.
    #[track_caller]
    pub(crate) fn lines(&self, unit: &str) -> Vec<&str> {
        let lines = self.boot.lines(unit);
        for line in &lines {
            let is_readable =
                line.chars().count() <= 250 && !line.contains(|c: char| c.is_control() || c == '█');
            assert!(is_readable && !line.starts_with('<'), "{line:?}");
        }
        lines
    }
}
