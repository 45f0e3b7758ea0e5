//! A cache with generated images, a server over it, and a client that writes its requests by hand.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use palletjack_image::{Descriptor, Digest, Manifest, ManifestKind, Platform};
use palletjack_registry::serve::{Mirror, MirrorOptions};
use palletjack_store::{Access, Image, IngestState, NewEntry, Store};
use palletjack_testkit::image as built;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Cache {
    pub(crate) store: Store,
    _directory: tempfile::TempDir,
}

pub(crate) fn amd64() -> Platform {
    Platform::new("linux", "amd64", None)
}

/// A layer of about this many bytes that do not compress, another one for each number.
pub(crate) fn layer(number: u64, size: u64) -> built::Layer {
    built::LayerBuilder::new().filler("filler", number, size).build().unwrap()
}

/// A multi-platform image of which a cache has one platform only.
pub(crate) fn image(reference: &str, seed: u64) -> built::Image {
    built::ImageBuilder::new(reference)
        .kind(if seed.is_multiple_of(2) { built::Kind::Docker } else { built::Kind::Oci })
        .platform("linux/amd64", [layer(seed, 400_000), layer(seed + 1000, 20_000)])
        .platform("linux/arm64", [layer(seed + 2000, 1_000)])
        .build()
        .unwrap()
}

impl Cache {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), Access::Write, &amd64()).unwrap();
        Self { store, _directory: directory }
    }

    fn put(&self, descriptor: &Descriptor, mut from: impl Read) {
        let (lease, snapshot) = (self.store.lease().unwrap(), self.store.snapshot().unwrap());
        let state = self.store.ingest(&lease, &snapshot, descriptor.digest, descriptor.size).unwrap();
        let IngestState::Begin(mut ingest) = state else { return };
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        ingest.write(&bytes).unwrap();
        ingest.commit().unwrap();
    }

    /// Publishes what an image has for a platform, as a fetch does.
    pub(crate) fn publish_for(&self, image: &built::Image, reference: &str, platform: &Platform) -> Image {
        let manifests: Vec<Manifest> = image
            .manifests()
            .map(|manifest| Manifest::parse(manifest.bytes.clone(), Some(manifest.media_type)).unwrap())
            .collect();
        let of = |digest: &Digest| manifests.iter().find(|m| m.descriptor().digest == *digest).unwrap();
        let top = of(&image.top.digest);
        let chosen = match top.kind() {
            ManifestKind::Index(index) => of(&index.choose(platform).unwrap().digest),
            ManifestKind::Image(_) => top,
        };
        for manifest in [top, chosen] {
            self.put(&manifest.descriptor(), &manifest.bytes()[..]);
        }
        let ManifestKind::Image(parts) = chosen.kind() else { panic!("an index in an index") };
        for blob in parts.layers.iter().chain([&parts.config]) {
            self.put(blob, image.blobs[&blob.digest].reader(0).unwrap());
        }
        let new = NewEntry {
            reference: reference.parse().unwrap(),
            requested: reference.to_owned(),
            platform: platform.clone(),
            target: top.descriptor(),
            manifest: chosen.descriptor(),
            upstream: "docker.io".to_owned(),
            pinned: false,
        };
        let entry = self.store.publish(&self.store.lease().unwrap(), new).unwrap();
        self.store.image(&entry).unwrap()
    }

    pub(crate) fn publish(&self, image: &built::Image, reference: &str) -> Image {
        self.publish_for(image, reference, &amd64())
    }

    /// Flips one bit of a blob, as a failing medium does.
    pub(crate) fn damage(&self, digest: &Digest) {
        let path = self.store.blob_path(digest);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    }

    pub(crate) async fn serve(&self) -> Mirror {
        self.serve_with(MirrorOptions::default()).await
    }

    pub(crate) async fn serve_with(&self, options: MirrorOptions) -> Mirror {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Mirror::start(listener, self.store.clone(), options).unwrap()
    }
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// `None` where it ended before its head did.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Some(Self { status, headers, body: bytes[end + 4..].to_vec() })
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn length(&self) -> u64 {
        self.header("content-length").parse().unwrap()
    }

    /// The code of an error in the form of the distribution specification.
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.header("content-type"), "application/json");
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert!(!body["errors"][0]["message"].as_str().unwrap().is_empty());
        body["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

/// Sends a head as it is written (lines end with `\n` here) and reads until the server closes.
pub(crate) async fn send(mirror: &Mirror, head: &str) -> Answer {
    try_send(mirror, head).await.expect("an answer")
}

/// The same where the server may break the connection before it has said anything.
pub(crate) async fn try_send(mirror: &Mirror, head: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(mirror.address()).await.unwrap();
    let head = format!("{}\r\n\r\n", head.trim().replace('\n', "\r\n"));
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    // A connection that was broken off may end with a reset.
    let _ = stream.read_to_end(&mut bytes).await;
    Answer::parse(&bytes)
}

/// A request of a client on this machine.
pub(crate) async fn ask(mirror: &Mirror, method: &str, path: &str) -> Answer {
    ask_as(mirror, method, path, &mirror.address().to_string(), "").await
}

/// A request with this `Host` and more lines.
pub(crate) async fn ask_as(mirror: &Mirror, method: &str, path: &str, host: &str, more: &str) -> Answer {
    send(mirror, &format!("{method} {path} HTTP/1.1\nHost: {host}\nConnection: close\n{more}")).await
}
