//! A device: the program's machine and an engine, loaded, and nothing to download from any more.

use std::collections::BTreeMap;
use std::net::TcpListener;

use palletjack_testkit::Ran;
use palletjack_testkit::image::{Image, ImageSet};
use palletjack_testkit::real::{Dockerd, DockerdOptions, Podman, Store};
use palletjack_testkit::registry::Registry;
use serde_json::Value;

use crate::machine::Machine;
use crate::project::Project;

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 20.10, with its graph driver.
    Docker20,
    /// 28.5 with the containerd image store.
    Docker28,
    /// 28.5 with the graph driver.
    Docker28Graph,
    /// 4.3, through its socket.
    Podman,
}

/// How pins are made to resolve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By the load alone: the engine keeps digests.
    Load,
    /// By the mirror that the daemon has been given for Docker Hub.
    Mirror,
    /// By `--repin live`.
    Live,
    /// Not at all: Compose is given a file with image IDs.
    Override,
    /// Not at all: the staged Compose files are given image IDs.
    Localize,
}

enum Engine {
    Docker(Dockerd),
    Podman(Podman),
}

impl Engine {
    fn host(&self) -> String {
        match self {
            Self::Docker(docker) => docker.host(),
            Self::Podman(podman) => podman.host(),
        }
    }
}

/// A machine with its engine.
pub(crate) struct Device {
    pub(crate) machine: Machine,
    engine: Engine,
    kind: Kind,
    way: Way,
    /// Lines of the daemon's log up to the end of the load.
    logged: usize,
}

/// A container as the engine describes it.
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) service: String,
    /// The reference that it was made of, as it was written.
    pub(crate) reference: String,
    /// The image that this was.
    pub(crate) image: String,
    pub(crate) running: bool,
}

/// Where `--compose-override` writes.
const OVERRIDES: &str = "overrides";

impl Device {
    /// Caches what `noun` (`plt`, `stage`) requires from a registry that has the set, ends that registry, starts the
    /// engine and loads.
    pub(crate) fn loaded(mut machine: Machine, noun: &str, set: &ImageSet, kind: Kind, way: Way) -> Self {
        let registry = Registry::start().unwrap();
        registry.publish_all(set);
        machine.mirror(&registry.url());
        machine.run(&format!("{noun} cache-img")).assert_success();
        drop(registry);

        // With the bridge that the harness leaves out elsewhere: the network is this test's own.
        let mut args: Vec<String> = ["--bridge=", "--log-level=debug"].map(str::to_owned).into();
        if way == Way::Mirror {
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            args.push(format!("--registry-mirror=http://{free}"));
        }
        let options = DockerdOptions { args, ..DockerdOptions::default() };
        let engine = match kind {
            Kind::Docker20 => Engine::Docker(Dockerd::debian_with(options).unwrap()),
            Kind::Docker28 => Engine::Docker(Dockerd::forky_with(Store::Containerd, options).unwrap()),
            Kind::Docker28Graph => Engine::Docker(Dockerd::forky_with(Store::GraphDriver, options).unwrap()),
            Kind::Podman => Engine::Podman(Podman::start().unwrap()),
        };
        machine.set("DOCKER_HOST", engine.host());
        let mut device = Self { machine, engine, kind, way, logged: 0 };
        device.load(noun, set);
        if let Engine::Docker(docker) = &device.engine {
            device.logged = docker.log().len();
        }
        device
    }

    /// Loads and compares the verdicts with what this way can do.
    fn load(&self, noun: &str, set: &ImageSet) {
        let asked = match self.way {
            Way::Load | Way::Mirror => String::new(),
            Way::Live => " --repin live".to_owned(),
            Way::Override => format!(" --compose-override {OVERRIDES}"),
            Way::Localize => " --localize".to_owned(),
        };
        let (ran, document) = self.machine.json(&format!("{noun} load-img{asked}"));
        let verdicts: BTreeMap<&str, bool> = document["images"]
            .as_array()
            .unwrap()
            .iter()
            .map(|image| (image["reference"].as_str().unwrap(), image["resolves"].as_bool().unwrap()))
            .collect();
        assert_eq!(verdicts.len(), set.images.len(), "{ran}");
        for (reference, resolves) in &verdicts {
            assert_eq!(*resolves, self.resolves(reference), "{reference}: {ran}");
        }
        let complete = verdicts.keys().all(|reference| self.starts(reference));
        ran.assert_code(if complete { 0 } else { 5 });
    }

