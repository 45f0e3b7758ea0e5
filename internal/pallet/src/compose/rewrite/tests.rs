use super::*;

/// Apps with these files (by name, in a directory of its own for each test), each used by one or more deployments.
struct Scene {
    directory: tempfile::TempDir,
}

const PIN: &str = "caddy:2@sha256:1111111111111111111111111111111111111111111111111111111111111111";
const ID: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

impl Scene {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text.replace("PIN", PIN)).unwrap();
        }
        Self { directory }
    }

    fn root(&self) -> PathBuf {
        fs::canonicalize(self.directory.path()).unwrap()
    }

    fn app(&self, name: &str, files: &[&str]) -> App {
        let file = |file: &&str| {
            let path = self.root().join(file);
            File { bytes: fs::read(&path).unwrap(), path }
        };
        App {
            name: name.to_owned(),
            files: files.iter().map(file).collect(),
            directory: self.root(),
            environment: Environment::project(name),
        }
    }

    /// Rewrites, with the names of files and PIN and ID put back.
    fn rewrite(&self, apps: &[App]) -> Result<Vec<(String, String)>, String> {
        let replacement = |image: &str| (image == PIN).then(|| ID.to_owned());
        let rewritten = super::rewrite(apps, &Substitutes::default(), &self.root(), &replacement);
        let rewritten = rewritten.map_err(|error| error.to_string())?;
        Ok(rewritten
            .into_iter()
            .map(|file| {
                assert_eq!(file.original, fs::read(&file.path).unwrap());
                assert!(!file.images.is_empty());
                let name = file.path.strip_prefix(self.root()).unwrap().display().to_string();
                (name, String::from_utf8(file.content).unwrap().replace(PIN, "PIN").replace(ID, "ID"))
            })
            .collect())
    }
}

/// One app of one file.
fn one(text: &str) -> Result<String, String> {
    let scene = Scene::new(&[("compose.yml", text)]);
    let mut rewritten = scene.rewrite(&[scene.app("app", &["compose.yml"])])?;
    assert!(rewritten.len() <= 1);
    Ok(rewritten.pop().map_or_else(|| "unchanged".to_owned(), |(_, text)| text))
}

#[test]
fn only_the_image_changes() {
    for (text, rewritten) in [
        (
            "# top\nservices:\n  a:\n    image: PIN # why\n    labels: {x: PIN}\n",
            "# top\nservices:\n  a:\n    image: \"ID\" # why\n    labels: {x: PIN}\n",
        ),
        ("services:\r\n  a:\r\n    image: 'PIN'\r\n", "services:\r\n  a:\r\n    image: \"ID\"\r\n"),
        ("services: {a: {image: PIN, tty: true}}\n", "services: {a: {image: \"ID\", tty: true}}\n"),
        ("{\"services\":{\"a\":{\"image\":\"PIN\"}}}", "{\"services\":{\"a\":{\"image\":\"ID\"}}}"),
        ("\u{feff}services:\n  a: # é\n    image: PIN\n", "\u{feff}services:\n  a: # é\n    image: \"ID\"\n"),
        // The text gives the image after interpolation only.
        (
            "services:\n  a:\n    image: caddy:${TAG:-2}@sha256:1111111111111111111111111111111111111111111111111111111111111111\n",
            "services:\n  a:\n    image: \"ID\"\n",
        ),
        // Merge keys: where it is written.
        (
            "x-base: &base\n  image: PIN\nservices:\n  a:\n    <<: *base\n  b:\n    <<: *base\n    tty: true\n",
            "x-base: &base\n  image: \"ID\"\nservices:\n  a:\n    <<: *base\n  b:\n    <<: *base\n    tty: true\n",
        ),
        // Anchors: the place itself, and every alias that is an image.
        (
            "services:\n  a:\n    image: &i PIN\n  b:\n    image: *i\n",
            "services:\n  a:\n    image: &i \"ID\"\n  b:\n    image: \"ID\"\n",
        ),
        (
            "x-i: &i PIN\nservices:\n  a:\n    image: *i # alias\n    labels: [*i]\n",
            "x-i: &i PIN\nservices:\n  a:\n    image: \"ID\" # alias\n    labels: [*i]\n",
        ),
        // Only what wins, and only of services without a profile.
        (
            "services:\n  a:\n    image: PIN\n  b:\n    image: PIN\n    profiles: [x]\n  c:\n    image: other:1\n",
            "services:\n  a:\n    image: \"ID\"\n  b:\n    image: PIN\n    profiles: [x]\n  c:\n    image: other:1\n",
        ),
        (
            "services:\n  a:\n    image: PIN\n---\nservices:\n  a:\n    image: !!str PIN\n",
            "services:\n  a:\n    image: PIN\n---\nservices:\n  a:\n    image: !!str \"ID\"\n",
        ),
        (
            "services:\n  a:\n    image: b:1\n    volumes:\n    - {type: image, source: PIN, target: /x}\n",
            "services:\n  a:\n    image: b:1\n    volumes:\n    - {type: image, source: \"ID\", target: /x}\n",
        ),
        (
            "services:\n  a:\n    image: b:1\n    extends: c\n  c:\n    image: PIN\n",
            "services:\n  a:\n    image: b:1\n    extends: c\n  c:\n    image: \"ID\"\n",
        ),
        ("services:\n  a:\n    image: b:1\n", "unchanged"),
    ] {
        assert_eq!(one(text).as_deref(), Ok(rewritten), "{text}");
    }
}

