//! What a boot's journal says.

use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::run::Ran;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The unit that wrote it, or that systemd wrote it about.
    pub unit: String,
    /// 0 (emergency) to 7 (debug), as in syslog.
    pub priority: u8,
    /// The line.
    pub message: String,
}

/// The entries of the last boot in a tree's journal, in their order.
pub(super) fn read(root: &Path) -> io::Result<Vec<Entry>> {
    let mut command = Command::new("journalctl");
    command.arg("--directory").arg(root.join("var/log/journal"));
    command.args(["--boot", "0", "--output", "json", "--all", "--no-pager", "--quiet"]);
    let text = Ran::run(&mut command)?.ok()?;
    text.lines().filter(|line| !line.is_empty()).map(|line| Ok(entry(&serde_json::from_str(line)?))).collect()
}

fn entry(fields: &Value) -> Entry {
    let text = |name: &str| match &fields[name] {
        Value::String(text) => text.clone(),
        // Text that is no UTF-8, or has control characters, comes as bytes.
        Value::Array(bytes) => {
            let bytes: Vec<u8> = bytes.iter().filter_map(|b| u8::try_from(b.as_u64()?).ok()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => String::new(),
    };
    let about = text("UNIT");
    let unit = if about.is_empty() { text("_SYSTEMD_UNIT") } else { about };
    Entry { unit, priority: text("PRIORITY").parse().unwrap_or(6), message: text("MESSAGE") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_of_the_unit_that_they_are_about() {
        let own =
            serde_json::json!({ "_SYSTEMD_UNIT": "a.service", "PRIORITY": "4", "MESSAGE": [98, 195, 164] });
        let want = Entry { unit: "a.service".to_owned(), priority: 4, message: "bä".to_owned() };
        assert_eq!(entry(&own), want);
        let about = serde_json::json!({ "_SYSTEMD_UNIT": "init.scope", "UNIT": "b.service", "MESSAGE": "x" });
        assert_eq!(entry(&about).unit, "b.service");
        assert_eq!(entry(&about).priority, 6);
    }
}
