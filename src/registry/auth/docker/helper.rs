//! Credential helpers: programs `docker-credential-NAME` that print a credential.

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;

use super::login;
use crate::oci::Registry;
use crate::registry::auth::credentials::Credential;
use crate::registry::net::shown;
use crate::registry::services::quirks::Quirks;

const HELPER_LIMIT: Duration = Duration::from_secs(30);

/// How much of a helper's error output is shown: lines, and characters per line.
const COMPLAINT_LINES: usize = 5;
const COMPLAINT_LENGTH: usize = 300;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks `docker-credential-HELPER`; `None` if it has no entry for `registry`.
///
/// # Errors
/// If it can't be run, fails, or takes longer than 30 seconds.
pub(crate) async fn ask(helper: &str, registry: &Registry) -> Result<Option<Credential>, String> {
    let program = format!("docker-credential-{helper}");
    let server = Quirks::of(registry).helper_key.unwrap_or(registry.as_str());
    consult(&program, server).await
}

async fn consult(program: &str, server: &str) -> Result<Option<Credential>, String> {
    let output = match tokio::time::timeout(HELPER_LIMIT, run(program, server)).await {
        Ok(Ok(output)) => output,
        Ok(Err(e)) if e.kind() == std::io::ErrorKind::NotFound => return Err(format!("{program} isn't on the PATH")),
        Ok(Err(e)) => return Err(format!("can't run {program}: {e}")),
        Err(_) => return Err(format!("{program} took longer than {} s", HELPER_LIMIT.as_secs())),
    };
    let [said, complained] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    if !output.status.success() {
        // The helpers' protocol has no code for this, only these words.
        if [&said, &complained].iter().any(|text| text.contains("credentials not found")) {
            return Ok(None);
        }
        let why = complaint(&[&said, &complained]);
        return Err(format!("{program} failed ({}){why}", output.status));
    }
    let unreadable = |_| format!("{program} gave an invalid answer{}", complaint(&[&complained]));
    let answer: Answer = serde_json::from_str(&said).map_err(unreadable)?;
    let empty = answer.username.is_empty() && answer.secret.is_empty();
    Ok((!empty).then(|| login(answer.username, answer.secret)))
}

/// The error output of a helper, for display: the protocol uses standard output, but many write to standard error.
fn complaint(texts: &[&str]) -> String {
    let lines = texts.iter().flat_map(|text| text.lines()).map(str::trim).filter(|line| !line.is_empty());
    let short = |line: &str| shown::redacted(line).chars().take(COMPLAINT_LENGTH).collect();
    let lines: Vec<String> = lines.take(COMPLAINT_LINES).map(short).collect();
    if lines.is_empty() { String::new() } else { format!(": {}", lines.join("; ")) }
}

async fn run(program: &str, server: &str) -> std::io::Result<std::process::Output> {
    let mut child = tokio::process::Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper may answer without reading its input.
        let _ = stdin.write_all(server.as_bytes()).await;
    }
    child.wait_with_output().await
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A program run by a shell.
    #[cfg(unix)]
    fn program(folder: &Path, script: &str) -> String {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.join("docker-credential-test");
        // Written elsewhere and moved: a program that a process has open for writing can't be run.
        let draft = folder.join("draft");
        std::fs::write(&draft, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(draft, &path).unwrap();
        path.display().to_string()
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn every_answer_of_a_helper_is_understood() {
        let folder = tempfile::tempdir().unwrap();
        let password = |name: &str, word: &str| login(name.to_owned(), word.to_owned());
        for (script, expected) in [
            (r#"read h; echo "{\"Username\":\"u\",\"Secret\":\"$1 $h\"}""#, Ok(Some(password("u", "get h.io")))),
            (r#"echo '{"Username":"<token>","Secret":"t"}'"#, Ok(Some(Credential::IdentityToken("t".into())))),
            (r#"echo '{"Username":"","Secret":""}'"#, Ok(None)),
            ("echo credentials not found in native keychain; exit 1", Ok(None)),
            ("echo no keychain here; exit 1", Err("failed (exit status: 1): no keychain here")),
            ("echo secret", Err("gave an invalid answer")),
            ("echo credentials not found >&2; exit 1", Ok(None)),
            ("echo locked >&2; exit 1", Err("failed (exit status: 1): locked")),
            ("echo one; echo two >&2; exit 3", Err("failed (exit status: 3): one; two")),
            (r"printf 'a\033[2J\n\nb\n' >&2; exit 1", Err(r"failed (exit status: 1): a\u{1b}[2J; b")),
            ("echo password=secret >&2; exit 1", Err("failed (exit status: 1): password=…")),
            ("echo https://u:secret@h.io >&2; exit 1", Err("failed (exit status: 1): https://…@h.io")),
            ("echo hint >&2; echo secret", Err("gave an invalid answer: hint")),
            ("exit 1", Err("failed (exit status: 1)")),
        ] {
            let found = consult(&program(folder.path(), script), "h.io").await;
            match (&found, expected) {
                (Ok(found), Ok(expected)) => assert!(*found == expected, "{script}"),
                (Err(why), Err(expected)) => assert!(why.contains(expected) && !why.contains("secret"), "{why}"),
                _ => panic!("{script}: {found:?}"),
            }
        }
        assert!(consult("docker-credential-absent", "h.io").await.unwrap_err().contains("isn't on the PATH"));
    }

    #[cfg(unix)]
    #[tokio::test(start_paused = true)]
    async fn a_hanging_helper_times_out() {
        let folder = tempfile::tempdir().unwrap();
        let why = consult(&program(folder.path(), "exec sleep 600"), "h.io").await.unwrap_err();
        assert!(why.contains("took longer than 30 s"), "{why}");
    }
}
