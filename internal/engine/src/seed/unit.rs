//! The command line that a systemd service is started with (systemd.service(5), systemd.unit(5)).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::tree::Tree;

const LARGEST_UNIT: u64 = 1 << 20;
/// The system's directories, the first of which wins.
const DIRECTORIES: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/lib/systemd/system",
    "/usr/lib/systemd/system",
];

/// What a service runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Service {
    /// The program and its arguments, variables filled in.
    words: Vec<String>,
}

#[derive(Debug, Default)]
struct Read {
    exec: Option<String>,
    files: Vec<PathBuf>,
    variables: BTreeMap<String, String>,
}

impl Service {
    /// Reads a service with its drop-ins; `None` where the tree has none of that name.
    pub(super) fn read(tree: &Tree, name: &str) -> io::Result<Option<Self>> {
        let mut texts = Vec::new();
        for directory in DIRECTORIES {
            if let Some(text) = tree.text(&Path::new(directory).join(name), LARGEST_UNIT)? {
                texts.push(text);
                break;
            }
        }
        if texts.is_empty() {
            return Ok(None);
        }
        let mut drop_ins: BTreeMap<OsString, PathBuf> = BTreeMap::new();
        for directory in DIRECTORIES {
            let directory = Path::new(directory).join(format!("{name}.d"));
            for file in tree.drop_ins(&directory)? {
                let path = directory.join(&file);
                drop_ins.entry(file).or_insert(path);
            }
        }
        for path in drop_ins.values() {
            texts.extend(tree.text(path, LARGEST_UNIT)?);
        }
        let mut read = Read::default();
        for text in &texts {
            read.add(text);
        }
        let mut variables = read.variables;
        for path in &read.files {
            let text = tree.text(path, LARGEST_UNIT)?.unwrap_or_default();
            variables.extend(text.lines().filter_map(assignment));
        }
        Ok(Some(Self { words: words(&read.exec.unwrap_or_default(), &variables) }))
    }

    /// The value of an option, in either spelling and by any of its names; the last one counts.
    pub(super) fn option(&self, names: &[&str]) -> Option<&str> {
        let mut found = None;
        for (at, word) in self.words.iter().enumerate() {
            for name in names {
                match word.strip_prefix(name) {
                    Some("") => found = self.words.get(at + 1).map(String::as_str).or(found),
                    Some(rest) => found = rest.strip_prefix('=').or(found),
                    None => {}
                }
            }
        }
        found
    }
}

impl Read {
    fn add(&mut self, text: &str) {
        let mut in_service = false;
        let joined = text.replace("\\\n", " ");
        for line in joined.lines().map(str::trim) {
            if line.starts_with('[') {
                in_service = line == "[Service]";
            }
            let Some((key, value)) = line.split_once('=').filter(|_| in_service && !is_comment(line)) else {
                continue;
            };
            let value = value.trim();
            match (key.trim(), value) {
                ("ExecStart", "") => self.exec = None,
                ("ExecStart", command) => self.exec = Some(command.to_owned()),
                ("EnvironmentFile", "") => self.files.clear(),
                ("EnvironmentFile", path) => self.files.push(path.trim_start_matches('-').into()),
                ("Environment", "") => self.variables.clear(),
                ("Environment", pairs) => {
                    self.variables.extend(split(pairs).iter().filter_map(|pair| assignment(pair)));
                }
                _ => {}
            }
        }
    }
}

fn is_comment(line: &str) -> bool {
    line.starts_with(['#', ';'])
}

/// `NAME=value`, with or without quotes.
fn assignment(line: &str) -> Option<(String, String)> {
    let (name, value) = line.trim().split_once('=').filter(|_| !is_comment(line.trim()))?;
    let value = value.trim();
    let bare = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    Some((name.trim().to_owned(), bare.unwrap_or(value).to_owned()))
}

/// `$NAME` alone is as many words as its value has; `${NAME}` is a part of its word.
fn words(command: &str, variables: &BTreeMap<String, String>) -> Vec<String> {
    let mut words = Vec::new();
    for word in split(command) {
        match word.strip_prefix('$').filter(|name| !name.starts_with('{')) {
            Some(name) => words.extend(variables.get(name).map(|value| split(value)).unwrap_or_default()),
            None => words.push(
                variables
                    .iter()
                    .fold(word, |word, (name, value)| word.replace(&format!("${{{name}}}"), value)),
            ),
        }
    }
    words
}

/// Words between white space, with quotes and without escapes.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in text.chars() {
        match quote {
            Some(end) if c == end => quote = None,
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn service(files: &[(&str, &str)]) -> Option<Service> {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Service::read(&Tree::open(directory.path()).unwrap(), "docker.service").unwrap()
    }

    #[test]
    fn debians_unit_is_read_with_its_environment() {
        let unit = "[Unit]\nExecStart=no\n[Service]\n# ExecStart=no\nEnvironmentFile=-/etc/default/docker\n\
            ExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS\n";
        let options = "# a comment\nDOCKER_OPTS=\"--data-root /srv/docker --storage-driver=vfs\"\n";
        let read =
            service(&[("usr/lib/systemd/system/docker.service", unit), ("etc/default/docker", options)])
                .unwrap();
        assert_eq!(read.option(&["--containerd"]), Some("/run/containerd/containerd.sock"));
        assert_eq!(read.option(&["-g", "--data-root"]), Some("/srv/docker"));
        assert_eq!(read.option(&["-s", "--storage-driver"]), Some("vfs"));
        assert_eq!(read.option(&["--config-file"]), None);
        assert_eq!(service(&[("etc/default/docker", options)]), None);
    }

    #[test]
    fn drop_ins_replace_the_command_and_the_nearer_ones_win() {
        let read = service(&[
            ("lib/systemd/system/docker.service", "[Service]\nExecStart=/usr/bin/dockerd --data-root /a\n"),
            (
                "lib/systemd/system/docker.service.d/10.conf",
                "[Service]\nExecStart=\nExecStart=dockerd -g /b\n",
            ),
            ("etc/systemd/system/docker.service.d/10.conf", "[Service]\nEnvironment='X=/c d' Y=2\n"),
            (
                "etc/systemd/system/docker.service.d/20.conf",
                "[Service]\nExecStart=\nExecStart=dockerd \\\n  --data-root \"${X}\" -l ${Y}\n",
            ),
            ("etc/systemd/system/docker.service.d/30.txt", "[Service]\nExecStart=\n"),
        ])
        .unwrap();
        assert_eq!(read.option(&["-g"]), None);
        assert_eq!(read.option(&["--data-root"]), Some("/c d"));
        assert_eq!(read.option(&["-l"]), Some("2"));
    }
}
