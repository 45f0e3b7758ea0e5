//! Credential helpers: programs that keep secrets for Docker.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::credentials::{Credential, CredentialError};

/// The most bytes of a helper's answer that are read.
const MAX_ANSWER: u64 = 64 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Asks `docker-credential-<name> get` for the secret kept under `key` (docker-credential-helpers, "Development").
pub(super) async fn get(
    name: &str,
    key: &str,
    directories: &[PathBuf],
    limit: Duration,
) -> Result<Option<Credential>, CredentialError> {
    let program = format!("docker-credential-{name}");
    let program = directories
        .iter()
        .map(|directory| directory.join(&program))
        .find(|path| path.is_file())
        .ok_or_else(|| CredentialError::HelperMissing(name.to_owned()))?;
    // Dropped at the limit, and the process is killed with it.
    match tokio::time::timeout(limit, run(name, &program, key)).await {
        Ok(answer) => answer,
        Err(_) => Err(CredentialError::HelperTimeout { helper: name.to_owned(), limit }),
    }
}

async fn run(name: &str, program: &PathBuf, key: &str) -> Result<Option<Credential>, CredentialError> {
    let failed =
        |why: &str| CredentialError::Helper { helper: name.to_owned(), why: crate::quote::line(why) };
    let system = |error: std::io::Error| failed(&error.to_string());
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(system)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that has its answer without reading the question is not wrong.
        let _ = stdin.write_all(format!("{key}\n").as_bytes()).await;
    }
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_ANSWER).read_to_end(&mut answer).await.map_err(system)?;
    }
    let status = child.wait().await.map_err(system)?;
    if !status.success() {
        let text = String::from_utf8_lossy(&answer);
        // The one answer that means "no", in the words that all helpers share.
        if text.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(if text.trim().is_empty() { "it said nothing" } else { &text }));
    }
    // Never quoted: it holds the secret.
    let answer: Answer = serde_json::from_slice(&answer).map_err(|_| failed("its answer is not JSON"))?;
    Ok(match (&*answer.username, answer.secret) {
        (_, secret) if secret.is_empty() => None,
        ("<token>", secret) => Some(Credential::Identity(secret)),
        (user, password) => Some(Credential::Basic { user: user.to_owned(), password }),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::auth::CredentialSources;

    /// Asks a helper made of these shell commands.
    async fn ask(
        script: &str,
        config: &str,
        host: &str,
        limit: Duration,
    ) -> super::super::credentials::Found {
        // A fork beside the writing of a program inherits the open file, and nobody can run it until that is closed.
        static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _alone = ALONE.lock().await;
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("docker-credential-test");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let file = directory.path().join("config.json");
        std::fs::write(&file, config).unwrap();
        let sources = CredentialSources {
            files: vec![file],
            helper_directories: vec![directory.path().join("absent"), directory.path().to_owned()],
            helper_timeout: limit,
        };
        sources.find(host, "org/repo").await
    }

    const LONG: Duration = Duration::from_mins(1);
    /// Answers with the key that it was asked for as the user.
    const ECHO: &str = r#"read key; [ "$1" = get ] && printf '{"ServerURL":"%s","Username":"%s","Secret":"pw"}' "$key" "$key""#;

    #[tokio::test]
    async fn each_host_is_asked_for_under_docker_s_key() {
        for (config, host, want) in [
            (r#"{"credsStore":"test"}"#, "docker.io", Some("https://index.docker.io/v1/")),
            (r#"{"credsStore":"test"}"#, "ghcr.io", Some("ghcr.io")),
            (r#"{"credHelpers":{"ghcr.io":"test"}}"#, "ghcr.io", Some("ghcr.io")),
            (r#"{"credHelpers":{"ghcr.io":"test"}}"#, "quay.io", None),
            // `auths` marks hosts with empty entries where a helper has the secret.
            (r#"{"credsStore":"test","auths":{"ghcr.io":{}}}"#, "ghcr.io", Some("ghcr.io")),
            (
                r#"{"credsStore":"test","auths":{"ghcr.io":{"auth":"b2xkOm9sZA=="}}}"#,
                "ghcr.io",
                Some("ghcr.io"),
            ),
            (r#"{"credsStore":"test","auths":{"ghcr.io/org":{"auth":"b3JnOnB3"}}}"#, "ghcr.io", Some("org")),
        ] {
            let found = ask(ECHO, config, host, LONG).await;
            let want =
                want.map(|user| Credential::Basic { user: user.to_owned(), password: "pw".to_owned() });
            assert_eq!(found.credential, want, "{config} {host} {:?}", found.problem);
        }
    }

    #[tokio::test]
    async fn a_helper_without_the_secret_is_no_failure() {
        let config = r#"{"credsStore":"test","auths":{"ghcr.io":{"auth":"bWU6cHc="}}}"#;
        let found =
            ask("echo credentials not found in native keychain; exit 1", config, "ghcr.io", LONG).await;
        assert_eq!(
            found.credential,
            Some(Credential::Basic { user: "me".to_owned(), password: "pw".to_owned() })
        );
    }

    #[tokio::test]
    async fn an_identity_token_is_told_by_its_user() {
        let script = r#"printf '{"Username":"<token>","Secret":"it"}'"#;
        let found = ask(script, r#"{"credsStore":"test"}"#, "x.azurecr.io", LONG).await;
        assert_eq!(found.credential, Some(Credential::Identity("it".to_owned())));
    }

    #[tokio::test]
    async fn a_failing_helper_is_named_and_its_answer_cleaned() {
        for (script, want) in [
            ("printf 'key\\033[1mring locked'; exit 1", "docker-credential-test failed: key [1mring locked"),
            ("echo '{\"Secret\":'", "docker-credential-test failed: its answer is not JSON"),
            ("exit 3", "docker-credential-test failed: it said nothing"),
        ] {
            let problem =
                ask(script, r#"{"credsStore":"test"}"#, "ghcr.io", LONG).await.problem.unwrap().to_string();
            assert!(problem.contains(want), "{problem}");
        }
        let config = r#"{"credsStore":"other"}"#;
        let problem = ask("", config, "ghcr.io", LONG).await.problem.unwrap().to_string();
        assert!(problem.contains("docker-credential-other is not in PATH"), "{problem}");
    }

    #[tokio::test]
    async fn a_helper_that_waits_for_its_user_is_given_up() {
        let limit = Duration::from_millis(20);
        let found = ask("exec sleep 600", r#"{"credsStore":"test"}"#, "ghcr.io", limit).await;
        let problem = found.problem.unwrap().to_string();
        assert!(problem.contains("docker-credential-test did not answer"), "{problem}");
    }
}
