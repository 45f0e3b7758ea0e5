//! The text of units.

use std::path::{Path, PathBuf};

use super::escape::{Unwritable, argument, word};
use super::{Images, Kind};

/// Which engine a unit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum EngineName {
    /// Docker, started by docker.service
    Docker,
    /// Podman, started by podman.socket
    Podman,
}

/// What a unit is made of. Paths are the device's.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) program: PathBuf,
    pub(crate) cache: PathBuf,
    pub(crate) engine: EngineName,
    pub(crate) images: Images,
    /// The Forklift workspace, where it is not root's home.
    pub(crate) workspace: Option<PathBuf>,
    /// The stage store, where it is not the workspace's.
    pub(crate) stage_store: Option<PathBuf>,
}

/// The first words of every unit file of ours.
pub(super) const MARK: &str = "# Written by `palletjack unit`";

/// The text of a unit's file.
pub(crate) fn render(kind: Kind, setting: &Setting) -> Result<String, Unwritable> {
    let mut text = format!(
        "{MARK} (palletjack {}). Change it with `systemctl edit`, or write it anew.\n\n[Unit]\n",
        env!("CARGO_PKG_VERSION")
    );
    text.push_str(&order(kind, setting)?);
    text.push_str("\n[Service]\n");
    text.push_str(match kind {
        Kind::Pins | Kind::Load => "Type=oneshot\nRemainAfterExit=yes\n",
        // The boot is over when it begins, and does not wait for its end.
        Kind::Fill => "Type=exec\n",
    });
    text.push_str(&format!(
        "NotifyAccess=main\nEnvironment=PALLETJACK_UNIT=1\nExecStart={}\n",
        command_line(kind, setting)?
    ));
    text.push_str(
        "# It takes as long as it takes while something moves, and ends as failed when nothing has moved for five minutes\n\
         # (unit-stall-timeout in /etc/palletjack/config.toml).\n\
         TimeoutStartSec=infinity\n",
    );
    text.push_str(match kind {
        Kind::Fill => "CPUSchedulingPolicy=idle\nIOSchedulingClass=idle\nNice=19\n",
        Kind::Pins | Kind::Load => "",
    });
    text.push_str("StateDirectory=palletjack\n");
    text.push_str(&protection(kind, setting)?);
    text.push_str(&format!("\n[Install]\nWantedBy={}\n", kind.wanted_by()));
    Ok(text)
}

const GUIDE: &str = "https://github.com/palletjack/palletjack/blob/main/docs/guides/units.md";

fn order(kind: Kind, setting: &Setting) -> Result<String, Unwritable> {
    let what = match kind {
        Kind::Pins => "Container images and their pins, before the engine starts",
        Kind::Load => "Container images from the cache into the engine",
        Kind::Fill => "Container images from the engine into the cache",
    };
    let mut text = format!("Description={what}\nDocumentation={GUIDE}\n");
    text.push_str("# Order alone: nothing requires this unit, and the device boots on when it fails.\n");
    let engine = match setting.engine {
        EngineName::Docker => "After=docker.service\n",
        EngineName::Podman => "Wants=podman.socket\nAfter=podman.socket\n",
    };
    match kind {
        Kind::Pins => text.push_str("Before=docker.service\n"),
        Kind::Load => {
            text.push_str(engine);
            text.push_str("Before=forklift-apply.service\n");
        }
        Kind::Fill => {
            text.push_str(engine);
            text.push_str("After=multi-user.target\n");
        }
    }
    let mut places = vec![&setting.cache];
    match &setting.images {
        Images::Stage(_) => places.extend(setting.stage_store.as_ref().or(setting.workspace.as_ref())),
        Images::Pallet(directory) => {
            places.push(directory);
            places.extend(&setting.workspace);
        }
        Images::References(_) | Images::All => {}
    }
    let places: Result<Vec<String>, _> = places.into_iter().map(|place| word(&path(place))).collect();
    text.push_str(&format!("RequiresMountsFor={}\n", places?.join(" ")));
    Ok(text)
}

