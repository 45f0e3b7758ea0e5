//! An image's files, by programs that are not under test.
//!
//! What the layers make is put together by `tar`, `find` and `rm`; what the engine has comes from `docker export`. Both are
//! unpacked and listed by `find` and `sha256sum`, and the lists must be the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use palletjack_testkit::image::Image;

/// Unpacks layers over each other, whiteouts of a layer first (OCI image layer specification, "Whiteouts").
const UNPACK: &str = r#"
set -eu
root=$1; shift
for layer in "$@"; do
    tar -tf "$layer" | grep -E '(^|/)\.wh\.' | while read -r path; do
        directory=$root/$(dirname "$path"); name=$(basename "$path")
        if [ "$name" = .wh..wh..opq ]; then
            [ ! -d "$directory" ] || find "$directory" -mindepth 1 -delete
        else
            rm -rf "$directory/${name#.wh.}"
        fi
    done
    tar -C "$root" --exclude='.wh.*' -xpf "$layer"
done
"#;

/// Lists all but what engines put into every container's root: kind, rights, owner and path of everything, and of files
/// how many names, modification time and content.
const LIST: &str = r#"
set -eu
cd "$1"
set -- -path ./dev -o -path ./proc -o -path ./sys -o -path ./run -o -path ./.dockerenv \
    -o -path ./etc/hosts -o -path ./etc/hostname -o -path ./etc/resolv.conf -o -path ./etc/mtab
find . -mindepth 1 \( "$@" \) -prune -o -type f -printf '%y %m %U:%G %n %Ts %P\n' -o -printf '%y %m %U:%G %P %l\n' | sort
find . \( "$@" \) -prune -o -type f -print0 | sort -z | xargs -0r sha256sum
"#;

fn shell(script: &str, arguments: &[&Path]) -> String {
    let output = Command::new("sh").args(["-c", script, "sh"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What an image's layers for amd64 make.
pub(crate) fn of_layers(image: &Image) -> String {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    let layers = &image.platform("linux/amd64").unwrap().layers;
    let paths = (0..layers.len()).map(|number| directory.path().join(number.to_string()));
    let paths: Vec<_> = paths.collect();
    for (path, layer) in paths.iter().zip(layers) {
        fs::write(path, layer.blob.read().unwrap()).unwrap();
    }
    let mut arguments = vec![&*root];
    arguments.extend(paths.iter().map(|path| &**path));
    shell(UNPACK, &arguments);
    shell(LIST, &[&root])
}

/// What an `export` command hands out. An export that breaks off is told by its first words.
pub(crate) fn of_export(mut export: Command) -> Result<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let mut exporter = export.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let tar = Command::new("tar")
        .arg("-C")
        .arg(directory.path())
        .arg("-xpf")
        .arg("-")
        .stdin(exporter.stdout.take().unwrap())
        .output()
        .unwrap();
    let exported = exporter.wait_with_output().unwrap();
    for output in [&exported, &tar] {
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
    }
    Ok(shell(LIST, &[directory.path()]))
}

/// What one list has and the other has not, for messages.
pub(crate) fn difference(expected: &str, found: &str) -> String {
    let lines = |sign: &'static str, of: &str, other: &str| {
        let other: BTreeSet<&str> = other.lines().collect();
        let lines = of.lines().filter(|line| !other.contains(line));
        lines.map(|line| format!("{sign} {line}")).collect::<Vec<_>>()
    };
    [lines("-", expected, found), lines("+", found, expected)].concat().join("\n")
}

#[test]
fn lists_tell_what_is_different() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let list = || shell(LIST, &[directory.path()]);
    fs::write(path("file"), "content").unwrap();
    fs::create_dir(path("dev")).unwrap();
    let before = list();
    assert_eq!(before.lines().count(), 2, "{before}");
    fs::write(path("dev/null"), "an engine's").unwrap();
    assert_eq!(list(), before);
    let times = fs::FileTimes::new().set_modified(fs::metadata(path("file")).unwrap().modified().unwrap());
    fs::write(path("file"), "").unwrap();
    fs::File::options().write(true).open(path("file")).unwrap().set_times(times).unwrap();
    let emptied = list();
    assert_ne!(emptied, before);
    fs::create_dir(path("more")).unwrap();
    assert_ne!(list(), emptied);
}
