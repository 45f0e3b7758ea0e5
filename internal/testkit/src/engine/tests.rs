//! The engine over its socket: faithful loads, and each fault as a client sees it.

use std::io::{self, Cursor, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use serde_json::{Value, json};

use super::*;
use crate::http::client::{Answer, request_unix};
use crate::image::{Image, ImageBuilder, LayerBuilder};
use crate::registry::Gate;

fn image() -> Image {
    let layer = LayerBuilder::new().file("a", "b").build().unwrap();
    ImageBuilder::new("docker.io/library/caddy:2.6.2")
        .platform("linux/amd64", [layer.clone()])
        .platform("linux/arm64/v8", [layer])
        .build()
        .unwrap()
}

/// An archive for both kinds of engine, its layers left out or not.
fn archive(image: &Image, with_layers: bool) -> Vec<u8> {
    let amd64 = &image.platforms[0];
    let member = |digest: &palletjack_image::Digest| format!("blobs/sha256/{}", digest.hex());
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: String, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    let layer = &amd64.layers[0];
    if with_layers {
        add(member(&layer.digest), &layer.blob.read().unwrap());
    }
    add(member(&amd64.config), &image.blobs[&amd64.config].read().unwrap());
    add(member(&image.top.digest), &image.top.bytes);
    add(member(&amd64.manifest), &image.children[0].bytes);
    let index = json!({ "manifests": [{
        "digest": image.top.digest.to_string(),
        "annotations": { "io.containerd.image.name": "docker.io/library/caddy:2.6.2" },
    }] });
    add("index.json".to_owned(), index.to_string().as_bytes());
    let manifest = json!([{
        "Config": member(&amd64.config),
        "RepoTags": ["caddy:2.6.2"],
        "Layers": [member(&layer.digest)],
    }]);
    add("manifest.json".to_owned(), manifest.to_string().as_bytes());
    tar.into_inner().unwrap()
}

fn load(engine: &Engine, archive: Vec<u8>) -> io::Result<Answer> {
    let length = archive.len() as u64;
    let mut body = Cursor::new(archive);
    request_unix(&engine.socket(), "POST", "/v1.41/images/load?quiet=0", &[], Some((length, &mut body)))
}

fn inspect(engine: &Engine, name: &str) -> Option<Value> {
    let target = format!("/images/{name}/json");
    let answer = request_unix(&engine.socket(), "GET", &target, &[], None).unwrap();
    (answer.status == 200).then(|| serde_json::from_slice(&answer.body).unwrap())
}

#[test]
fn a_graph_driver_takes_the_manifest_and_forgets_the_digest() {
    let engine = Engine::start(Profile::docker_20()).unwrap();
    let image = image();
    let answer = load(&engine, archive(&image, true)).unwrap();
    assert_eq!(answer.body, b"{\"stream\":\"Loaded image: caddy:2.6.2\\n\"}\r\n");
    let seen = inspect(&engine, "caddy:2.6.2").unwrap();
    assert_eq!(seen["Id"], image.platforms[0].config.to_string());
    assert_eq!(seen["RootFS"]["Layers"][0], image.platforms[0].layers[0].diff_id.to_string());
    assert!(inspect(&engine, &image.platforms[0].config.to_string()).is_some());
    assert!(inspect(&engine, &image.pinned()).is_none());

    let loads = engine.wait_for_loads(1);
    assert!(loads[0].complete);
    assert_eq!((loads[0].query.as_str(), loads[0].members().unwrap().len()), ("quiet=0", 6));
    // The base is there now, so the layer may be left out.
    assert!(!String::from_utf8_lossy(&load(&engine, archive(&image, false)).unwrap().body).contains("error"));
}

#[test]
fn a_containerd_store_takes_the_index_and_keeps_the_digest() {
    let engine = Engine::start(Profile::docker_28_containerd()).unwrap();
    let image = image();
    load(&engine, archive(&image, true)).unwrap();
    let seen = inspect(&engine, &image.pinned()).unwrap();
    assert_eq!(seen["Id"], image.top.digest.to_string());
    assert_eq!(seen["RepoDigests"][0], format!("caddy@{}", image.top.digest));
}

#[test]
fn missing_layers_are_refused_by_the_one_and_make_a_hole_in_the_other() {
    let graph = Engine::start(Profile::docker_20()).unwrap();
    let answer = load(&graph, archive(&image(), false)).unwrap();
    assert_eq!(answer.status, 200);
    assert!(String::from_utf8_lossy(&answer.body).contains("no such file or directory"));
    assert!(graph.images().is_empty());

    let store = Engine::start(Profile::docker_28_containerd()).unwrap();
    let answer = load(&store, archive(&image(), false)).unwrap();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(text.contains("Error unpacking image") && text.contains("Loaded image"), "{text}");
    assert!(store.images()[0].broken);
    let list = request_unix(&store.socket(), "GET", "/images/json?manifests=1", &[], None).unwrap();
    let list: Value = serde_json::from_slice(&list.body).unwrap();
    assert_eq!(list[0]["Manifests"][0]["Available"], false);
}

#[test]
fn a_body_that_breaks_off_is_seen_as_such_and_registers_nothing() {
    let engine = Engine::start(Profile::docker_20()).unwrap();
    let bytes = archive(&image(), true);
    let mut client = UnixStream::connect(engine.socket()).unwrap();
    client.write_all(b"POST /images/load HTTP/1.1\r\nhost: d\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    // The whole archive arrives, but not the last chunk: what a client does that found a corrupt blob.
    write!(client, "{:x}\r\n", bytes.len()).unwrap();
    client.write_all(&bytes).unwrap();
    client.write_all(b"\r\n").unwrap();
    drop(client);
    let loads = engine.wait_for_loads(1);
    assert_eq!((loads[0].complete, loads[0].bytes), (false, bytes.len() as u64));
    assert!(engine.images().is_empty());
}

#[test]
fn faults_come_once_each_and_in_order() {
    let engine = Engine::start(Profile::docker_20()).unwrap();
    let image = image();
    let send = || load(&engine, archive(&image, true));
    engine.fault(LoadFault::ErrorLine("no space left on device".into()));
    engine.fault(LoadFault::Status { status: 500, message: "broken".into() });
    engine.fault(LoadFault::HangupAfter { bytes: 100 });
    engine.fault(LoadFault::CutAnswer);
    engine.fault(LoadFault::Forgets);

    let line = send().unwrap();
    assert_eq!(line.status, 200);
    assert!(String::from_utf8_lossy(&line.body).contains("\"error\":\"no space left on device\""));
    assert_eq!(send().unwrap().status, 500);
    assert!(send().is_err());
    let cut = send().unwrap();
    assert_eq!((cut.complete, cut.body.as_slice()), (false, &b"{\"stream\":\"Loa"[..]));
    assert!(String::from_utf8_lossy(&send().unwrap().body).contains("Loaded image"));
    assert!(inspect(&engine, "caddy:2.6.2").is_none());

    let loads = engine.wait_for_loads(5);
    assert_eq!((loads[2].bytes, loads[2].complete), (100, false));
    send().unwrap();
    assert!(inspect(&engine, "caddy:2.6.2").is_some());
}

#[test]
fn an_engine_that_does_not_read_holds_its_client_until_released() {
    let engine = Engine::start(Profile::podman_4()).unwrap();
    let gate = Gate::new();
    engine.fault(LoadFault::DoesNotRead(gate.clone()));
    thread::scope(|scope| {
        let client = scope.spawn(|| load(&engine, vec![0; 4 << 20]));
        gate.wait_for(1);
        gate.open();
        assert!(client.join().unwrap().is_err());
    });
    assert_eq!(engine.wait_for_loads(1)[0].bytes, 0);
    let ping = request_unix(&engine.socket(), "GET", "/_ping", &[], None).unwrap();
    assert_eq!(ping.header("libpod-api-version"), Some("4.3.1"));
    assert_eq!(engine.requests()[1].1, "/_ping");
}

#[test]
fn a_container_shows_the_files_of_all_layers() {
    let lower = LayerBuilder::new()
        .file("etc/gone", "in the end")
        .directory("old")
        .file("old/one", "hidden")
        .program("bin/sh", "shell")
        .hardlink("bin/ash", "bin/sh")
        .build();
    let upper = LayerBuilder::new()
        .whiteout("etc/gone")
        .opaque("old")
        .file("old/two", "there")
        .symlink("lib", "usr/lib")
        .compression(crate::image::Compression::Zstd)
        .build();
    let layers = [lower.unwrap(), upper.unwrap()];
    let builder = ImageBuilder::new("docker.io/library/two:1").platform("linux/amd64", layers.clone());
    let image = builder.build().unwrap();
    let engine = Engine::start(Profile::docker_28()).unwrap();
    let member = |digest: &palletjack_image::Digest| format!("blobs/sha256/{}", digest.hex());
    let config = image.platforms[0].config;
    let manifest = json!([{ "Config": member(&config), "RepoTags": ["two:1"], "Layers": layers.each_ref().map(|layer| member(&layer.digest)) }]);
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    for layer in &layers {
        add(&member(&layer.digest), &layer.blob.read().unwrap());
    }
    add(&member(&config), &image.blobs[&config].read().unwrap());
    add("manifest.json", manifest.to_string().as_bytes());
    load(&engine, tar.into_inner().unwrap()).unwrap();

    let ask = |method: &str, target: &str| request_unix(&engine.socket(), method, target, &[], None).unwrap();
    let create = |image: &str| {
        let body = json!({ "Image": image, "Cmd": ["/x"] }).to_string();
        let mut reader = Cursor::new(body.as_bytes());
        let body: (u64, &mut dyn io::Read) = (body.len() as u64, &mut reader);
        request_unix(&engine.socket(), "POST", "/v1.41/containers/create?platform=", &[], Some(body)).unwrap()
    };
    assert_eq!(create("absent:1").status, 404);
    let created = create(&config.to_string());
    assert_eq!(created.status, 201);
    let id = serde_json::from_slice::<Value>(&created.body).unwrap()["Id"].as_str().unwrap().to_owned();
    let exported = ask("GET", &format!("/v1.41/containers/{id}/export"));
    let mut archive = tar::Archive::new(Cursor::new(exported.body));
    let seen: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let link =
                entry.link_name().unwrap().map(|to| format!(" -> {}", to.display())).unwrap_or_default();
            format!("{}{link}", entry.path().unwrap().display())
        })
        .collect();
    let expected =
        [".dockerenv", "bin", "bin/ash", "bin/sh -> bin/ash", "etc", "lib -> usr/lib", "old", "old/two"];
    assert_eq!(seen, expected);

    // A container uses its image.
    assert_eq!(ask("DELETE", "/images/two:1").status, 409);
    assert_eq!(ask("DELETE", &format!("/containers/{id}?force=true")).status, 204);
    assert_eq!(ask("GET", &format!("/containers/{id}/export")).status, 404);
    assert_eq!(ask("DELETE", "/images/two:1").status, 200);
    engine.add_image(EngineImage { id: "sha256:11".to_owned(), hollow: true, ..EngineImage::default() });
    assert_eq!(create("sha256:11").status, 500, "its layers are listed and are not there");
}
