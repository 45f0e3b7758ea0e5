//! The same pallet as a staged bundle, loaded with what a rollback needs: the bundle before, whose images have tags alone.

use std::env;
use std::io::Write;
use std::path::Path;

use palletjack_testkit::image::{ImageSet, Shape};
use palletjack_testkit::real::Part;
use palletjack_testkit::require_real;
use palletjack_testkit::sandbox::{Corpus, rewrite_images};

use crate::device::{Device, Kind, Way};
use crate::machine::{Machine, read_json, strings};
use crate::project::projects;
use crate::real_pallet::{create, run_each};
use crate::{room, soak};

fn staged(corpus: &Path, kind: Kind, way: Way) {
    let machine = Machine::new();
    let corpus = Corpus::unpack(corpus).unwrap();
    let case = corpus.case("stages-std").unwrap();
    machine.sandbox.copy_case(&case).unwrap();
    let store = &read_json(&case.join("expected.json"))["store"];
    let [current, next] = [&store["history"][0], &store["next"]].map(ToString::to_string);
    let mut names: Vec<String> = Vec::new();
    for bundle in [&current, &next] {
        names.extend(strings(&store["bundles"][bundle]["enabled"]));
    }
    let set = ImageSet::build(&names, &Shape::small()).unwrap();
    rewrite_images(&machine.sandbox.stage_store(), &set.replacements(&names)).unwrap();
    let root = machine.sandbox.stage_store().join(&next).join("packages");
    let projects = projects(&machine, &store["bundles"][&next]["per_deployment"], &root);

    let device = Device::loaded(machine, "stage", &set, kind, way);
    create(&device, &set, &projects);
    run_each(&device, &set, "stage");
    device.assert_never_pulled();
}

#[test]
fn the_next_bundle_runs_and_the_one_before_too() {
    require_real!(Part::Docker20, Part::Docker28, Part::Podman);
    if !soak() {
        return;
    }
    let Some(corpus) = env::var_os("PALLETJACK_CORPUS") else {
        // Straight to the stream: what the print macros write is not seen of a test that passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED the staged bundles (PALLETJACK_CORPUS names no corpus)");
        return;
    };
    if room::inside("staged::the_next_bundle_runs_and_the_one_before_too") {
        let corpus = Path::new(&corpus);
        staged(corpus, Kind::Docker20, Way::Localize);
        staged(corpus, Kind::Docker28Graph, Way::Localize);
        staged(corpus, Kind::Docker28, Way::Load);
        staged(corpus, Kind::Podman, Way::Load);
        staged(corpus, Kind::Docker20, Way::Live);
    }
}
