//! `docker compose up` of the example pallet, offline: its services run, each of the image that it pins.

use std::process::Command;

use palletjack_testkit::image::{ImageSet, Shape};
use palletjack_testkit::real::Part;
use palletjack_testkit::require_real;
use palletjack_testkit::sandbox::rewrite_images;

use crate::device::{Device, Kind, Way};
use crate::machine::{self, Machine};
use crate::project::Project;
use crate::{room, soak};

/// The enabled deployments with the Compose files that they apply.
const DEPLOYMENTS: [(&str, &str, &[&str]); 5] = [
    ("apps/docs", "packages/docs", &["compose.yml"]),
    ("apps/files", "packages/files", &["compose.yml"]),
    ("broker", "packages/broker", &["compose.yml"]),
    ("ingress", "packages/ingress", &["compose.yml", "compose-public.yml"]),
    ("metrics", "packages/metrics", &["compose.yml", "compose-host-metrics.yml"]),
];

/// The example pallet with the digests of generated images, whose containers stay.
fn pallet(machine: &Machine) -> ImageSet {
    let (from, to) = (machine::project().join("pallets/field-station"), machine.sandbox.pallet());
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    let copied = Command::new("cp").arg("--recursive").args([&from, &to]).status().unwrap();
    assert!(copied.success());
    let ran = machine.run("plt ls-img");
    let names: Vec<&str> = ran.assert_success().stdout.lines().collect();
    for registry in ["docker.io/", "ghcr.io/"] {
        assert!(names.iter().any(|name| name.starts_with(registry)), "{registry}: {names:?}");
    }
    assert!(names.iter().all(|name| name.contains("@sha256:")), "{names:?}");
    // Without Zstandard, as the registries' own images are: the other pallet has that.
    let set = ImageSet::build(&names, &Shape { zstd: false, stays: true, ..Shape::small() }).unwrap();
    rewrite_images(&to, &set.replacements(&names)).unwrap();
    set
}

/// Every service of every deployment is up, and stays up by either policy of pulling.
fn up(kind: Kind, way: Way) {
    let machine = Machine::new();
    let set = pallet(&machine);
    let projects = DEPLOYMENTS.map(|(deployment, package, files)| {
        let files: Vec<String> = files.iter().map(|&file| file.to_owned()).collect();
        Project::new(&machine, deployment, &machine.sandbox.pallet().join(package), &files)
    });
    let device = Device::loaded(machine, "plt", &set, kind, way);
    // What the pallet's files take from the host.
    std::fs::create_dir_all("/srv/data").unwrap();
    let mut running = 0;
    for project in &projects {
        let args = ["up", "--detach", "--wait", "--pull", "never"];
        if project.services.values().any(|reference| !device.starts(reference)) {
            let ran = device.compose(project, &args);
            assert!(!ran.success() && ran.stderr.contains("No such image"), "{ran}");
            continue;
        }
        device.compose(project, &args).assert_success();
        let first = device.assert_containers(project, &set);
        device.compose(project, &["up", "--detach", "--wait", "--force-recreate"]).assert_success();
        let second = device.assert_containers(project, &set);
        for container in &second {
            assert!(container.running, "{}: {}", project.deployment, container.service);
            assert!(first.iter().all(|before| before.id != container.id));
            let said = device.client(&["logs", &container.id]);
            assert_eq!(said.assert_success().stdout, "it runs\n");
        }
        running += second.len();
        device.compose(project, &["down", "--timeout", "0", "--volumes"]).assert_success();
        assert!(device.containers(project).is_empty());
    }
    let started = set.images.iter().filter(|image| device.starts(&image.pinned())).count();
    assert_eq!(running, started, "each image is one service's");
    device.assert_never_pulled();
}

#[test]
fn it_is_up_on_docker_28_after_a_load() {
    require_real!(Part::Docker28);
    if room::inside("field_station::it_is_up_on_docker_28_after_a_load") {
        up(Kind::Docker28, Way::Load);
    }
}

#[test]
fn it_is_up_on_podman_after_a_load() {
    require_real!(Part::Podman, Part::Docker28);
    if room::inside("field_station::it_is_up_on_podman_after_a_load") {
        up(Kind::Podman, Way::Load);
    }
}

#[test]
fn it_is_up_on_docker_20_with_a_file_of_ours() {
    require_real!(Part::Docker20, Part::Docker28);
    if room::inside("field_station::it_is_up_on_docker_20_with_a_file_of_ours") {
        up(Kind::Docker20, Way::Override);
    }
}

#[test]
fn it_is_up_on_docker_20_by_its_mirror_but_for_other_registries() {
    require_real!(Part::Docker20, Part::Docker28);
    if room::inside("field_station::it_is_up_on_docker_20_by_its_mirror_but_for_other_registries") {
        up(Kind::Docker20, Way::Mirror);
    }
}

#[test]
fn it_is_up_on_graph_drivers_in_every_way() {
    require_real!(Part::Docker20, Part::Docker28);
    if soak() && room::inside("field_station::it_is_up_on_graph_drivers_in_every_way") {
        up(Kind::Docker20, Way::Live);
        for way in [Way::Mirror, Way::Live, Way::Override] {
            up(Kind::Docker28Graph, way);
        }
    }
}
