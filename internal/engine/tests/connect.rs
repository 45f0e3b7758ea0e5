//! Engines that are not there, not ready, or something else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, wherever it does")]

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use palletjack_engine::{Endpoint, Engine, EngineError, EngineKind};
use palletjack_testkit::engine::{Engine as Fake, Profile};

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("engine.sock")
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.socket())
    }

    /// Answers every connection with these bytes and closes it.
    fn answers(&self, bytes: &'static [u8]) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let _ = connection.read(&mut [0; 4096]);
                let _ = connection.write_all(bytes);
            }
        });
    }
}

#[tokio::test]
async fn an_absent_socket_says_what_to_start() {
    let place = Place::new();
    let error = Engine::connect(place.endpoint()).await.unwrap_err();
    assert!(matches!(error, EngineError::Absent { .. }) && error.may_pass(), "{error:?}");
    for hint in ["engine.sock", "systemctl start docker", "podman.socket", "apt-get install", "DOCKER_HOST"] {
        assert!(error.to_string().contains(hint), "{error}");
    }
}

#[tokio::test]
async fn a_stale_socket_is_told_from_an_absent_one() {
    let place = Place::new();
    drop(UnixListener::bind(place.socket()).unwrap());
    let error = Engine::connect(place.endpoint()).await.unwrap_err();
    assert!(matches!(error, EngineError::Refused { .. }) && error.may_pass(), "{error:?}");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Engine::connect(Endpoint::Tcp(free.to_string())).await.unwrap_err();
    assert!(matches!(error, EngineError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn what_is_no_socket_is_called_so() {
    let place = Place::new();
    std::fs::create_dir(place.socket()).unwrap();
    let error = Engine::connect(place.endpoint()).await.unwrap_err();
    assert!(error.to_string().contains("is a directory, not a socket") && !error.may_pass(), "{error:?}");
    std::fs::remove_dir(place.socket()).unwrap();
    std::fs::write(place.socket(), "").unwrap();
    let error = Engine::connect(place.endpoint()).await.unwrap_err();
    assert!(error.to_string().contains("is a file, not a socket"), "{error}");
}

#[tokio::test]
async fn something_else_is_not_an_engine() {
    for bytes in [
        &b"220 smtp.example.org ESMTP\r\n"[..],
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\nconnection: close\r\n\r\n<html></html>",
        b"",
    ] {
        let place = Place::new();
        place.answers(bytes);
        let error = Engine::connect(place.endpoint()).await.unwrap_err();
        assert!(matches!(error, EngineError::NotAnEngine { .. }) && !error.may_pass(), "{error:?}");
        assert!(!error.to_string().contains('\n'));
    }
}

#[tokio::test]
async fn an_engine_that_starts_is_told_from_one_that_is_none() {
    let place = Place::new();
    place.answers(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let error = Engine::connect(place.endpoint()).await.unwrap_err();
    assert!(matches!(error, EngineError::Starting { .. }) && error.may_pass(), "{error:?}");

    // Socket activation: connections are taken before anybody answers them.
    let place = Place::new();
    let _silent = UnixListener::bind(place.socket()).unwrap();
    let error = Engine::connect_within(place.endpoint(), Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, EngineError::Starting { .. }), "{error:?}");
}

#[tokio::test]
async fn an_engine_introduces_itself() {
    for (profile, kind, shown) in [
        (Profile::docker_20(), EngineKind::DockerGraph, "Docker 20.10.24 (graph driver overlay2)"),
        (
            Profile::docker_28_containerd(),
            EngineKind::DockerContainerd,
            "Docker 28.5.2 (containerd store overlayfs)",
        ),
        (Profile::podman_4(), EngineKind::Podman, "Podman 4.3.1 (storage driver overlay)"),
    ] {
        let fake = Fake::start(profile).unwrap();
        let engine = Engine::connect(Endpoint::Unix(fake.socket())).await.unwrap();
        assert_eq!((engine.capabilities().kind, &*engine.capabilities().to_string()), (kind, shown));
        assert_eq!(engine.capabilities().platform.to_string(), "linux/amd64");
        assert!(engine.capabilities().root_dir.is_some());
    }
}
