//! What callers get: origins, errors that name their place, stage stores, compatibility.
#![allow(clippy::unwrap_used)]

use std::error::Error as _;
use std::fs;
use std::path::{Path, PathBuf};

use palletjack_pallet::{
    DownloadKind, Error, Options, Overrides, Source, StageStore, Usage, Workspace, compat, resolve,
    resolve_downloads,
};

struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let home = Self { directory: tempfile::tempdir().unwrap() };
        home.write("forklift-pallet.yml", "forklift-version: v0.8.0\npallet: {path: github.com/o/p}");
        home.write(
            "packages/web/forklift-package.yml",
            "deployment:\n  compose-files: [compose.yml]\nfeatures:\n  tls:\n    compose-files: [tls.yml]\n    provides:\n      file-exports:\n        - {source-type: http, url: 'https://e.com/f', target: f}\n        - {source-type: oci-image, url: 'e.com/i:1', target: i}\n",
        );
        home.write(
            "packages/web/compose.yml",
            "services:\n  app:\n    image: e.com/app:1\n  db:\n    image: e.com/db:1\n",
        );
        home.write("packages/web/tls.yml", "services:\n  app:\n    image: e.com/app:1-tls\n");
        home.write("deployments/a/web.deploy.yml", "package: /packages/web\nfeatures: [tls]\n");
        home.write("deployments/off.deploy.yml", "package: /packages/web\ndisabled: true\n");
        home
    }

    fn pallet(&self) -> PathBuf {
        self.workspace().pallet()
    }

    fn workspace(&self) -> Workspace {
        Workspace::new(self.directory.path())
    }

    fn write(&self, name: &str, text: &str) {
        write(&self.pallet().join(name), text);
    }

    fn source(&self) -> Result<Source, Error> {
        Source::workspace_pallet(&self.workspace())
    }

    fn images(&self, include_disabled: bool) -> Result<Vec<String>, Error> {
        let resolved = resolve(&self.source()?, Options { include_disabled })?;
        Ok(resolved.requirements.into_iter().map(|r| r.image).collect())
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// An error with its causes, as a person sees it.
fn chain(error: &Error) -> String {
    let mut out = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        out = format!("{out}: {error}");
        cause = error.source();
    }
    assert!(!out.contains('\n'), "{out}");
    out
}

#[test]
fn requirements_say_who_asks() {
    let home = Home::new();
    assert_eq!(home.images(false).unwrap(), ["e.com/app:1-tls", "e.com/db:1"]);
    assert_eq!(home.images(true).unwrap(), ["e.com/app:1", "e.com/app:1-tls", "e.com/db:1"]);
    let resolved = resolve(&home.source().unwrap(), Options { include_disabled: true }).unwrap();
    let origin = &resolved.requirements[1].origins[0];
    assert_eq!(origin.deployment, "a/web");
    assert_eq!(origin.service, "app");
    assert_eq!(origin.feature.as_deref(), Some("tls"));
    assert_eq!(origin.compose_file, home.pallet().join("packages/web/tls.yml"));
    assert_eq!((origin.line, origin.usage), (3, Usage::Run));
    let db = &resolved.requirements[2];
    let askers: Vec<&str> = db.origins.iter().map(|o| &*o.deployment).collect();
    assert_eq!(askers, ["off", "a/web"]);
    assert_eq!(db.origins[0].feature, None);
}

#[test]
fn downloads_need_no_compose_file() {
    let home = Home::new();
    home.write("packages/web/compose.yml", "[broken");
    let downloads = resolve_downloads(&home.source().unwrap(), Options::default()).unwrap();
    let got: Vec<_> = downloads.iter().map(|d| (d.kind, &*d.url)).collect();
    assert_eq!(got, [(DownloadKind::Http, "https://e.com/f"), (DownloadKind::OciImage, "e.com/i:1")]);
    assert_eq!(downloads[0].origins[0].deployment, "a/web");
    assert_eq!(downloads[0].origins[0].feature.as_deref(), Some("tls"));
}

