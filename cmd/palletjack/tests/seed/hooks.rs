//! The examples of the guide for builders: what they make of an image file and of a stage of pi-gen.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use palletjack_testkit::Ran;
use palletjack_testkit::real::{Dockerd, DockerdOptions, Part};
use palletjack_testkit::require_real;

use crate::Card;
use crate::machine::{PROGRAM, project};

/// Where the second partition begins, in bytes and in sectors.
const START: u64 = 4 << 20;
const SECTOR: u64 = 512;
const SIZE: u64 = 160 << 20;

fn example(path: &str) -> PathBuf {
    fs::canonicalize(project().join("docs/examples").join(path)).unwrap()
}

/// A card whose images are cached, and that systemd would run.
fn card() -> Card {
    let mut card = Card::new("amd64", "20.10.24");
    let program = fs::read(card.root.join("usr/bin/env")).unwrap();
    for path in ["usr/lib/systemd/systemd", "usr/bin/palletjack"] {
        card.write(path, &program);
    }
    card.machine.set("PALLETJACK", PROGRAM);
    card.machine.run("plt cache-img").assert_success();
    card
}

/// The card's tree as an image file: a FAT partition's place and an ext4 one, or an ext4 file system alone.
fn image_file(card: &Card, partitioned: bool) -> PathBuf {
    let path = card.machine.sandbox.root().join("card.img");
    let file = fs::File::create(&path).unwrap();
    let offset = if partitioned { START } else { 0 };
    file.set_len(offset + SIZE).unwrap();
    if partitioned {
        let sectors = |bytes: u64| u32::try_from(bytes / SECTOR).unwrap();
        let entry = |kind: u8, start: u64, length: u64| {
            let mut entry = vec![0, 0, 0, 0, kind, 0, 0, 0];
            entry.extend(sectors(start).to_le_bytes());
            entry.extend(sectors(length).to_le_bytes());
            entry
        };
        file.write_all_at(&entry(0x0c, 1 << 20, 1 << 20), 446).unwrap();
        file.write_all_at(&entry(0x83, START, SIZE), 446 + 16).unwrap();
        file.write_all_at(&[0x55, 0xaa], 510).unwrap();
    }
    let offset = format!("offset={offset}");
    let size = format!("{}k", SIZE >> 10);
    let (tree, path_text) = (card.root.to_str().unwrap(), path.to_str().unwrap());
    let args = ["-q", "-F", "-d", tree, "-E", &offset, path_text, &size];
    card.machine.run_other("/usr/sbin/mkfs.ext4", &args).assert_success();
    path
}

/// The file system of an image file, mounted.
struct Mounted<'a> {
    card: &'a Card,
    root: PathBuf,
}

impl<'a> Mounted<'a> {
    fn new(card: &'a Card, image: &Path, offset: u64) -> Self {
        let root = card.machine.sandbox.root().join("mounted");
        fs::create_dir_all(&root).unwrap();
        let options = format!("loop,offset={offset}");
        let args = ["-o", &options, image.to_str().unwrap(), root.to_str().unwrap()];
        card.machine.run_other("mount", &args).assert_success();
        Self { card, root }
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let ran = self.card.machine.run_other("umount", &[self.root.to_str().unwrap()]);
        assert!(ran.success() || std::thread::panicking(), "{ran}");
    }
}

fn seed_image(card: &Card, words: &[&str]) -> Ran {
    card.machine.run_other(example("seed-image.sh").to_str().unwrap(), words)
}

/// No loop device has the file, and nothing that was mounted for it is left.
#[track_caller]
fn assert_released(card: &Card, image: &Path) {
    let ran = card.machine.run_other("losetup", &["--associated", image.to_str().unwrap()]);
    assert_eq!(ran.assert_success().stdout, "");
    let temporary = card.machine.sandbox.root().join("tmp");
    assert_eq!(fs::read_dir(temporary).unwrap().count(), 0, "the script's mount point is left");
}

