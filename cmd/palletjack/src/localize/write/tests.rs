use std::cell::Cell;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use palletjack_pallet::localize::localize;
use palletjack_pallet::{Bundle, Options, Source, resolve};
use palletjack_testkit::powercut::Disk;
use palletjack_testkit::real::Part;
use palletjack_testkit::require_real;

use super::*;

const FILES: [(&str, &str); 3] = [
    (
        "forklift-bundle.yml",
        "forklift-version: v0.8.0\npallet:\n  path: github.com/acme/pallet\n  version: v1\n\
         deploys:\n  a:\n    package: /packages/a\n  b:\n    package: /packages/b\n",
    ),
    ("packages/packages/a/compose.yml", "services:\n  a: # first\n    image: one:1\n"),
    ("packages/packages/b/compose.yml", "services:\n  b:\n    image: two:1\n  c:\n    image: three:1\n"),
];

fn write_bundle(directory: &Path) {
    for (name, text) in FILES {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    for package in ["a", "b"] {
        let definition = "package:\n  description: A test\ndeployment:\n  compose-files: [compose.yml]\n";
        fs::write(directory.join(format!("packages/packages/{package}/forklift-package.yml")), definition)
            .unwrap();
    }
    fs::set_permissions(compose(directory, "a"), fs::Permissions::from_mode(0o640)).unwrap();
}

fn compose(bundle: &Path, package: &str) -> PathBuf {
    bundle.join(format!("packages/packages/{package}/compose.yml"))
}

fn id(what: &str) -> Digest {
    Digest::of(what.as_bytes())
}

/// What rewrites these images to the IDs of an engine.
fn plan(bundle: &Path, images: &[&str], engine: &str) -> Vec<Localized> {
    let ids = images.iter().map(|image| ((*image).to_owned(), id(&format!("{engine} {image}")))).collect();
    localize(&Bundle::load(bundle).unwrap(), &ids).unwrap()
}

const NEVER: Between<'static> = &|| Ok(());

/// Everything in the bundle, by path.
fn content(bundle: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut todo) = (BTreeMap::new(), vec![bundle.to_owned()]);
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else {
                found.insert(path.strip_prefix(bundle).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// What the device needs, whatever the files say now.
fn listed(bundle: &Path) -> Vec<String> {
    let source = Source::bundle(bundle).unwrap();
    let resolved = resolve(&source, Options::default()).unwrap();
    resolved.requirements.into_iter().map(|requirement| requirement.image).collect()
}

#[test]
fn files_are_rewritten_and_put_back_byte_for_byte() {
    let directory = tempfile::tempdir().unwrap();
    let bundle = directory.path();
    write_bundle(bundle);
    let staged = content(bundle);
    let locked = Locked::new(bundle).unwrap();
    assert!(Locked::new(bundle).is_err(), "two rewrite one bundle");
    assert_eq!(locked.delocalize(NEVER).unwrap(), 0);

    for (images, engine) in
        [(&["one:1", "two:1"][..], "x"), (&["one:1", "two:1"], "x"), (&["one:1"], "y"), (&["three:1"], "y")]
    {
        let before = content(bundle);
        let files = plan(bundle, images, engine);
        let changed = locked.localize(&files, NEVER).unwrap();
        let record = Record::read(bundle).unwrap().unwrap();
        let ids = record.ids(bundle).unwrap().unwrap();
        let expected: BTreeMap<String, Digest> =
            images.iter().map(|image| ((*image).to_owned(), id(&format!("{engine} {image}")))).collect();
        assert_eq!(ids, expected);
        assert_eq!(listed(bundle), ["one:1", "three:1", "two:1"]);
        let now = content(bundle);
        assert_eq!(now.len(), staged.len() + 1, "something stays behind: {now:?}");
        assert_eq!(changed, before != now);
        let a = fs::read_to_string(compose(bundle, "a")).unwrap();
        let image = expected.get("one:1").map_or("one:1".to_owned(), |id| format!("\"{id}\""));
        assert_eq!(a, format!("services:\n  a: # first\n    image: {image}\n"));
        assert_eq!(fs::metadata(compose(bundle, "a")).unwrap().permissions().mode() & 0o777, 0o640);
    }
    assert!(locked.delocalize(NEVER).unwrap() > 0);
    assert_eq!(content(bundle), staged);
    // Nothing to name by an ID any more: the files as they were, and no record.
    locked.localize(&plan(bundle, &["one:1"], "x"), NEVER).unwrap();
    assert!(locked.localize(&plan(bundle, &[], "x"), NEVER).unwrap());
    assert_eq!(content(bundle), staged);
}

#[test]
fn what_somebody_changed_since_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let bundle = directory.path();
    write_bundle(bundle);
    let locked = Locked::new(bundle).unwrap();
    let files = plan(bundle, &["one:1", "two:1"], "x");
    locked.localize(&files, NEVER).unwrap();
    fs::write(compose(bundle, "b"), "services: {}\n").unwrap();
    let changed = content(bundle);
    for refused in [locked.delocalize(NEVER).map(drop), locked.localize(&files, NEVER).map(drop)] {
        let report = refused.unwrap_err().report();
        assert!(report.contains("packages/b/compose.yml") && report.contains("was changed"), "{report}");
        assert_eq!(content(bundle), changed);
    }
    // A link in its place is no file of the bundle.
    fs::remove_file(compose(bundle, "b")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", compose(bundle, "b")).unwrap();
    assert!(locked.delocalize(NEVER).unwrap_err().report().contains("a link"));
    fs::remove_file(compose(bundle, "b")).unwrap();
    assert!(locked.delocalize(NEVER).unwrap_err().report().contains("was removed"));
    fs::remove_file(bundle.join(RECORD)).unwrap();

    // Changed between the look and the writing.
    write_bundle(bundle);
    let files = plan(bundle, &["one:1", "two:1"], "x");
    fs::write(compose(bundle, "a"), "services: {}\n").unwrap();
    let changed = content(bundle);
    assert!(locked.localize(&files, NEVER).is_err());
    assert_eq!(content(bundle), changed);
}

#[test]
fn what_cannot_be_written_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let bundle = directory.path();
    write_bundle(bundle);
    let locked = Locked::new(bundle).unwrap();
    let staged = content(bundle);
    for earlier in [false, true] {
        if earlier {
            locked.localize(&plan(bundle, &["one:1"], "x"), NEVER).unwrap();
        }
        let before = content(bundle);
        // A directory is where a file is to be written, which stops root as well.
        let blocker = temporary(&fs::canonicalize(compose(bundle, "b")).unwrap());
        fs::create_dir(&blocker).unwrap();
        let error = locked.localize(&plan(bundle, &["one:1", "two:1"], "y"), NEVER).unwrap_err();
        assert!(error.report().contains("no Compose file was changed"), "{}", error.report());
        fs::remove_dir(&blocker).unwrap();
        assert_eq!(content(bundle), before);
    }
    locked.delocalize(NEVER).unwrap();
    assert_eq!(content(bundle), staged);
}

/// What runs at an interrupted rewriting, and what it was to become.
type Job = fn(&Locked, &Path, Between<'_>) -> Result<(), CommandError>;

fn first(locked: &Locked, bundle: &Path, between: Between<'_>) -> Result<(), CommandError> {
    locked.localize(&plan(bundle, &["one:1", "two:1"], "x"), between).map(drop)
}

fn second(locked: &Locked, bundle: &Path, between: Between<'_>) -> Result<(), CommandError> {
    locked.localize(&plan(bundle, &["three:1"], "y"), between).map(drop)
}

fn undo(locked: &Locked, _: &Path, between: Between<'_>) -> Result<(), CommandError> {
    locked.delocalize(between).map(drop)
}

/// Everything that may be interrupted: what was done before, and what is being done.
const INTERRUPTED: [(&[Job], Job); 4] =
    [(&[], first), (&[first], second), (&[first], undo), (&[second], first)];

#[test]
fn the_next_run_completes_or_undoes_what_was_killed_between_any_two_steps() {
    for (number, (before, job)) in INTERRUPTED.into_iter().enumerate() {
        let mut stopped = 0;
        for at in 0.. {
            let mut completed = false;
            for undone in [false, true] {
                let directory = tempfile::tempdir().unwrap();
                let bundle = directory.path();
                write_bundle(bundle);
                let staged = content(bundle);
                for job in before {
                    job(&Locked::new(bundle).unwrap(), bundle, NEVER).unwrap();
                }
                let steps = Cell::new(0);
                let die = || {
                    assert!(steps.replace(steps.get() + 1) != at, "killed");
                    Ok(())
                };
                let ran = catch_unwind(AssertUnwindSafe(|| job(&Locked::new(bundle).unwrap(), bundle, &die)));
                completed = ran.is_ok();
                assert_eq!(listed(bundle), ["one:1", "three:1", "two:1"], "job {number}, step {at}");
                let locked = Locked::new(bundle).unwrap();
                if undone {
                    locked.delocalize(NEVER).unwrap();
                    assert_eq!(content(bundle), staged, "job {number}, step {at}");
                } else {
                    first(&locked, bundle, NEVER).unwrap();
                    let ids = Record::read(bundle).unwrap().unwrap().ids(bundle).unwrap().unwrap();
                    assert_eq!(ids["one:1"], id("x one:1"));
                    assert_eq!(content(bundle).len(), staged.len() + 1, "job {number}, step {at}");
                }
            }
            if completed {
                break;
            }
            stopped += 1;
        }
        assert!(stopped >= 6, "job {number} has only {stopped} steps");
    }
}

#[test]
fn no_power_cut_loses_a_file() {
    require_real!(Part::LoopMounts);
    for (number, (before, job)) in INTERRUPTED.into_iter().enumerate() {
        let disk = Disk::new(48 << 20).unwrap();
        let bundle = disk.path().join("1");
        write_bundle(&bundle);
        let staged = content(&bundle);
        for job in before {
            job(&Locked::new(&bundle).unwrap(), &bundle, NEVER).unwrap();
        }
        let root = File::open(&bundle).unwrap();
        rustix::fs::syncfs(&root).unwrap();
        drop(root);
        let cuts = Cell::new(Vec::new());
        let cut = || {
            let mut all = cuts.take();
            all.push(disk.cut()?);
            cuts.set(all);
            Ok(())
        };
        job(&Locked::new(&bundle).unwrap(), &bundle, &cut).unwrap();
        cut().unwrap();
        let cuts = cuts.take();
        assert!(cuts.len() >= 6);
        let last = cuts.len() - 1;
        for (at, cut) in cuts.iter().enumerate() {
            let seen = disk.look(cut).unwrap();
            let cut_bundle = seen.path().join("1");
            assert_eq!(listed(&cut_bundle), ["one:1", "three:1", "two:1"], "job {number}, cut {at}");
            let record = Record::read(&cut_bundle).unwrap();
            if at == last {
                let complete = record.map(|record| record.ids(&cut_bundle).unwrap().is_some());
                assert_ne!(complete, Some(false), "job {number}: reported and not durable");
            }
            Locked::new(&cut_bundle).unwrap().delocalize(NEVER).unwrap();
            for (name, bytes) in &staged {
                assert_eq!(
                    &fs::read(cut_bundle.join(name)).unwrap(),
                    bytes,
                    "job {number}, cut {at}: {name:?}"
                );
            }
        }
    }
}
