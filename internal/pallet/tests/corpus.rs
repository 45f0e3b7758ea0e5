//! Golden tests: real pallets, bundles and stage stores with the answers that Forklift itself gives.
//!
//! `PALLETJACK_CORPUS=FILE.tar.xz` runs the full corpus; without it the smaller set in `testdata/pallets`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use palletjack_pallet::{
    DownloadKind, Error, Options, Resolver, Selection, Source, StageStore, Workspace, resolve,
    resolve_downloads,
};
use serde_json::{Map, Value, json};

/// Cases of the full corpus whose answer is not yet right. Exact in both directions.
const NOT_YET: &[&str] = &[];

/// The cases, and the directory that keeps unpacked ones alive.
struct Corpus {
    cases: Vec<PathBuf>,
    is_full: bool,
    _unpacked: Option<tempfile::TempDir>,
}

impl Corpus {
    fn open() -> Self {
        let (root, unpacked) = match std::env::var_os("PALLETJACK_CORPUS") {
            Some(archive) => {
                let directory = tempfile::tempdir().unwrap();
                let status = Command::new("tar")
                    .arg("-xf")
                    .arg(&archive)
                    .arg("-C")
                    .arg(directory.path())
                    .status()
                    .expect("`tar` can be run");
                assert!(status.success(), "{} can't be unpacked", archive.display());
                (directory.path().to_owned(), Some(directory))
            }
            None => {
                let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/pallets");
                (root, None)
            }
        };
        let mut cases = Vec::new();
        find_cases(&root, 3, &mut cases);
        cases.sort();
        assert!(!cases.is_empty(), "no case below {}", root.display());
        let corpus = Self { cases, is_full: unpacked.is_some(), _unpacked: unpacked };
        let which = if corpus.is_full { "FULL CORPUS" } else { "SMALL SET (set PALLETJACK_CORPUS for all)" };
        // Written past the test harness, which keeps what passing tests print.
        let _ = writeln!(std::io::stderr(), "==== {which}: {} cases ====", corpus.cases.len());
        corpus
    }
}

fn find_cases(directory: &Path, depth: usize, out: &mut Vec<PathBuf>) {
    if directory.join("expected.json").is_file() {
        out.push(directory.to_owned());
        return;
    }
    if depth == 0 {
        return;
    }
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            find_cases(&entry.path(), depth - 1, out);
        }
    }
}

fn name(case: &Path) -> String {
    case.file_name().unwrap().to_string_lossy().into_owned()
}

/// A workspace whose cache is the case's.
fn workspace(case: &Path) -> (tempfile::TempDir, Workspace) {
    let home = tempfile::tempdir().unwrap();
    let cache = case.join("cache");
    if cache.is_dir() {
        std::fs::create_dir(home.path().join(".cache")).unwrap();
        std::os::unix::fs::symlink(cache, home.path().join(".cache/forklift")).unwrap();
    }
    let workspace = Workspace::new(home.path());
    (home, workspace)
}

fn is_directory(path: PathBuf) -> Option<PathBuf> {
    path.is_dir().then_some(path)
}

/// The answer in the form of `expected.json`, errors as `true`.
fn answer(case: &Path) -> Value {
    let mut out = Map::new();
    if let Some(pallet) = is_directory(case.join("pallet")) {
        let (_home, workspace) = workspace(case);
        out = of_source(Source::pallet(&pallet, &workspace));
    }
    if let Some(bundle) = is_directory(case.join("bundle")) {
        out = of_source(Source::bundle(&bundle));
    }
    if let Some(stages) = is_directory(case.join("stages")) {
        out.insert("store".into(), of_store(&stages));
    }
    Value::Object(out)
}