/// Docker, started on that tree, resolves what the pallet pins.
#[track_caller]
fn assert_resolves(card: &Card, root: &Path) {
    let options =
        DockerdOptions { data_root: Some(root.join("var/lib/docker")), ..DockerdOptions::default() };
    let mut engine = Dockerd::debian_with(options).unwrap();
    let docker = engine.docker().unwrap();
    for image in &card.set.images {
        docker.create_never(&image.pinned()).unwrap().assert_success();
    }
    engine.stop();
}

/// The tree has a whole cache of its own, and the units that a graph driver with pins needs.
#[track_caller]
fn assert_loads_at_boot(card: &Card, root: &Path) {
    let cache = root.join("var/cache/palletjack");
    let (ran, document) = card.machine.json(&format!("--cache-dir {} cache verify", cache.display()));
    ran.assert_success();
    assert_eq!(document["images"], card.set.images.len(), "{ran}");
    assert_eq!(fs::read_dir(cache.join("state")).unwrap().flatten().filter(is_unsettled).count(), 0);
    let wants = root.join("etc/systemd/system");
    for link in
        ["multi-user.target.wants/palletjack-load.service", "docker.service.wants/palletjack-pins.service"]
    {
        assert!(fs::symlink_metadata(wants.join(link)).is_ok(), "{link} is not there");
    }
}

fn is_unsettled(entry: &fs::DirEntry) -> bool {
    entry.file_name() == "unsettled" && fs::read_dir(entry.path()).unwrap().count() > 0
}

#[test]
fn an_image_file_is_seeded_where_it_lies() {
    require_real!(Part::ImageFiles, Part::Docker20);
    let card = card();
    let image = image_file(&card, true);
    let cache = card.machine.sandbox.cache();
    let pallet = card.machine.sandbox.pallet();
    let path = image.to_str().unwrap();
    let words = [
        "--cache-dir",
        cache.to_str().unwrap(),
        "--grow",
        "32M",
        path,
        "seed",
        "--plt",
        pallet.to_str().unwrap(),
    ];
    let ran = seed_image(&card, &words);
    assert!(ran.assert_success().stderr.contains("4 seeded by a private"), "{ran}");
    assert_eq!(fs::metadata(&image).unwrap().len(), START + SIZE + (32 << 20));
    assert_released(&card, &image);
    let mounted = Mounted::new(&card, &image, START);
    let space = rustix::fs::statvfs(&mounted.root).unwrap();
    assert!(space.f_blocks * space.f_frsize > SIZE, "the file system has not grown");
    assert_resolves(&card, &mounted.root);
    // In use: neither is a second loop device laid over the same bytes, nor the mount taken away.
    let ran = seed_image(&card, &[path, "seed"]);
    assert!(ran.assert_code(1).stderr.contains("is in use"), "{ran}");
}

#[test]
fn an_image_file_gets_the_cache_and_its_units() {
    require_real!(Part::ImageFiles);
    let card = card();
    let image = image_file(&card, false);
    let cache = card.machine.sandbox.cache();
    fs::create_dir_all(cache.join("state/unsettled")).unwrap();
    fs::write(cache.join("state/unsettled/0123456789abcdef-x.json"), "{}").unwrap();
    let words = ["--cache-dir", cache.to_str().unwrap(), image.to_str().unwrap(), "load"];
    // A second run finds what the first one brought.
    for _ in 0..2 {
        seed_image(&card, &words).assert_success();
        assert_released(&card, &image);
    }
    assert_loads_at_boot(&card, &Mounted::new(&card, &image, 0).root);
}

