//! The files of an image: its layers put over each other, as a container's root shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;
use tar::{Builder, EntryType, Header};

/// Where a layer that was loaded lies: an archive that came, and the member of it.
#[derive(Debug, Clone)]
pub(super) struct LayerFile {
    pub(super) archive: PathBuf,
    pub(super) member: String,
}

impl LayerFile {
    /// Hands the layer's own tar to whoever reads it.
    fn read<T>(&self, read: impl FnOnce(&mut dyn Read) -> io::Result<T>) -> io::Result<T> {
        for entry in tar::Archive::new(File::open(&self.archive)?).entries()? {
            let entry = entry?;
            if entry.path()?.to_string_lossy().trim_start_matches("./") == self.member {
                let mut entry = BufReader::new(entry);
                return match entry.fill_buf()? {
                    [0x1f, 0x8b, ..] => read(&mut MultiGzDecoder::new(entry)),
                    [0x28, 0xb5, 0x2f, 0xfd, ..] => read(&mut zstd::Decoder::with_buffer(entry)?),
                    _ => read(&mut entry),
                };
            }
        }
        Err(io::Error::other(format!("{} is in no archive any more", self.member)))
    }
}

/// A file, directory or link; two names of a file are one node.
#[derive(Debug)]
struct Node {
    header: Header,
    content: Vec<u8>,
    target: Option<PathBuf>,
}

impl Node {
    fn directory() -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        Self { header, content: Vec::new(), target: None }
    }
}

#[derive(Debug, Default)]
struct Root {
    nodes: BTreeMap<PathBuf, Arc<Node>>,
}

impl Root {
    /// Puts a layer over what is there: its whiteouts first, which are of lower layers (OCI image layer specification, "Whiteouts").
    fn apply(&mut self, layer: &mut dyn Read) -> io::Result<()> {
        let mut members = Vec::new();
        for entry in tar::Archive::new(layer).entries()? {
            let mut entry = entry?;
            let path: PathBuf = entry.path()?.components().collect();
            let (header, target) = (entry.header().clone(), entry.link_name()?.map(PathBuf::from));
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            members.push((path, Node { header, content, target }));
        }
        let mut own = Vec::new();
        for (path, node) in members {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let directory = path.parent().unwrap_or(Path::new(""));
            match name.strip_prefix(".wh.") {
                None => own.push((path, node)),
                Some(".wh..opq") => self.remove_below(directory),
                Some(hidden) => self.remove(&directory.join(hidden)),
            }
        }
        for (path, node) in own {
            for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
                self.nodes.entry(parent.to_owned()).or_insert_with(|| Arc::new(Node::directory()));
            }
            let node = match (node.header.entry_type(), &node.target) {
                (EntryType::Link, Some(first)) => {
                    let first = self.nodes.get(first);
                    Arc::clone(first.ok_or_else(|| io::Error::other("a link to nothing"))?)
                }
                _ => Arc::new(node),
            };
            if !node.header.entry_type().is_dir() {
                self.remove(&path);
            }
            self.nodes.insert(path, node);
        }
        Ok(())
    }

    fn remove(&mut self, path: &Path) {
        self.nodes.retain(|other, _| !other.starts_with(path));
    }

    fn remove_below(&mut self, directory: &Path) {
        self.nodes.retain(|other, _| other == directory || !other.starts_with(directory));
    }

    /// As an engine exports it, with the file that Docker puts into every container.
    fn export(&self) -> io::Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        let mut header = Header::new_ustar();
        header.set_mode(0o755);
        header.set_size(0);
        tar.append_data(&mut header, ".dockerenv", io::empty())?;
        let mut first_names: BTreeMap<*const Node, &Path> = BTreeMap::new();
        for (path, node) in &self.nodes {
            let mut header = node.header.clone();
            if let Some(first) = first_names.get(&Arc::as_ptr(node)) {
                header.set_entry_type(EntryType::Link);
                header.set_size(0);
                tar.append_link(&mut header, path, first)?;
                continue;
            }
            first_names.insert(Arc::as_ptr(node), path);
            match &node.target {
                Some(target) => tar.append_link(&mut header, path, target)?,
                None => tar.append_data(&mut header, path, node.content.as_slice())?,
            }
        }
        tar.into_inner()
    }
}

/// The tar of a container's root that stands on these layers, the lowest first.
pub(super) fn export(layers: &[LayerFile]) -> io::Result<Vec<u8>> {
    let mut root = Root::default();
    for layer in layers {
        layer.read(|tar| root.apply(tar))?;
    }
    root.export()
}

/// Containers, which are never started.
#[derive(Debug, Default)]
pub(super) struct Containers {
    /// By their IDs, the ID of each one's image.
    images: BTreeMap<String, String>,
    made: u64,
}

impl Containers {
    pub(super) fn create(&mut self, image: &str) -> String {
        self.made += 1;
        let id = format!("{:064x}", self.made);
        self.images.insert(id.clone(), image.to_owned());
        id
    }

    pub(super) fn image_of(&self, id: &str) -> Option<String> {
        self.images.get(id).cloned()
    }

    pub(super) fn remove(&mut self, id: &str) -> bool {
        self.images.remove(id).is_some()
    }

    /// IDs with the IDs of their images.
    pub(super) fn all(&self) -> impl Iterator<Item = (&String, &String)> {
        self.images.iter()
    }

    pub(super) fn users_of(&self, image: &str) -> BTreeSet<&str> {
        self.images.iter().filter(|(_, of)| *of == image).map(|(id, _)| id.as_str()).collect()
    }
}
