//! The files of one target, laid out as below `/usr`. The program itself writes those that tell about it, so that it has
//! run once before anybody gets it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use palletjack_testkit::real::{Cross, Target};

use super::output;
use crate::cargo::root;

/// Where each shell looks for completions that a distribution brings.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/palletjack"),
    ("zsh", "share/zsh/vendor-completions/_palletjack"),
    ("fish", "share/fish/vendor_completions.d/palletjack.fish"),
];

/// Units that load the whole cache of `/var/cache/palletjack`. Nothing enables them but their person.
const UNITS: [&str; 3] = ["load", "pins", "fill"];

/// Texts, and the example of a configuration.
const TEXTS: [&str; 4] = ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"];

/// Makes the tree in `<work>/<triple>/release`, which is where cargo-deb looks for what a build made.
pub(super) fn make(cross: &Cross, target: Target, work: &Path) -> Result<PathBuf> {
    let tree = work.join(target.triple()).join("release");
    for directory in ["bin", "share/man/man1", "lib/systemd/system", "share/doc/palletjack"] {
        fs::create_dir_all(tree.join(directory))?;
    }
    let program = tree.join("bin/palletjack");
    cross.build(&root(), target, &program).context("the program does not build")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    println!("  {} bytes, wants {}", fs::metadata(&program)?.len(), cross.libraries(&program)?.join(" "));

    let run = |arguments: &[&str]| -> Result<String> {
        let words = cross.emulated(target, &program)?;
        // Nothing of this machine's settings may show in what it prints.
        let mut command = Command::new(&words[0]);
        output(command.args(&words[1..]).args(arguments).env_clear())
    };
    let version = run(&["--version"])?;
    ensure!(version.trim() == concat!("palletjack ", env!("CARGO_PKG_VERSION")), "it calls itself {version}");
    let man = tree.join("share/man/man1");
    run(&["docs", "man", man.to_str().context("the temporary directory's name is no UTF-8")?])?;
    for (shell, path) in COMPLETIONS {
        write(&tree.join(path), &run(&["completions", shell])?)?;
    }
    for unit in UNITS {
        let path = format!("lib/systemd/system/palletjack-{unit}.service");
        write(&tree.join(path), &run(&["unit", unit])?)?;
    }
    for name in TEXTS {
        fs::copy(root().join(name), tree.join("share/doc/palletjack").join(name))?;
    }
    copy_texts(&root().join("docs"), &tree.join("share/doc/palletjack/docs"))?;
    Ok(tree)
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn copy_texts(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_texts(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
