//! What a change leaves and what undoing it puts back, step by step.

use super::*;

const URL: &str = "http://127.0.0.5";

fn wish(directory: &Path) -> Wish {
    Wish {
        socket: directory.join("no.sock"),
        mirror: Some((URL.to_owned(), directory.join("daemon.json"))),
        hosts: Some((
            "127.0.0.5".to_owned(),
            vec!["ghcr.io".to_owned(), "quay.io".to_owned()],
            directory.join("hosts"),
        )),
    }
}

/// As [`Changes::apply`] does for a daemon that does not run.
fn write(changes: &Changes) {
    for edit in [&changes.journal.config, &changes.journal.hosts].into_iter().flatten() {
        replace(&edit.path, &edit.during, 0o644).unwrap();
    }
}

fn begin(directory: &Path) -> Changes {
    let turn = Turn::take(&directory.join("state")).unwrap();
    assert!(!undo_before(&turn).unwrap());
    Changes::begin(turn, &wish(directory)).unwrap()
}

#[test]
fn files_are_as_before_whatever_they_were() {
    for (config, hosts) in [
        (None, Some("127.0.0.1 localhost\n")),
        (Some("{}"), Some("127.0.0.1 localhost")),
        (Some("{\n  \"registry-mirrors\": [\"https://m\"], \"debug\":true}\n"), Some("")),
        (Some(""), None),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (config_path, hosts_path) =
            (directory.path().join("daemon.json"), directory.path().join("hosts"));
        for (path, text) in [(&config_path, config), (&hosts_path, hosts)] {
            if let Some(text) = text {
                fs::write(path, text).unwrap();
                fs::set_permissions(path, Permissions::from_mode(0o640)).unwrap();
            }
        }
        for by_drop in [false, true] {
            let changes = begin(directory.path());
            write(&changes);
            let during = fs::read_to_string(&config_path).unwrap();
            let value: Value = serde_json::from_str(&during).unwrap();
            assert_eq!(value[MIRRORS][0], URL);
            let during = fs::read_to_string(&hosts_path).unwrap();
            assert!(during.lines().any(|line| line.starts_with("127.0.0.5 ghcr.io quay.io #")), "{during}");
            assert!(during.starts_with(hosts.unwrap_or_default()));
            if by_drop {
                drop(changes);
            } else {
                changes.undo().unwrap();
            }
            for (path, text) in [(&config_path, config), (&hosts_path, hosts)] {
                assert_eq!(read(path).unwrap().as_deref(), text);
                if text.is_some() {
                    assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o640);
                }
            }
            assert!(!directory.path().join("state/repin.json").exists());
        }
    }
}

/// As after SIGKILL or a power cut at every step.
#[test]
fn the_next_run_undoes_what_a_killed_one_left() {
    let hosts = "127.0.0.1 localhost\n";
    for step in 0..4 {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("hosts"), hosts).unwrap();
        let mut changes = begin(directory.path());
        if step > 0 {
            replace(&path("daemon.json"), &changes.journal.config.as_ref().unwrap().during, 0o644).unwrap();
        }
        if step > 1 {
            replace(&path("hosts"), &changes.journal.hosts.as_ref().unwrap().during, 0o644).unwrap();
        }
        if step > 2 {
            // Undoing in place was cut off.
            fs::write(path("hosts"), &hosts[..7]).unwrap();
        }
        // No process has this number.
        let leftover = path(".hosts.palletjack-4194999");
        fs::write(&leftover, "").unwrap();
        changes.undone = true;
        drop(changes);
        assert!(undo_leftover(&path("state")).unwrap());
        assert_eq!(fs::read_to_string(path("hosts")).unwrap(), hosts, "step {step}");
        assert!(!path("daemon.json").exists() && !leftover.exists());
        assert!(!undo_leftover(&path("state")).unwrap());
    }
}

#[test]
fn what_others_wrote_meanwhile_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("hosts"), "127.0.0.1 localhost\n").unwrap();
    fs::write(path("daemon.json"), "{}").unwrap();
    let changes = begin(directory.path());
    write(&changes);
    let during = fs::read_to_string(path("hosts")).unwrap();
    fs::write(path("hosts"), format!("{during}10.0.0.1 device\n")).unwrap();
    fs::write(path("daemon.json"), format!(r#"{{"debug":true,"registry-mirrors":["{URL}/","https://m"]}}"#))
        .unwrap();
    changes.undo().unwrap();
    assert_eq!(fs::read_to_string(path("hosts")).unwrap(), "127.0.0.1 localhost\n10.0.0.1 device\n");
    let config: Value = serde_json::from_str(&fs::read_to_string(path("daemon.json")).unwrap()).unwrap();
    assert_eq!(config, serde_json::json!({ "debug": true, "registry-mirrors": ["https://m"] }));
}

#[test]
fn one_run_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let changes = begin(directory.path());
    assert!(matches!(Turn::take(&directory.path().join("state")), Err(ChangeError::Busy)));
    // A run that only loads leaves it to its owner.
    assert!(!undo_leftover(&directory.path().join("state")).unwrap());
    changes.undo().unwrap();
    drop(Turn::take(&directory.path().join("state")).unwrap());
}

#[test]
fn a_configuration_that_is_no_object_is_not_touched() {
    for text in ["[]", "{", "\"x\""] {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("daemon.json"), text).unwrap();
        let turn = Turn::take(&directory.path().join("state")).unwrap();
        let error = Changes::begin(turn, &wish(directory.path())).unwrap_err();
        assert!(matches!(error, ChangeError::Config { .. }), "{error}");
        assert_eq!(fs::read_to_string(directory.path().join("daemon.json")).unwrap(), text);
        assert!(!directory.path().join("state/repin.json").exists());
    }
}

#[test]
fn a_damaged_note_says_what_to_look_for() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("repin.json"), "{").unwrap();
    let error = undo_leftover(directory.path()).unwrap_err();
    assert!(error.to_string().contains("/etc/hosts"), "{error}");
}

#[test]
fn a_link_is_followed_and_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("real.json"), "{}").unwrap();
    std::os::unix::fs::symlink(path("real.json"), path("daemon.json")).unwrap();
    let changes = begin(directory.path());
    write(&changes);
    assert!(fs::read_to_string(path("real.json")).unwrap().contains(URL));
    changes.undo().unwrap();
    assert!(fs::symlink_metadata(path("daemon.json")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(path("real.json")).unwrap(), "{}");
}
