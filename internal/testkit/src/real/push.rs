//! Filling a registry over HTTP, in the plainest way: one POST and one PUT per blob, one PUT per manifest.

use std::collections::BTreeSet;
use std::io;

use crate::http::client::{Answer, request};
use crate::image::{Image, ImageSet};

/// Pushes an image to the registry at `host:port` under its own repository and tag, over plain HTTP.
pub fn push(host: &str, image: &Image) -> io::Result<()> {
    push_new(host, image, &mut BTreeSet::new())
}

/// Pushes every image of a set; a blob goes once into each repository.
pub fn push_all(host: &str, set: &ImageSet) -> io::Result<()> {
    let mut pushed = BTreeSet::new();
    set.images.iter().try_for_each(|image| push_new(host, image, &mut pushed))
}

fn push_new(host: &str, image: &Image, pushed: &mut BTreeSet<String>) -> io::Result<()> {
    let repository = &image.name.repository;
    for (digest, blob) in &image.blobs {
        if !pushed.insert(format!("{repository}@{digest}")) {
            continue;
        }
        let started = expect(
            request(
                host,
                "POST",
                &format!("/v2/{repository}/blobs/uploads/"),
                &[],
                Some((0, &mut io::empty())),
            )?,
            202,
        )?;
        let location =
            started.header("location").ok_or_else(|| io::Error::other("an upload without a location"))?;
        // Absolute or not, the upload goes on at the host that was asked.
        let path = match location.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
            None => location,
        };
        let separator = if path.contains('?') { '&' } else { '?' };
        let target = format!("{path}{separator}digest={digest}");
        let mut reader = blob.reader(0)?;
        expect(
            request(
                host,
                "PUT",
                &target,
                &[("content-type", "application/octet-stream")],
                Some((blob.size(), &mut reader)),
            )?,
            201,
        )?;
    }
    let tag = image.name.tag.as_deref().unwrap_or("latest");
    let children = image.children.iter().map(|m| (m, m.digest.to_string()));
    for (manifest, reference) in children.chain([(&image.top, tag.to_owned())]) {
        expect(
            request(
                host,
                "PUT",
                &format!("/v2/{repository}/manifests/{reference}"),
                &[("content-type", manifest.media_type)],
                Some((manifest.bytes.len() as u64, &mut manifest.bytes.as_slice())),
            )?,
            201,
        )?;
    }
    Ok(())
}

fn expect(answer: Answer, status: u16) -> io::Result<Answer> {
    if answer.status == status {
        return Ok(answer);
    }
    Err(io::Error::other(format!(
        "the registry answered {} instead of {status}: {}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
    )))
}
