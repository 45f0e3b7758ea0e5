//! The PlanktoScope's pallet, its Compose files unchanged but for the digests, which are those of generated images.

use std::fs;

use palletjack_testkit::image::{ImageSet, Shape};
use palletjack_testkit::real::Part;
use palletjack_testkit::require_real;

use crate::device::{Device, Kind, Way};
use crate::machine::{Machine, read_json, testdata};
use crate::project::{Project, projects};
use crate::{room, soak};

/// All deployments of the pallet on this engine.
fn real_pallet(kind: Kind, way: Way) {
    let machine = Machine::new();
    let set = machine.standard_pallet(&Shape::small());
    let expected = read_json(&testdata("pallets/std-2024-10-head/expected.json"));
    let projects = projects(&machine, &expected["per_deployment"], &machine.sandbox.pallet());
    let device = Device::loaded(machine, "plt", &set, kind, way);
    create(&device, &set, &projects);
    run_each(&device, &set, "plt");
    device.assert_never_pulled();
}

/// `docker compose create`, by either policy; a deployment with an image that this way leaves out is refused.
pub(crate) fn create(device: &Device, set: &ImageSet, projects: &[Project]) {
    assert!(projects.len() > 10, "{} deployments", projects.len());
    // Mounts that are not made when they are missing.
    fs::write("/run/machine-name", "metal-slope-23501").unwrap();
    for project in projects {
        let create = device.compose(project, &["create", "--pull", "never"]);
        if project.services.values().any(|reference| !device.starts(reference)) {
            assert!(!create.success() && create.stderr.contains("No such image"), "{create}");
            continue;
        }
        create.assert_success();
        device.compose(project, &["create", "--force-recreate"]).assert_success();
        device.assert_containers(project, set);
    }
}

/// A container of each reference that the pallet or the bundles write runs, without a network.
pub(crate) fn run_each(device: &Device, set: &ImageSet, noun: &str) {
    let listed = device.machine.run(&format!("{noun} ls-img"));
    let references: Vec<&str> = listed.assert_success().stdout.lines().collect();
    assert_eq!(references.len(), set.images.len());
    for reference in references {
        let ran = device.client(&["run", "--rm", "--pull", "never", "--network", "none", reference]);
        if device.resolves(reference) {
            assert_eq!(ran.assert_success().stdout, "it runs\n");
        } else {
            assert!(!ran.success(), "{ran}");
        }
    }
}

#[test]
fn docker_28_runs_it_after_a_load() {
    require_real!(Part::Docker28);
    if room::inside("real_pallet::docker_28_runs_it_after_a_load") {
        real_pallet(Kind::Docker28, Way::Load);
    }
}

#[test]
fn podman_runs_it_after_a_load() {
    require_real!(Part::Podman, Part::Docker28);
    if room::inside("real_pallet::podman_runs_it_after_a_load") {
        real_pallet(Kind::Podman, Way::Load);
    }
}

#[test]
fn docker_20_runs_it_repinned_live() {
    require_real!(Part::Docker20, Part::Docker28);
    if room::inside("real_pallet::docker_20_runs_it_repinned_live") {
        real_pallet(Kind::Docker20, Way::Live);
    }
}

#[test]
fn graph_drivers_run_it_in_every_way() {
    require_real!(Part::Docker20, Part::Docker28);
    if soak() && room::inside("real_pallet::graph_drivers_run_it_in_every_way") {
        for way in [Way::Mirror, Way::Override] {
            real_pallet(Kind::Docker20, way);
        }
        for way in [Way::Mirror, Way::Live, Way::Override] {
            real_pallet(Kind::Docker28Graph, way);
        }
    }
}