#[test]
fn one_failing_deployment_fails_the_list_and_is_named() {
    let cases = [
        (
            "deployments/a/web.deploy.yml",
            "package: /packages/web\nfeatures: [tls, nope]",
            &["deployment a/web (", "has no feature nope"][..],
        ),
        (
            "deployments/a/web.deploy.yml",
            "package: /packages/none",
            &["a/web", "can't read", "none/forklift-package.yml"],
        ),
        (
            "deployments/a/web.deploy.yml",
            "package: github.com/x/y/z",
            &["a/web", "github.com/x/y/z is not in the pallet", "requirements/repositories"],
        ),
        (
            "deployments/a/web.deploy.yml",
            "package: /",
            &["a/web", "package / is github.com/o/p, which is not below"],
        ),
        (
            "deployments/a/web.deploy.yml",
            "package: [x]",
            &["web.deploy.yml:1:10", "expected text, found a list"],
        ),
        (
            "deployments/off.deploy.yml",
            "disabled: perhaps",
            &["off.deploy.yml:1:11", "expected true or false"],
        ),
        (
            "packages/web/compose.yml",
            "services:\n  app:\n    volumes: [data:/d]",
            &["a/web", "compose.yml:3:15", "services.app", "\"data\""],
        ),
        (
            "packages/web/forklift-package.yml",
            "host: {tags: text}",
            &["a/web", "forklift-package.yml:1:14", "expected a list"],
        ),
        (
            "deployments/Upper.deploy.yml",
            "package: /packages/web",
            &["deployment Upper", "can't be a Compose project"],
        ),
    ];
    for (file, text, wanted) in cases {
        let home = Home::new();
        home.write(file, text);
        let error = chain(&home.images(false).unwrap_err());
        for want in wanted {
            assert!(error.contains(want), "{file}: {text}\n got {error}\nwant {want}");
        }
    }
    let home = Home::new();
    fs::remove_file(home.pallet().join("packages/web/tls.yml")).unwrap();
    let error = chain(&home.images(false).unwrap_err());
    assert!(error.contains("a/web") && error.contains("tls.yml"), "{error}");
}

#[test]
fn errors_in_disabled_deployments_matter_only_when_asked() {
    let home = Home::new();
    home.write("deployments/off.deploy.yml", "package: /none\ndisabled: true");
    assert!(home.images(false).is_ok());
    assert!(home.images(true).is_err());
}

#[test]
fn requirements_come_from_the_cache_by_their_locks() {
    let home = Home::new();
    home.write("deployments/a/web.deploy.yml", "package: github.com/r/s/apps/x");
    home.write(
        "requirements/repositories/github.com/r/s/forklift-version-lock.yml",
        "type: version\ntag: v1.0.0",
    );
    let error = home.images(false).unwrap_err();
    assert!(matches!(error, Error::NoCache { .. }), "{error}");
    let cache = home.workspace().cached_repositories();
    fs::create_dir_all(&cache).unwrap();
    let error = chain(&home.images(false).unwrap_err());
    assert!(error.contains("github.com/r/s/apps/x@v1.0.0 is not in the cache"), "{error}");
    let repository = cache.join("github.com/r/s@v1.0.0");
    write(&repository.join("forklift-repository.yml"), "forklift-version: v0.5.0");
    write(&repository.join("apps/x/forklift-package.yml"), "deployment: {compose-files: [c.yml]}");
    write(&repository.join("apps/x/c.yml"), "services: {x: {image: from-cache}}");
    assert_eq!(home.images(false).unwrap(), ["from-cache"]);
    home.write("requirements/repositories/github.com/r/s/forklift-version-lock.yml", "tag: v1.0.0");
    let error = chain(&home.images(false).unwrap_err());
    assert!(error.contains("bad version lock") && error.contains("type \"\""), "{error}");
}

