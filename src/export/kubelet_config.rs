//! Credentials for a node: the kubelet's `config.json`, in Docker's format.

use super::text::about;
use super::{Export, File, Flag, Input, Kind, Needs, Refusal, login};

pub(super) const KIND: Kind = Kind {
    name: "kubelet-config",
    about: "config.json of the kubelet, with the credentials of the targets",
    flags: &[Flag::Upstream, Flag::Yes],
    needs: Needs::Logins,
    write,
};

fn write(input: &Input<'_>) -> Result<Export, Refusal> {
    let logins = input.logins;
    if logins.known.is_empty() {
        return Err(login::none(logins));
    }
    let ecr: Vec<String> = logins.ecr.iter().map(ToString::to_string).collect();
    let left = match ecr.is_empty() {
        true => String::new(),
        false => {
            format!(
                "It lacks {}, whose tokens expire after 12 hours: see `transship export pull-secret`.",
                ecr.join(", ")
            )
        }
    };
    let about = about(
        "kubelet-config",
        &[
            &format!("Covers: all pods of a node, for {}.", login::keys(&logins.known)),
            "Limits: it contains passwords, and every pod of the node can pull with them.",
            &left,
            &login::without(logins),
            "Install: transship export kubelet-config -o /var/lib/kubelet, on each node; then restart the kubelet",
        ],
    );
    let text = login::docker_config(&logins.known);
    Ok(Export { files: vec![File { name: "config.json".to_owned(), text, is_secret: true }], aside: Some(about) })
}

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::super::tests::export_logins;

    #[test]
    fn snapshot() {
        let ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
        let options = Options::default();
        insta::assert_snapshot!(export_logins(super::KIND.name, &["g.example/b", "h.example"], &[ecr], &[], &options), @r#"
        Written by `transship export kubelet-config`. Run it again when mirror.yaml or mirror.lock changes.
        Covers: all pods of a node, for g.example/b, h.example.
        Limits: it contains passwords, and every pod of the node can pull with them.
        It lacks 123456789012.dkr.ecr.eu-west-1.amazonaws.com, whose tokens expire after 12 hours: see `transship export pull-secret`.
        Install: transship export kubelet-config -o /var/lib/kubelet, on each node; then restart the kubelet
        == config.json (secret)
        {
          "auths": {
            "g.example/b": {
              "username": "me",
              "password": "p:w",
              "auth": "bWU6cDp3"
            },
            "h.example": {
              "username": "me",
              "password": "p:w",
              "auth": "bWU6cDp3"
            }
          }
        }
        "#);
        insta::assert_snapshot!(export_logins(super::KIND.name, &[], &[ecr], &[], &options), @"
        tokens of 123456789012.dkr.ecr.eu-west-1.amazonaws.com expire after 12 hours, so a file can't contain one
        hint: configure the kubelet to request its own: use `transship export pull-secret`
        ");
    }
}
