//! Trees: names, links, and files below those of a pallet.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{MAX_FILE, Tree};
use crate::glob::{Find, search};

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn names_of_a_directory_must_be_clean_and_inside() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "p/a.yml", "a");
    write(root.path(), "secret", "s");
    let tree = Tree::directory(root.path().join("p"));
    assert_eq!(tree.read("a.yml").unwrap(), b"a");
    for name in ["./a.yml", "../secret", "/a.yml", "b/../a.yml", "a.yml/", ""] {
        assert!(tree.read(name).is_err(), "{name}");
    }
    assert!(tree.sub("..").read("secret").is_err());
    assert!(tree.sub("../..").entries(".").unwrap().is_empty());
}

#[test]
fn links_are_followed_but_not_out_of_the_root() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "p/real/a.yml", "a");
    write(root.path(), "secret/s.yml", "s");
    let p = root.path().join("p");
    symlink("real", p.join("inside")).unwrap();
    symlink("../secret", p.join("outside")).unwrap();
    symlink("nowhere", p.join("dangling.yml")).unwrap();
    let tree = Tree::directory(&p);
    assert_eq!(tree.read("inside/a.yml").unwrap(), b"a");
    let error = tree.read("outside/s.yml").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("leads out of"), "{error}");
    assert_eq!(tree.read("dangling.yml").unwrap_err().kind(), ErrorKind::NotFound);
    // A search that would have to leave says so, and doesn't just find less.
    assert!(search(&tree, "**/*.yml", Find::Files).is_err());
    fs::remove_file(p.join("outside")).unwrap();
    let found = search(&tree, "**/*.yml", Find::Files).unwrap();
    assert_eq!(found, ["dangling.yml", "inside/a.yml", "real/a.yml"]);
}

#[test]
fn links_in_a_circle_come_to_an_end() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "d/a.yml", "a");
    symlink(".", root.path().join("d/loop")).unwrap();
    let tree = Tree::directory(root.path());
    assert_eq!(search(&tree, "**/*.yml", Find::Files).unwrap().len(), 41);
    symlink(".", root.path().join("d/again")).unwrap();
    assert!(search(&tree, "**/*.yml", Find::Files).is_err());
}

#[test]
fn what_is_no_file_or_too_large_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "d/x", "");
    let large = fs::File::create(root.path().join("large")).unwrap();
    large.set_len(MAX_FILE + 1).unwrap();
    let tree = Tree::directory(root.path());
    assert_eq!(tree.read("d").unwrap_err().kind(), ErrorKind::IsADirectory);
    assert_eq!(tree.read("large").unwrap_err().kind(), ErrorKind::FileTooLarge);
    large.set_len(MAX_FILE).unwrap();
    assert!(tree.read("large").is_ok());
}

#[test]
fn own_files_hide_imported_ones() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "own/deployments/a.yml", "own a");
    write(root.path(), "other/x/a.yml", "other a");
    write(root.path(), "other/x/b.yml", "other b");
    let other = Tree::directory(root.path().join("other"));
    let imports = [("a", "x/a.yml"), ("b", "x/b.yml"), ("new/dir/c", "x/b.yml")];
    let imports: BTreeMap<String, (Tree, String)> = imports
        .into_iter()
        .map(|(to, from)| (format!("deployments/{to}.yml"), (other.clone(), from.to_owned())))
        .collect();
    let tree = Tree::overlay(Tree::directory(root.path().join("own")), imports);
    assert_eq!(tree.read("deployments/a.yml").unwrap(), b"own a");
    assert_eq!(tree.read("deployments/b.yml").unwrap(), b"other b");
    // A merged tree cleans names.
    assert_eq!(tree.sub("deployments").read("./new/../b.yml").unwrap(), b"other b");
    assert_eq!(tree.location("deployments/b.yml"), root.path().join("other/x/b.yml"));
    assert!(tree.is_dir("deployments/new").unwrap());
    let found = search(&tree, "deployments/**/*.yml", Find::Files).unwrap();
    let want = ["deployments/a.yml", "deployments/b.yml", "deployments/new/dir/c.yml"];
    assert_eq!(found, want);
    assert_eq!(tree.read("deployments/z.yml").unwrap_err().kind(), ErrorKind::NotFound);
}