#[test]
fn a_pallet_under_development_is_found_upwards() {
    let home = Home::new();
    let below = home.pallet().join("packages/web");
    let workspace = home.workspace();
    let source = Source::dev_pallet(&below, &workspace, &Overrides::default()).unwrap();
    assert_eq!(source.directory(), home.pallet());
    let nowhere = tempfile::tempdir().unwrap();
    let error = Source::dev_pallet(nowhere.path(), &workspace, &Overrides::default()).unwrap_err();
    assert!(matches!(error, Error::NoPalletAbove { .. }), "{error}");
}

#[test]
fn overrides_replace_what_the_pallet_requires() {
    let home = Home::new();
    let workspace = home.workspace();
    let lock = "type: version\ntag: v1.0.0";
    home.write("deployments/a/web.deploy.yml", "package: github.com/r/s/apps/x");
    home.write("requirements/repositories/github.com/r/s/forklift-version-lock.yml", lock);
    home.write("requirements/pallets/github.com/o/q/forklift-version-lock.yml", lock);
    home.write("requirements/pallets/github.com/o/q/all.imports.yml", "modifiers: [{target: /deployments}]");
    fs::create_dir_all(workspace.cached_repositories()).unwrap();
    fs::create_dir_all(workspace.cached_pallets()).unwrap();
    let other = tempfile::tempdir().unwrap();
    let at = |name: &str| other.path().join(name);
    write(&at("repo/forklift-repository.yml"), "repository: {path: github.com/r/s}");
    write(&at("repo/apps/x/forklift-package.yml"), "deployment: {compose-files: [c.yml]}");
    write(&at("repo/apps/x/c.yml"), "services: {x: {image: overridden}}");
    write(&at("pallets/q/forklift-pallet.yml"), "pallet: {path: github.com/o/q}");
    write(&at("pallets/q/deployments/more.deploy.yml"), "package: github.com/r/s/apps/x");
    let overrides = Overrides { pallets: vec![at("pallets")], repositories: vec![at("repo")] };
    let source = Source::dev_pallet(&home.pallet(), &workspace, &overrides).unwrap();
    let resolved = resolve(&source, Options::default()).unwrap();
    assert_eq!(resolved.requirements.len(), 1);
    assert_eq!(resolved.requirements[0].image, "overridden");
    let askers: Vec<&str> = resolved.requirements[0].origins.iter().map(|o| &*o.deployment).collect();
    assert_eq!(askers, ["more", "a/web"]);
    let error = Source::dev_pallet(&home.pallet(), &workspace, &Overrides::default()).unwrap_err();
    assert!(chain(&error).contains("pallet github.com/o/q@v1.0.0 is not in the cache"), "{}", chain(&error));
}

#[test]
fn links_out_of_the_pallet_are_errors() {
    let home = Home::new();
    write(&home.directory.path().join("secret.yml"), "services: {x: {image: secret}}");
    let file = home.pallet().join("packages/web/tls.yml");
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(home.directory.path().join("secret.yml"), &file).unwrap();
    let error = chain(&home.images(false).unwrap_err());
    assert!(error.contains("leads out of"), "{error}");
}

#[test]
fn pallets_that_import_in_a_circle_are_errors() {
    let home = Home::new();
    let lock = "type: version\ntag: v1.0.0";
    let cached = home.workspace().cached_pallets().join("github.com/o/q@v1.0.0");
    home.write("requirements/pallets/github.com/o/q/forklift-version-lock.yml", lock);
    home.write("requirements/pallets/github.com/o/q/all.imports.yml", "modifiers: [{source: /packages}]");
    write(&cached.join("forklift-pallet.yml"), "pallet: {path: github.com/o/q}");
    write(&cached.join("packages/x/f"), "");
    assert!(home.images(false).is_ok());
    write(&cached.join("requirements/pallets/github.com/o/q/forklift-version-lock.yml"), lock);
    write(
        &cached.join("requirements/pallets/github.com/o/q/self.imports.yml"),
        "modifiers: [{source: /packages}]",
    );
    let error = home.images(false).unwrap_err();
    assert!(matches!(error, Error::ImportCycle { .. }), "{}", chain(&error));
}

