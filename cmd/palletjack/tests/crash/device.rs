//! A device: an engine whose data lies on a disk whose power can be cut.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use palletjack_testkit::Ran;
use palletjack_testkit::image::LayerBuilder;
use palletjack_testkit::powercut::{Cut, Disk};
use palletjack_testkit::real::{Dockerd, DockerdOptions, Part, Podman, Store};
use palletjack_testkit::registry::Registry;

use crate::files;
use crate::images::images;
use crate::machine::Machine;

/// A kind of engine that is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Docker20,
    Docker28Graph,
    Docker28Containerd,
    Docker29Containerd,
    Podman,
}

impl Kind {
    pub(crate) fn parts(self) -> Vec<Part> {
        vec![
            Part::LoopMounts,
            match self {
                Self::Docker20 => Part::Docker20,
                Self::Docker28Graph | Self::Docker28Containerd => Part::Docker28,
                Self::Docker29Containerd => Part::Docker29,
                Self::Podman => Part::Podman,
            },
        ]
    }

    fn boot(self, data_root: &Path) -> Booted {
        let options = DockerdOptions { data_root: Some(data_root.to_owned()), ..DockerdOptions::default() };
        let docker = |docker: std::io::Result<Dockerd>| Booted::Docker(Box::new(docker.unwrap()));
        match self {
            Self::Docker20 => docker(Dockerd::debian_with(options)),
            Self::Docker28Graph => docker(Dockerd::forky_with(Store::GraphDriver, options)),
            Self::Docker28Containerd => docker(Dockerd::forky_with(Store::Containerd, options)),
            Self::Docker29Containerd => docker(Dockerd::built_with(Store::Containerd, options)),
            Self::Podman => Booted::Podman(Podman::start_on(data_root).unwrap()),
        }
    }

    /// Whether a load that was cut off can leave layers in this engine that only its own machine's administrator gets
    /// rid of.
    pub(crate) fn keeps_broken_layers(self) -> bool {
        matches!(self, Self::Docker28Containerd | Self::Docker29Containerd)
    }
}

/// A running engine.
pub(crate) enum Booted {
    Docker(Box<Dockerd>),
    Podman(Podman),
}

impl Booted {
    pub(crate) fn host(&self) -> String {
        match self {
            Self::Docker(docker) => docker.host(),
            Self::Podman(podman) => podman.host(),
        }
    }

    /// The engine's own client with these arguments, not yet run.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        match self {
            Self::Docker(docker) => docker.docker().unwrap().command(args),
            Self::Podman(podman) => podman.command(args).unwrap(),
        }
    }

    pub(crate) fn client(&self, args: &[&str]) -> Ran {
        match self {
            Self::Docker(docker) => docker.docker().unwrap().run(args).unwrap(),
            Self::Podman(podman) => podman.run(args).unwrap(),
        }
    }

    /// The engine dies. Its memory goes with it, the kernel's does not.
    pub(crate) fn kill(&mut self) {
        match self {
            Self::Docker(docker) => docker.kill(),
            Self::Podman(podman) => podman.kill(),
        }
    }

    /// The files of an image as the engine's own client hands them out, or why it does not.
    pub(crate) fn files(&self, image: &str) -> Result<String, String> {
        let created = self.client(&["create", "--network", "none", image, "/never-started"]);
        if !created.success() {
            return Err(created.to_string());
        }
        let id = created.stdout.trim();
        let files = files::of_export(self.command(&["export", id]));
        self.client(&["rm", id]).assert_success();
        files
    }
}

/// Where the cache is: what a cut does to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheOn {
    /// On the same disk as the engine's data: as old as they are.
    SameDisk,
    /// On another, which loses nothing.
    AnotherDisk,
}

/// Somebody else's images, which are none of the program's business.
const THEIRS: &str = "somebody/theirs:1";

/// A device with a filled cache, an engine, and an image of somebody else's in it; all of it on the disk.
pub(crate) struct Device {
    pub(crate) kind: Kind,
    pub(crate) disk: Disk,
    pub(crate) machine: Machine,
    cache_on: CacheOn,
    theirs: String,
}

