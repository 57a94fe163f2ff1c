//! The last step: makes files that name upstream images use the mirror.

use std::path::Path;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::stage::Stage;
use crate::cli::{self, Global};
use crate::commands::rewrite;
use crate::report::Exit;

const FILES: [(&str, &str); 2] = [
    ("Dockerfile", "FROM nginx:1.27\nCOPY site /usr/share/nginx/html\n"),
    (
        "deployment.yaml",
        "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: metrics}
spec:
  selector: {matchLabels: {app: metrics}}
  template:
    metadata: {labels: {app: metrics}}
    spec:
      containers:
        - name: prometheus
          image: quay.io/prometheus/prometheus:v2.55.1  # comments stay
        - name: cache
          image: \"redis:7.4\"
",
    ),
];

/// Writes a Dockerfile and a Deployment beside `config`, and rewrites them.
pub(super) async fn rewrite(
    global: &Global,
    config: &Path,
    stage: &Stage,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let folder = config.parent().unwrap_or(Path::new("."));
    for (name, text) in FILES {
        std::fs::write(folder.join(name), text).with_context(|| format!("can't write {name}"))?;
    }
    stage.step("7. transship rewrite --pin --write", "Makes a Dockerfile and a Deployment use the mirror.")?;
    let global = Global { config: Some(config.to_owned()), ..global.clone() };
    let paths = FILES.map(|(name, _)| name.into()).to_vec();
    let arguments = cli::Rewrite { paths, write: true, check: false, pin: true, target: None };
    rewrite::run_in(folder, &global, &arguments, stop).await
}
