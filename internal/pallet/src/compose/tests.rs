//! Whole projects: what a set of files comes to.

use std::path::Path;

use super::{Environment, Error, File, load};
use crate::requirement::Usage;

fn project(files: &[&str]) -> Result<Vec<(String, String)>, Error> {
    let directory = tempfile::tempdir().unwrap();
    in_directory(directory.path(), files)
}

fn in_directory(directory: &Path, files: &[&str]) -> Result<Vec<(String, String)>, Error> {
    let files: Vec<File> = files
        .iter()
        .enumerate()
        .map(|(i, text)| File {
            path: directory.join(format!("compose{i}.yml")),
            bytes: text.as_bytes().to_vec(),
        })
        .collect();
    let project = load(&files, directory, Environment::project("p"))?;
    let services = project.services.into_iter();
    Ok(services.map(|s| (s.name, s.images[0].name.clone())).collect())
}

/// `name=image` of each active service.
fn images(files: &[&str]) -> String {
    match project(files) {
        Ok(services) => {
            let all: Vec<String> = services.iter().map(|(n, i)| format!("{n}={i}")).collect();
            all.join(" ")
        }
        Err(e) => format!("error: {e}"),
    }
}

#[test]
fn files_and_documents_merge_in_order() {
    for (files, want) in [
        (&["services: {a: {image: x}}", "services: {a: {image: y}, b: {image: z}}"][..], "a=y b=z"),
        (&["services: {a: {image: x}}\n---\nservices: {a: {image: y}}"], "a=y"),
        (&["services: {a: {image: x}}", "services: {a: {image: null}}"], "a=x"),
        (&["services: {a: {image: x}}", "services: {a: {image: !reset null, build: .}}"], "a="),
        (&["services: {a: {image: x, profiles: [q]}}", "services: {a: {profiles: !reset []}}"], "a=x"),
        (&["services: {a: {image: x, profiles: [q]}}"], ""),
        (&["services: {a: {image: x}, b: {image: y}}", "services: !override {b: {image: z}}"], "b=z"),
        (&["services: {a: {image: x, command: [a]}}", "services: {a: {command: b}}"], "a=x"),
        (&["services: {a: {image: x, environment: {A: 1}}}", "services: {a: {environment: [B=2]}}"], "a=x"),
        (&["services: {a: {image: x, labels: [a, a]}}"], "a=x"),
        (&["x-base: &b {image: x}\nservices: {a: {<<: *b}, c: {<<: *b, image: y}}"], "a=x c=y"),
        (&["services: {a: {image: x, build: ctx}}", "services: {a: {build: {target: t}}}"], "a=x"),
        (&["version: '3'\nservices: {a: {image: x}}"], "a=x"),
        (&["volumes: {a: }"], ""),
        (&["services: {a: {image: x, build: {args: ['A ']}}}"], "a=x"),
        (&["name: q\nx-any: [1, {a: ~}]"], ""),
    ] {
        assert_eq!(images(files), want, "{files:?}");
    }
}

#[test]
fn variables_see_nothing_but_the_project_name() {
    let files = ["services: {a: {image: 'x:${TAG:-1.0}-$COMPOSE_PROJECT_NAME$HOME'}}"];
    assert_eq!(images(&files), "a=x:1.0-p");
}

#[test]
fn faults_name_file_line_and_place() {
    for (files, want) in [
        (&["services:\n  a:\n    imag: x"][..], "compose0.yml:3:5: services.a: there is no key \"imag\""),
        (
            &["services:\n  a:\n    image: x\n    volumes: [data:/d]"],
            ":4:15: services.a: uses the volume \"data\"",
        ),
        (
            &["services:\n  a:\n    image: ${A:?needed}"],
            ":3:5: services.a.image: variable A is not set: needed",
        ),
        (&["services: {a: {image: x}}", "services:\n  a: text"], "compose1.yml:2:3: services.a: "),
        (&["services:\n  a:\n    image: 5"], ":3:5: services.a.image: expected text, found an integer"),
        (&["services:\n  a:\n    image: x\n    image: y"], ":4:5: key \"image\" is there twice"),
        (&["services:\n  a: {command: b}"], ":2:3: services.a: has neither an image nor a build"),
        (&["a: [\n"], "not valid YAML"),
        (&["services:\n  5: {image: x}"], ":2:3: a key must be text"),
        (&["services:\n  a: {image: x, ports: ['99999:80']}"], "services.a.ports: port \"99999:80\""),
        (&["services:\n  a: {image: x, depends_on: [b]}"], "needs the service \"b\", which is not defined"),
        (
            &["services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}"],
            "in a circle: a, b",
        ),
        (&["services:\n  a: {image: x, scale: lots}"], "expected a whole number, found \"lots\""),
        (&["services:\n  a: {image: x, networks: [n]}"], "uses the network \"n\""),
        (&["services:"], "services: expected a map, found nothing (null)"),
        (&["- a"], "must be a map, found a list"),
        (&["---\n"], "must be a map, found nothing"),
        (&[""], "the Compose files are empty"),
        (&["services: {a: {image: x, build: {args: ['A =1']}}}"], "\"A \" ends with a space"),
        (&["services: {a: {extends: a}}"], "extend each other in a circle"),
        (&["services: {a: {image: x, env_file: none.env}}"], "\"none.env\" is not there"),
        (&["services: {a: {image: x, command: \"a 'b\"}}"], "can't be split into words"),
    ] {
        let error = images(files);
        assert!(error.starts_with("error: ") && error.contains(want), "{files:?}\n got {error}\nwant {want}");
    }
}