    /// Whether a service of this reference is expected to start.
    pub(crate) fn starts(&self, reference: &str) -> bool {
        self.resolves(reference) || matches!(self.way, Way::Override | Way::Localize)
    }

    /// Whether the engine is expected to resolve a reference as it is written.
    pub(crate) fn resolves(&self, reference: &str) -> bool {
        match self.way {
            Way::Load | Way::Live => true,
            Way::Mirror => !reference.starts_with("ghcr.io/"),
            Way::Override | Way::Localize => !reference.contains('@'),
        }
    }

    /// The image that a container of this one is said to be of.
    fn id(&self, image: &Image) -> String {
        match self.kind {
            Kind::Docker28 => image.top.digest.to_string(),
            Kind::Docker20 | Kind::Docker28Graph | Kind::Podman => {
                image.platform("linux/amd64").unwrap().config.to_string()
            }
        }
    }

    /// The engine's own client.
    pub(crate) fn client(&self, args: &[&str]) -> Ran {
        match &self.engine {
            Engine::Docker(docker) => docker.docker().unwrap().run(args),
            Engine::Podman(podman) => podman.run(args),
        }
        .unwrap()
    }

    /// `docker compose` on a project's files, with the written one where that is the way.
    pub(crate) fn compose(&self, project: &Project, args: &[&str]) -> Ran {
        let mut more = Vec::new();
        if self.way == Way::Override {
            let one = self.machine.sandbox.home().join(format!("{OVERRIDES}/{}.yml", project.deployment));
            assert!(one.is_file(), "{} is not there", one.display());
            more.push(one);
        }
        project.compose(&self.machine, Some(self.engine.host()), &more, args)
    }

    /// The project's containers.
    pub(crate) fn containers(&self, project: &Project) -> Vec<Container> {
        let label = format!("label=com.docker.compose.project={}", project.name);
        let listed = self.client(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &label]);
        let ids: Vec<&str> = listed.assert_success().stdout.split_whitespace().collect();
        if ids.is_empty() {
            return Vec::new();
        }
        let ran = self.client(&[&["inspect"], &ids[..]].concat());
        let described: Vec<Value> = serde_json::from_str(&ran.assert_success().stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        described
            .iter()
            .map(|container| Container {
                id: text(&container["Id"]),
                service: text(&container["Config"]["Labels"]["com.docker.compose.service"]),
                reference: text(&container["Config"]["Image"]),
                image: text(&container["Image"]),
                running: container["State"]["Running"].as_bool().unwrap(),
            })
            .collect()
    }

    /// The project has a container for each service, each of the very image that the pallet's files pin.
    #[track_caller]
    pub(crate) fn assert_containers(&self, project: &Project, set: &ImageSet) -> Vec<Container> {
        let containers = self.containers(project);
        assert_eq!(containers.len(), project.services.len(), "{}", project.deployment);
        for container in &containers {
            let written = &project.services[&container.service];
            let image = set.find(written).unwrap();
            let id = self.id(image);
            let expected = match self.kind {
                // Whatever it was asked for, it calls the image by its tag.
                Kind::Podman => image.tagged(),
                _ if self.resolves(written) => written.clone(),
                _ => id.clone(),
            };
            assert_eq!(container.reference, expected, "{}", project.deployment);
            let is = container.image.trim_start_matches("sha256:");
            assert_eq!(is, id.trim_start_matches("sha256:"), "{written}");
        }
        containers
    }

    /// Since the load, nobody had the daemon ask a registry for anything: it logs each request of its API.
    #[track_caller]
    pub(crate) fn assert_never_pulled(&self) {
        let Engine::Docker(docker) = &self.engine else { return };
        let pulls = || {
            let log = docker.log();
            let (mut asked, other): (Vec<_>, Vec<_>) =
                log.into_iter().skip(self.logged).partition(|line| line.contains("/images/create?"));
            assert!(!other.is_empty());
            asked.pop()
        };
        assert_eq!(pulls(), None);
        // That it would have been seen.
        assert!(!self.client(&["pull", "registry.invalid/absent:1"]).success());
        assert!(pulls().is_some_and(|line| line.contains("registry.invalid")));
    }
}