impl Device {
    pub(crate) fn new(kind: Kind, cache_on: CacheOn) -> Self {
        let (mut machine, disk) = (Machine::new(), Disk::new(768 << 20).unwrap());
        if cache_on == CacheOn::SameDisk {
            machine.set("PALLETJACK_CACHE_DIR", disk.path().join("cache"));
        }
        let registry = Registry::start().unwrap();
        registry.publish_all(&images().set);
        machine.mirror(&registry.url());
        machine.pallet_of(&images().pins());
        machine.run("plt cache-img").assert_success();

        let mut device = Self { kind, disk, machine, cache_on, theirs: String::new() };
        let booted = device.boot();
        device.add_theirs(&booted, THEIRS);
        device.theirs = booted.files(THEIRS).unwrap();
        assert!(device.theirs.contains("opt/theirs.bin"), "{}", device.theirs);
        drop(booted);
        device.sync();
        device
    }

    /// Starts the engine, and has the program's runs use it.
    pub(crate) fn boot(&mut self) -> Booted {
        let data_root = self.disk.path().join("engine");
        fs::create_dir_all(&data_root).unwrap();
        let booted = self.kind.boot(&data_root);
        self.machine.set("DOCKER_HOST", booted.host());
        booted
    }

    pub(crate) fn sync(&self) {
        rustix::fs::syncfs(fs::File::open(self.disk.path()).unwrap()).unwrap();
    }

    /// Somebody else brings an image.
    pub(crate) fn add_theirs(&self, booted: &Booted, name: &str) {
        let layer = LayerBuilder::new()
            .directory("opt")
            .filler("opt/theirs.bin", 7, 700_000)
            .file("opt/name", name)
            .compression(palletjack_testkit::image::Compression::None)
            .build()
            .unwrap();
        let path = self.machine.sandbox.root().join("theirs.tar");
        fs::write(&path, layer.blob.read().unwrap()).unwrap();
        booted.client(&["import", &path.to_string_lossy(), name]).assert_success();
    }

    fn unsettled(&self) -> PathBuf {
        let cache = match self.cache_on {
            CacheOn::SameDisk => self.disk.path().join("cache"),
            CacheOn::AnotherDisk => self.machine.sandbox.cache(),
        };
        cache.join("state/unsettled")
    }

    /// What is written down of loads that are not settled, by file name. What a cut left of one that was being written does
    /// not count.
    pub(crate) fn records(&self) -> Vec<(String, Vec<u8>)> {
        let Ok(entries) = self.unsettled().read_dir() else { return Vec::new() };
        let records = entries.filter_map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            // One that goes away meanwhile was struck off.
            (!name.starts_with(".tmp-")).then(|| Some((name, fs::read(entry.path()).ok()?)))?
        });
        records.collect()
    }

    /// The device as it is at this moment.
    pub(crate) fn cut(&self) -> PowerCut {
        // Where the cache is on another disk, whoever writes it is halted by now.
        let records = (self.cache_on == CacheOn::AnotherDisk).then(|| self.records());
        PowerCut { cut: self.disk.cut().unwrap(), records }
    }

    /// The power is back. Nobody uses the disk any more.
    pub(crate) fn restore(&mut self, cut: &PowerCut) {
        self.disk.restore(&cut.cut).unwrap();
        let Some(records) = &cut.records else { return };
        for (name, _) in self.records() {
            fs::remove_file(self.unsettled().join(name)).unwrap();
        }
        for (name, content) in records {
            fs::write(self.unsettled().join(name), content).unwrap();
        }
    }

    pub(crate) fn cache_on(&self) -> CacheOn {
        self.cache_on
    }

    /// Every image is whole, and the program says so too; nothing is left to be done, and somebody else's image is as it was.
    #[track_caller]
    pub(crate) fn assert_all_whole(&self, booted: &Booted) {
        images().assert_whole(booted);
        self.assert_theirs(booted);
        let (ran, document) = self.machine.json("plt status --deep");
        for image in document["images"].as_array().unwrap() {
            assert!(image["state"] == "runs" || image["state"] == "unnamed", "{ran}");
            assert_eq!(image["different"], 0, "{ran}");
        }
        assert_eq!(self.records(), [], "loads that are not settled");
        let containers = booted.client(&["ps", "--all", "--quiet"]);
        assert_eq!(containers.stdout, "", "containers stay behind");
    }

    #[track_caller]
    pub(crate) fn assert_theirs(&self, booted: &Booted) {
        let files = booted.files(THEIRS).unwrap_or_else(|error| panic!("{THEIRS}: {error}"));
        assert_eq!(files, self.theirs, "somebody else's image is not what it was");
    }
}

/// A device at one moment.
pub(crate) struct PowerCut {
    cut: Cut,
    /// What was written down on a disk that loses nothing.
    records: Option<Vec<(String, Vec<u8>)>>,
}