#[test]
fn stage_stores_know_what_the_next_apply_needs() {
    let directory = tempfile::tempdir().unwrap();
    let open = |manifest: &str| {
        write(&directory.path().join("forklift-stage-store.yml"), manifest);
        StageStore::open(directory.path()).unwrap()
    };
    for index in ["1", "2", "3", "0", "x"] {
        fs::create_dir_all(directory.path().join(index)).unwrap();
    }
    let store = open("staged: {next: 3, history: [1, 2], names: {factory: 1}}");
    assert_eq!(store.indices(), [1, 2, 3]);
    assert_eq!(store.needed(), [2, 3]);
    for (identifier, index) in
        [("next", 3), ("current", 2), ("rollback", 1), ("pending", 3), ("factory", 1), ("7", 7)]
    {
        assert_eq!(store.index_of(identifier).unwrap(), index, "{identifier}");
    }
    for bad in ["0", "-1", "nonsense"] {
        assert!(store.index_of(bad).is_err(), "{bad}");
    }
    assert_eq!(store.applicable(), Some(3));
    let store = open("staged: {next: 2, next-failed: true, history: [2]}");
    assert_eq!((store.needed(), store.pending(), store.rollback()), (vec![2], None, None));
    assert_eq!(store.applicable(), Some(2));
    let store = open("staged: {history: [2]}");
    assert_eq!((store.needed(), store.applicable()), (vec![2], None));
    let empty = StageStore::open(&directory.path().join("none")).unwrap();
    assert!(empty.needed().is_empty() && empty.indices().is_empty());
}

#[test]
fn bundles_of_both_forms_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    write(&root.join("packages/packages/x/forklift-package.yml"), "deployment: {compose-files: [c.yml]}");
    write(&root.join("packages/packages/x/c.yml"), "services: {x: {image: bundled}}");
    for lists in [
        "downloads: {a: [x, y]}\nexports: {a: [z]}",
        "downloads: {a: {http: [x]}}\nexports: {a: {file: [z]}}",
    ] {
        let manifest = format!("forklift-version: v0.8.0\ndeploys: {{a: {{package: /packages/x}}}}\n{lists}");
        write(&root.join("forklift-bundle.yml"), &manifest);
        let source = Source::bundle(root).unwrap();
        let resolved = resolve(&source, Options::default()).unwrap();
        assert_eq!(resolved.requirements[0].image, "bundled");
    }
    write(&root.join("forklift-bundle.yml"), "includes: {repositories: {r: {version-lock: {type: odd}}}}");
    assert!(matches!(Source::bundle(root), Err(Error::Lock { .. })));
}

#[test]
fn compatibility_is_an_error_below_the_minimum_and_a_warning_above() {
    let home = Home::new();
    let check = |version: &str| {
        home.write("forklift-pallet.yml", &format!("forklift-version: {version}\npallet: {{path: p}}"));
        compat::check(&home.source().unwrap(), compat::FORKLIFT_VERSION)
    };
    assert!(check("v0.8.0").unwrap().is_empty());
    let newer = check("v0.9.0").unwrap();
    assert!(newer[0].to_string().contains("made for Forklift v0.9.0"), "{}", newer[0]);
    assert!(chain(&check("v0.3.9").unwrap_err()).contains("at least v0.4.0"));
    assert!(chain(&check("").unwrap_err()).contains("`forklift-version` is missing"));
    // Listing never checks.
    assert!(home.images(false).is_ok());
    let repository = home.workspace().cached_repositories().join("github.com/r/s@v1.0.0");
    write(&repository.join("forklift-repository.yml"), "forklift-version: v0.7.0");
    home.write(
        "requirements/repositories/github.com/r/s/forklift-version-lock.yml",
        "type: version\ntag: v1.0.0",
    );
    assert!(check("v0.7.0").is_ok());
    assert!(chain(&check("v0.6.0").unwrap_err()).contains("more than the v0.6.0"));
}

#[test]
fn answers_can_go_to_another_thread() {
    fn sendable<T: Send + 'static>() {}
    sendable::<Source>();
    sendable::<palletjack_pallet::Resolved>();
    sendable::<Error>();
    sendable::<StageStore>();
}