#[test]
fn what_cannot_be_replaced_alone_is_refused_with_its_line() {
    for (text, line, why) in [
        ("services:\n  a:\n    image: >-\n      PIN\n", 3, "written as a block"),
        // The anchored text means something else as well.
        ("services:\n  a:\n    image: &i PIN\n    labels: {x: *i}\n", 4, "would change with an image"),
        ("services:\n  a:\n    image: &i PIN\n    command: [*i]\n", 4, "would change with an image"),
    ] {
        let refused = one(text).unwrap_err();
        assert!(refused.contains(&format!("compose.yml:{line}:")) && refused.contains(why), "{refused}");
    }
}

#[test]
fn files_that_several_share_are_replaced_for_all_or_refused() {
    let scene = Scene::new(&[
        ("a.yml", "services:\n  a:\n    image: PIN\n"),
        ("more.yml", "services:\n  a:\n    tty: true\n  b:\n    image: PIN\n"),
        ("same.yml", "services:\n  a:\n    image: PIN\n"),
    ]);
    let apps = [scene.app("one", &["a.yml"]), scene.app("two", &["a.yml", "more.yml"])];
    let rewritten = scene.rewrite(&apps).unwrap();
    let names: Vec<&str> = rewritten.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["a.yml", "more.yml"]);

    // The first file's image counts for one of them alone; what it says is replaced for both.
    let apps = [scene.app("one", &["a.yml"]), scene.app("two", &["a.yml", "same.yml"])];
    assert_eq!(scene.rewrite(&apps).unwrap().len(), 2);

    // One text that is different images.
    let pin = PIN.replace("caddy", "${COMPOSE_PROJECT_NAME}");
    let scene = Scene::new(&[("a.yml", &format!("services:\n  a:\n    image: {pin}\n"))]);
    let apps = [scene.app("caddy", &["a.yml"]), scene.app("other", &["a.yml"])];
    let refused = scene.rewrite(&apps).unwrap_err();
    assert!(refused.contains("a.yml:3:") && refused.contains("deployment other"), "{refused}");
    assert!(scene.rewrite(&apps[..1]).is_ok());
}

#[test]
fn files_that_are_included_or_extended_are_rewritten_inside_of_the_root_only() {
    let outside = Scene::new(&[("far.yml", "services:\n  far:\n    image: PIN\n")]);
    let far = outside.root().join("far.yml");
    let scene = Scene::new(&[
        ("c.yml", "include: [sub/inc.yml]\nservices:\n  a:\n    extends: {service: e, file: sub/ext.yml}\n"),
        ("sub/inc.yml", "services:\n  i:\n    image: PIN\n"),
        ("sub/ext.yml", "services:\n  e:\n    image: PIN # base\n"),
        ("far.yml", &format!("include: [\"{}\"]\n", far.display())),
    ]);
    let rewritten = scene.rewrite(&[scene.app("app", &["c.yml"])]).unwrap();
    assert_eq!(
        rewritten,
        [
            ("sub/ext.yml".to_owned(), "services:\n  e:\n    image: \"ID\" # base\n".to_owned()),
            ("sub/inc.yml".to_owned(), "services:\n  i:\n    image: \"ID\"\n".to_owned()),
        ]
    );
    let refused = scene.rewrite(&[scene.app("app", &["far.yml"])]).unwrap_err();
    assert!(refused.contains("far.yml:3") && refused.contains("outside"), "{refused}");

    // A link is followed, and its target rewritten; the text is one for both.
    std::os::unix::fs::symlink("sub/inc.yml", scene.root().join("link.yml")).unwrap();
    let apps = [scene.app("one", &["link.yml"]), scene.app("two", &["sub/inc.yml"])];
    let rewritten = scene.rewrite(&apps).unwrap();
    assert_eq!(rewritten.len(), 1);
    assert_eq!(rewritten[0].0, "sub/inc.yml");
}