fn command_line(kind: Kind, setting: &Setting) -> Result<String, Unwritable> {
    // The program's own path has no variables.
    let mut words = vec![word(&path(&setting.program))?];
    for text in arguments(kind, setting) {
        words.push(argument(&text)?);
    }
    Ok(words.join(" "))
}

fn arguments(kind: Kind, setting: &Setting) -> Vec<String> {
    let mut words = vec!["--cache-dir".to_owned(), path(&setting.cache)];
    let mut add = |list: &[&str]| words.extend(list.iter().map(|word| (*word).to_owned()));
    let uses_workspace = matches!(setting.images, Images::Stage(_) | Images::Pallet(_));
    if uses_workspace && let Some(workspace) = &setting.workspace {
        add(&["--workspace", &path(workspace)]);
    }
    if matches!(setting.images, Images::Stage(_))
        && let Some(store) = &setting.stage_store
    {
        add(&["--stage-store", &path(store)]);
    }
    let verb: &[&str] = match kind {
        Kind::Pins => {
            add(&["seed", "--root", "/"]);
            match &setting.images {
                Images::Stage(_) => add(&["--stage"]),
                Images::Pallet(directory) => add(&["--plt", &path(directory)]),
                Images::References(references) => {
                    add(&references.iter().map(String::as_str).collect::<Vec<_>>());
                }
                Images::All => {}
            }
            return words;
        }
        Kind::Load => &["load-img", "--wait=1min"],
        Kind::Fill => match &setting.images {
            Images::References(_) => &["add-img", "--from", "engine"],
            Images::All => &["add-img", "--from", "engine", "--all"],
            Images::Stage(_) | Images::Pallet(_) => &["cache-img", "--from", "engine"],
        },
    };
    match &setting.images {
        Images::Stage(bundle) => {
            add(&["stage"]);
            add(verb);
            add(&bundle.iter().map(String::as_str).collect::<Vec<_>>());
        }
        Images::Pallet(directory) => {
            add(&["dev", "--cwd", &path(directory), "plt"]);
            add(verb);
        }
        Images::References(references) => {
            add(&["cache"]);
            add(verb);
            add(&references.iter().map(String::as_str).collect::<Vec<_>>());
        }
        Images::All => {
            add(&["cache"]);
            add(verb);
        }
    }
    words
}

/// What the service may not do: nothing of it is needed.
fn protection(kind: Kind, setting: &Setting) -> Result<String, Unwritable> {
    let mut text = String::new();
    match kind {
        // An engine of its own unpacks, mounts and makes device nodes.
        Kind::Pins => {
            return Ok("ProtectHome=read-only\nPrivateTmp=yes\nProtectClock=yes\nProtectKernelLogs=yes\nRestrictRealtime=yes\n\
                LockPersonality=yes\n"
                .to_owned());
        }
        Kind::Load => {
            text.push_str("ProtectSystem=strict\nProtectHome=read-only\n");
            text.push_str(&format!("ReadWritePaths=-{}\n", word(&path(&setting.cache))?));
        }
        Kind::Fill => text.push_str("ProtectSystem=full\n"),
    }
    text.push_str(
        "PrivateTmp=yes\nPrivateDevices=yes\nProtectClock=yes\nProtectControlGroups=yes\nProtectHostname=yes\n\
         ProtectKernelLogs=yes\nProtectKernelModules=yes\nProtectKernelTunables=yes\nRestrictNamespaces=yes\n\
         RestrictRealtime=yes\nRestrictSUIDSGID=yes\nLockPersonality=yes\nMemoryDenyWriteExecute=yes\nNoNewPrivileges=yes\n\
         # The engine's socket, and a loopback mirror that its daemon may have.\n\
         RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n\
         CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_NET_BIND_SERVICE\n\
         SystemCallArchitectures=native\nSystemCallFilter=@system-service\nSystemCallErrorNumber=EPERM\n",
    );
    Ok(text)
}