#[test]
fn an_image_file_that_cannot_be_filled_is_refused_and_released() {
    require_real!(Part::ImageFiles);
    let card = card();
    let image = image_file(&card, true);
    let before = fs::read(&image).unwrap();
    let path = image.to_str().unwrap();
    let noise = card.machine.sandbox.root().join("noise");
    fs::write(&noise, vec![b'x'; 1 << 20]).unwrap();
    let noise = noise.to_str().unwrap();
    let home = card.machine.sandbox.home();
    let home = home.to_str().unwrap();
    for (words, code, want) in [
        (vec![path], 2, "seed-image.sh [OPTION...] IMAGE seed"),
        (vec![path, "fill"], 2, "seed or load"),
        (vec![path, "load"], 2, "load needs --cache-dir"),
        (vec!["--cache-dir", home, path, "load"], 2, "no cache with images"),
        (vec!["--grow", "much", path, "seed"], 2, "takes a size"),
        (vec!["--partition", "one", path, "seed"], 2, "takes a number"),
        (vec!["--partition", "7", path, "seed"], 2, "no partition 7"),
        (vec!["--partition", "1", "--grow", "1M", path, "seed"], 2, "only the last partition"),
        (vec!["--wrong", path, "seed"], 2, "unknown option"),
        (vec![home, "seed"], 2, "is not a file"),
        (vec![noise, "seed"], 2, "neither a partition table nor a file system"),
        // The program's own error, and its exit code.
        (vec![path, "seed", "caddy:absent"], 3, "not in the cache"),
        // What is no file system of Linux cannot be mounted.
        (vec!["--partition", "1", path, "seed"], 32, "mount"),
    ] {
        let ran = seed_image(&card, &words);
        ran.assert_code(code);
        assert!(ran.stderr.contains(want), "{ran}");
        assert_released(&card, &image);
    }
    let after = fs::read(&image).unwrap();
    // Mounting it notes the time of it in the file system itself, so that the tree is compared and not the bytes.
    assert_eq!(before.len(), after.len());
    assert!(!Mounted::new(&card, &image, START).root.join("var/lib/docker").exists());
}

/// What pi-gen's `build.sh` does with a stage: its variables and `copy_previous`, then the scripts, each in its directory.
const PI_GEN: &str = r#"
set -e
copy_previous() {
    mkdir -p "$ROOTFS_DIR"
    cp -a "$PREV_ROOTFS_DIR/." "$ROOTFS_DIR/"
}
export -f copy_previous
export STAGE_DIR=$1 PREV_ROOTFS_DIR=$2 ROOTFS_DIR=$3 CARD_PALLET=$4 CARD_CACHE=$5 CARD_WAY=$6
cd "$STAGE_DIR"
./prerun.sh
for directory in "$STAGE_DIR"/*/; do
    cd "$directory"
    ./00-run.sh
done
"#;

#[test]
fn a_stage_of_pi_gen() {
    require_real!(Part::ImageFiles, Part::Docker20);
    let card = card();
    let sandbox = &card.machine.sandbox;
    let tree = sandbox.root().join("work/rootfs");
    let run = |way: &str, cache: &Path| {
        let (stage, pallet) = (example("pi-gen/stage-images"), sandbox.pallet());
        let paths = [&stage, &card.root, &tree, &pallet, cache].map(|path| path.to_str().unwrap().to_owned());
        let mut args = vec!["-c", PI_GEN, "build.sh"];
        args.extend(paths.iter().map(String::as_str));
        args.push(way);
        card.machine.run_other("bash", &args)
    };
    let ran = run("seed", Path::new("/absent"));
    assert!(ran.assert_code(2).stderr.contains("CARD_CACHE is not a directory"), "{ran}");
    let ran = run("burn", &sandbox.cache());
    assert!(ran.assert_code(2).stderr.contains("seed or load"), "{ran}");
    run("seed", &sandbox.cache()).assert_success();
    assert_resolves(&card, &tree);
    run("load", &sandbox.cache()).assert_success();
    assert_loads_at_boot(&card, &tree);
    let unit = fs::read_to_string(tree.join("etc/systemd/system/palletjack-load.service")).unwrap();
    for image in &card.set.images {
        assert!(unit.contains(&image.pinned()), "{unit}");
    }
}
