//! A root, a network and processes of a test's own, because real pallets mount the whole root into containers, take port
//! 80 and want a host's PID namespace.
//!
//! The root shows the machine's files; what is written goes to memory, but for the temporary directory. The network has
//! the loopback interface alone, no route and no name server: whatever works in there works offline. When the test ends,
//! however it ends, all of its processes do.

use std::process::Command;

use palletjack_testkit::real::Forky;
use tempfile::TempDir;

use crate::machine::project;

const INSIDE: &str = "PALLETJACK_TEST_ROOM";

/// An overlay of the machine's root becomes the root, shared as an init system leaves it: `rslave` mounts need that. Other file
/// systems are in it where the arguments from the third on say so.
const FURNISH: &str = r#"
set -e
room=$1 program=$2 test=$3
shift 3
ip link set lo up
mount -t tmpfs tmpfs "$room"
mkdir "$room/upper" "$room/work" "$room/root"
mount -t overlay -o "lowerdir=/,upperdir=$room/upper,workdir=$room/work" overlay "$room/root"
for directory in /sys /dev "$@"; do
    mkdir -p "$room/root$directory"
    mount --rbind "$directory" "$room/root$directory"
done
mount -t proc proc "$room/root/proc"
mount -t tmpfs tmpfs "$room/root/run"
cd "$room/root"
pivot_root . .
umount -l .
cd /
mount --make-rshared /
exec "$program" --exact "$test" --nocapture
"#;

/// Whether this is the test in its room. Outside, the test is run there, and fails here as it did there.
#[track_caller]
pub(crate) fn inside(test: &str) -> bool {
    if std::env::var(INSIDE).is_ok() {
        return true;
    }
    let room = TempDir::with_prefix("room-").unwrap();
    let program = std::env::current_exe().unwrap();
    let ran = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--", "sh", "-c", FURNISH, "room"])
        .args([room.path(), &program])
        .arg(test)
        .args([&std::env::temp_dir(), program.parent().unwrap()])
        .args([project().canonicalize().unwrap().as_path(), Forky::install().unwrap().directory()])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (told, wrong) = (text(&ran.stdout), text(&ran.stderr));
    assert!(ran.status.success() && told.contains("1 passed"), "{told}\n{wrong}");
    false
}