#[test]
fn extends_and_include() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("base.yml", "services: {b: {image: x, profiles: [q]}, c: {extends: b, image: y}}");
    write("sub/inc.yml", "services: {i: {image: 'i:$TAG'}}\nvolumes: {v: }");
    write("sub/.env", "TAG=7\n");
    write("loop.yml", "include: [loop.yml]");
    let load = |text: &str| match in_directory(directory.path(), &[text]) {
        Ok(services) => {
            let all: Vec<String> = services.iter().map(|(n, i)| format!("{n}={i}")).collect();
            all.join(" ")
        }
        Err(e) => format!("error: {e}"),
    };
    for (text, want) in [
        ("services: {a: {extends: {file: base.yml, service: c}}}", ""),
        ("services: {a: {extends: {file: base.yml, service: c}, profiles: !reset []}}", "a=y"),
        ("services: {a: {image: x}, d: {extends: a}}", "a=x d=x"),
        ("include: [sub/inc.yml]\nservices: {a: {image: x, volumes: ['v:/v']}}", "a=x i=i:7"),
        ("include: [{path: sub/inc.yml}]\nservices: {i: {image: 'i:8'}}", "error"),
        ("include: [sub/none.yml]", "error"),
        ("include: [loop.yml]", "error"),
        ("services: {a: {extends: {file: base.yml, service: none}}}", "error"),
    ] {
        let got = load(text);
        assert!(got == want || (want == "error" && got.starts_with("error")), "{text}: {got}");
    }
}

#[test]
fn images_know_where_they_stand_and_what_for() {
    let file = |name: &str, text: &str| File { path: name.into(), bytes: text.as_bytes().to_vec() };
    let files = [
        file(
            "/p/a.yml",
            "services:\n  s:\n    image: x\n    volumes:\n      - {type: image, source: m, target: /m}",
        ),
        file("/p/b.yml", "services:\n  s:\n    tty: true\n    image: y"),
    ];
    let project = load(&files, Path::new("/p"), Environment::project("p")).unwrap();
    let images = &project.services[0].images;
    let got: Vec<_> = images.iter().map(|i| (&*i.name, i.usage, i.file, i.line)).collect();
    assert_eq!(got, [("y", Usage::Run, Some(1), 4), ("m", Usage::Mount, Some(0), 5)]);
    assert_eq!(images[0].path, Path::new("/p/b.yml"));
}

#[test]
fn bombs_are_refused() {
    let mut laughs = "x-0: &a0 {k: [x, x, x, x, x, x, x, x]}\n".to_owned();
    for i in 1..12 {
        let before = i - 1;
        laughs += &format!("x-{i}: &a{i} {{a: *a{before}, b: *a{before}, c: *a{before}, d: *a{before}}}\n");
    }
    assert!(images(&[&laughs]).contains("too many values"));
    let deep = format!("x-a: {}{}", "{a: ".repeat(500), "}".repeat(500));
    assert!(images(&[&deep]).starts_with("error"));
    let services = |entry: &dyn Fn(usize) -> String| {
        let all: Vec<String> = (0..5000).map(entry).collect();
        format!("services:\n{}\n  s5000: {{image: x}}", all.join("\n"))
    };
    let chain = services(&|i| format!("  s{i}: {{extends: s{}}}", i + 1));
    assert!(images(&[&chain]).starts_with("error"));
    let circle = services(&|i| format!("  s{i}: {{image: x, depends_on: [s{}]}}", (i + 1) % 5000));
    assert!(images(&[&circle]).contains("in a circle"));
}

proptest::proptest! {
    #[test]
    fn no_document_panics(
        key in "image|build|volumes|ports|networks|depends_on|environment|extends|deploy|healthcheck|env_file|secrets|gpus|ulimits|models",
        value in "[\\-:,\\[\\]{} a-z0-9/.$!\"]{0,40}",
        more in "[\\-:,\\[\\]{} a-z0-9/.$!\"\n]{0,60}",
    ) {
        let one = format!("services:\n  a:\n    image: x\n    {key}: {value}\n");
        let two = format!("services:\n  a:\n    {key}: {more}\n");
        let _ = project(&[&one, &two]);
    }
}
