//! Durability on real engines: files compared, power cut, damage mended.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, wherever it does")]

mod compare;
mod cuts;
mod recover;
mod remote;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use palletjack_engine::{Endpoint, Engine};
use palletjack_store::Image;
use palletjack_testkit::image::{ImageBuilder, LayerBuilder};
use support::Cache;

/// Images with all that layers can have, on a base that they share.
fn images(cache: &Cache, count: u64) -> Vec<Image> {
    let base = LayerBuilder::new()
        .directory("etc")
        .file("etc/passwd", "root:x:0:0::/:/bin/sh\n")
        .file("etc/hosts", "an engine replaces it")
        .program("bin/sh", "#!/bin/sh\n")
        .hardlink("bin/ash", "bin/sh")
        .symlink("lib", "usr/lib")
        .directory("opt/old")
        .file("opt/old/one", "gone in the end")
        .file("usr/share/doc/readme", "hidden")
        .filler("usr/lib/libbase.so", 1, 900_000)
        .build()
        .unwrap();
    (0..count)
        .map(|number| {
            let own = LayerBuilder::new()
                .whiteout("usr/share/doc")
                .opaque("opt/old")
                .file("opt/old/two", "there")
                .program("bin/tool", format!("#!/bin/sh\necho {number}\n"))
                .filler("opt/own.bin", 100 + number, 1_500_000)
                .build()
                .unwrap();
            let image = ImageBuilder::new(&format!("ghcr.io/acme/cut{number}:1"))
                .platform("linux/amd64", [base.clone(), own])
                .index()
                .build()
                .unwrap();
            cache.publish(&image, &image.pinned())
        })
        .collect()
}

async fn connect(socket: PathBuf) -> Engine {
    Engine::connect(Endpoint::Unix(socket)).await.unwrap()
}

/// All files below a directory whose path ends with this, wherever an engine keeps them.
fn find(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => todo.push(path),
                Ok(kind) if kind.is_file() && path.ends_with(ending) => found.push(path),
                _ => {}
            }
        }
    }
    found
}