/// Paths are checked to be UTF-8 before they come here.
fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(images: Images) -> Setting {
        Setting {
            program: "/usr/bin/palletjack".into(),
            cache: "/var/cache/palletjack".into(),
            engine: EngineName::Docker,
            images,
            workspace: None,
            stage_store: None,
        }
    }

    fn line(text: &str, key: &str) -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix(key)).map(str::to_owned).collect()
    }

    #[test]
    fn each_selection_is_a_command_line() {
        let exec = |kind, images| line(&render(kind, &setting(images)).unwrap(), "ExecStart=").remove(0);
        let start = "/usr/bin/palletjack --cache-dir /var/cache/palletjack";
        let references = || Images::References(vec!["caddy:2".into(), "a/b:1".into()]);
        for (kind, images, want) in [
            (Kind::Load, Images::All, "cache load-img --wait=1min"),
            (Kind::Load, Images::Stage(None), "stage load-img --wait=1min"),
            (Kind::Load, Images::Stage(Some("next".into())), "stage load-img --wait=1min next"),
            (Kind::Load, Images::Pallet("/srv/p".into()), "dev --cwd /srv/p plt load-img --wait=1min"),
            (Kind::Load, references(), "cache load-img --wait=1min caddy:2 a/b:1"),
            (Kind::Pins, Images::Stage(None), "seed --root / --stage"),
            (Kind::Pins, Images::Pallet("/srv/p".into()), "seed --root / --plt /srv/p"),
            (Kind::Pins, references(), "seed --root / caddy:2 a/b:1"),
            (Kind::Fill, Images::All, "cache add-img --from engine --all"),
            (Kind::Fill, Images::Stage(None), "stage cache-img --from engine"),
        ] {
            assert_eq!(exec(kind, images), format!("{start} {want}"));
        }
    }

    #[test]
    fn nothing_of_a_path_is_read_as_anything_else() {
        let odd = Setting {
            cache: "/srv/100% of \"it\"/$HOME".into(),
            stage_store: Some("/srv/the stages".into()),
            ..setting(Images::Stage(None))
        };
        let text = render(Kind::Load, &odd).unwrap();
        assert_eq!(
            line(&text, "ExecStart="),
            [
                r#"/usr/bin/palletjack --cache-dir "/srv/100%% of \"it\"/$$HOME" --stage-store "/srv/the stages" stage load-img --wait=1min"#
            ]
        );
        let place = r#""/srv/100%% of \"it\"/$HOME""#;
        assert_eq!(line(&text, "RequiresMountsFor="), [format!(r#"{place} "/srv/the stages""#)]);
        assert_eq!(line(&text, "ReadWritePaths=-"), [place]);
        let hostile = Setting { cache: "/x\nExecStartPre=/bin/evil".into(), ..odd };
        assert!(render(Kind::Load, &hostile).is_err());
    }

    #[test]
    fn a_unit_only_stands_in_an_order() {
        for kind in Kind::ALL {
            for engine in [EngineName::Docker, EngineName::Podman] {
                let text = render(kind, &Setting { engine, ..setting(Images::All) }).unwrap();
                for strong in ["Requires=", "RequiredBy=", "BindsTo=", "PartOf=", "Requisite="] {
                    assert!(line(&text, strong).is_empty(), "{text}");
                }
                assert_eq!(line(&text, "TimeoutStartSec="), ["infinity"]);
                assert_eq!(line(&text, "WantedBy="), [kind.wanted_by()]);
                assert!(!line(&text, "After=").iter().any(|after| after.contains("network")), "{text}");
            }
        }
        let load = render(Kind::Load, &setting(Images::All)).unwrap();
        assert_eq!(line(&load, "After="), ["docker.service"]);
        assert_eq!(line(&load, "Before="), ["forklift-apply.service"]);
    }
}