fn of_source(source: Result<Source, Error>) -> Map<String, Value> {
    let nothing = json!({
        "enabled": null, "all": null, "enabled_downloads": null, "all_downloads": null,
        "per_deployment": {},
    });
    let failed = || nothing.as_object().unwrap().clone();
    let Ok(source) = source else {
        return failed();
    };
    let resolver = Resolver::new(&source);
    let Ok(deployments) = resolver.deployments() else {
        return failed();
    };
    let mut each = Map::new();
    for deployment in deployments {
        let mut entry = json!({
            "disabled": deployment.disabled, "package": deployment.package, "features": deployment.features,
        });
        match resolver.select(&deployment) {
            Err(_) => entry["error"] = true.into(),
            Ok(selection) => {
                let files: Vec<&str> = selection.compose_files.iter().map(|f| &*f.name).collect();
                entry["compose-files"] = json!(files);
                entry["http"] = exports(&selection, false);
                entry["oci"] = exports(&selection, true);
                match resolver.services(&selection) {
                    Err(_) => entry["error"] = true.into(),
                    Ok(services) => {
                        let mut images: Vec<&str> = services.iter().map(|s| &*s.images[0].name).collect();
                        images.sort_unstable();
                        images.dedup();
                        entry["images"] = json!(images);
                    }
                }
            }
        }
        each.insert(deployment.name, entry);
    }
    let mut out = Map::new();
    for (key, include_disabled) in [("enabled", false), ("all", true)] {
        let options = Options { include_disabled };
        let images = resolve(&source, options).map(|r| {
            let images = r.requirements.iter().map(|r| Value::from(&*r.image));
            images.collect::<Vec<_>>()
        });
        out.insert(key.into(), json!(images.ok()));
        let downloads = resolve_downloads(&source, options).map(|all| {
            let of = |kind| {
                let urls = all.iter().filter(|d| d.kind == kind).map(|d| Value::from(&*d.url));
                urls.collect::<Vec<_>>()
            };
            json!({"http": of(DownloadKind::Http), "oci": of(DownloadKind::OciImage)})
        });
        out.insert(format!("{key}_downloads"), json!(downloads.ok()));
    }
    out.insert("per_deployment".into(), Value::Object(each));
    out
}

fn exports(selection: &Selection, images: bool) -> Value {
    let wanted = selection.exports.iter().filter(|e| e.is_image == images);
    let mut urls: Vec<&str> = wanted.map(|e| &*e.url).collect();
    urls.sort_unstable();
    json!(urls)
}

fn of_store(directory: &Path) -> Value {
    let store = StageStore::open(directory).unwrap();
    let mut bundles = Map::new();
    for index in store.indices() {
        let result = match Source::bundle(&store.bundle_directory(*index)) {
            Ok(source) => Value::Object(of_source(Ok(source))),
            Err(_) => json!({"error": true}),
        };
        bundles.insert(index.to_string(), result);
    }
    let needed = store.needed();
    let mut images = Some(Vec::new());
    for index in &needed {
        let listed = Source::bundle(&store.bundle_directory(*index))
            .and_then(|source| resolve(&source, Options::default()));
        match (&mut images, listed) {
            (Some(images), Ok(more)) => {
                images.extend(more.requirements.into_iter().map(|r| r.image));
            }
            _ => images = None,
        }
    }
    let images = images.map(|mut images| {
        images.sort();
        images.dedup();
        images
    });
    let names: BTreeMap<&str, i64> = store.names().collect();
    json!({
        "indices": store.indices(), "next": store.next().unwrap_or(0), "next_failed": store.next_failed(),
        "history": store.history(), "names": names, "apply_bundle": store.applicable(),
        "cache_img_bundles": needed, "cache_img_images": images, "bundles": bundles,
    })
}

/// What Forklift's answer says, the texts of errors taken away.
fn expected(case: &Path) -> Value {
    let text = std::fs::read_to_string(case.join("expected.json")).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    normalise(&mut value);
    value
}

fn normalise(value: &mut Value) {
    if let Value::Object(map) = value {
        for texts in ["errors", "merge_error", "imported_files"] {
            map.remove(texts);
        }
        for (key, value) in map {
            if key == "error" {
                *value = Value::Bool(true);
            }
            normalise(value);
        }
    }
}

/// The places where two answers differ.
fn differences(path: &str, got: &Value, want: &Value, out: &mut Vec<String>) {
    match (got, want) {
        (Value::Object(got), Value::Object(want)) => {
            let keys: std::collections::BTreeSet<&String> = got.keys().chain(want.keys()).collect();
            for key in keys {
                let (got, want) = (got.get(key), want.get(key));
                let path = format!("{path}/{key}");
                match (got, want) {
                    (Some(got), Some(want)) => differences(&path, got, want, out),
                    _ => out.push(format!("{path}: got {got:?}, want {want:?}")),
                }
            }
        }
        _ if got == want => {}
        _ => out.push(format!("{path}: got {got}, want {want}")),
    }
}

#[test]
fn every_case_gives_forklifts_answer() {
    let corpus = Corpus::open();
    let (mut wrong, mut report) = (Vec::new(), Vec::new());
    for case in &corpus.cases {
        let mut found = Vec::new();
        differences("", &answer(case), &expected(case), &mut found);
        if !found.is_empty() {
            wrong.push(name(case));
            report.push(format!("{}:\n  {}", name(case), found.join("\n  ")));
        }
    }
    let here = |wanted: &&&str| corpus.cases.iter().any(|c| name(c) == ***wanted);
    let tolerated: Vec<&str> = NOT_YET.iter().filter(here).copied().collect();
    assert_eq!(wrong, tolerated, "cases that differ (left) are not those that may\n{}", report.join("\n"));
}
