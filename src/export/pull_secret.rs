//! Credentials for clusters: a `kubernetes.io/dockerconfigjson` Secret. For Amazon ECR, whose tokens expire after 12
//! hours, it is a `CredentialProviderConfig` of the kubelet.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::text::{about, comment, yaml};
use super::{Export, File, Flag, Input, Kind, NAME, Needs, Refusal, login};

pub(super) const KIND: Kind = Kind {
    name: "pull-secret",
    about: "a Secret with the credentials of the targets; for ECR a CredentialProviderConfig",
    flags: &[Flag::Name, Flag::Namespace, Flag::ServiceAccount, Flag::Upstream, Flag::Yes],
    needs: Needs::Logins,
    write,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Secret<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    r#type: &'static str,
    data: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServiceAccount<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    image_pull_secrets: [Metadata<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProviderConfig {
    api_version: &'static str,
    kind: &'static str,
    providers: [Provider; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Provider {
    name: &'static str,
    match_images: Vec<String>,
    default_cache_duration: &'static str,
    api_version: &'static str,
}

fn write(input: &Input<'_>) -> Result<Export, Refusal> {
    let logins = input.logins;
    let mut files = Vec::new();
    if !logins.known.is_empty() {
        files.push(File { name: "pull-secret.yaml".to_owned(), text: secret(input), is_secret: true });
    }
    if !logins.ecr.is_empty() {
        let (name, text) = ("credential-provider-config.yaml".to_owned(), provider(input));
        files.push(File { name, text, is_secret: false });
    }
    if files.is_empty() {
        return Err(login::none(logins));
    }
    Ok(Export { files, aside: None })
}

fn secret(input: &Input<'_>) -> String {
    let options = input.options;
    let name = options.name.as_deref().unwrap_or(NAME);
    let namespaces: Vec<Option<&str>> = match options.namespaces.is_empty() {
        true => vec![None],
        false => options.namespaces.iter().map(|namespace| Some(namespace.as_str())).collect(),
    };
    let json = login::docker_config(&input.logins.known);
    let mut documents = Vec::new();
    for namespace in namespaces {
        documents.push(yaml(&Secret {
            api_version: "v1",
            kind: "Secret",
            metadata: Metadata { name, namespace },
            r#type: "kubernetes.io/dockerconfigjson",
            data: BTreeMap::from([(".dockerconfigjson", STANDARD.encode(&json))]),
        }));
        if let Some(account) = &options.service_account {
            documents.push(yaml(&ServiceAccount {
                api_version: "v1",
                kind: "ServiceAccount",
                metadata: Metadata { name: account, namespace },
                image_pull_secrets: [Metadata { name, namespace: None }],
            }));
        }
    }
    let about = about(
        "pull-secret",
        &[
            &format!("Covers: {}.", login::keys(&input.logins.known)),
            "Limits: it contains passwords, so keep it out of version control. It is for one namespace: see --namespace.",
            "Pods use it if imagePullSecrets of the pod or of its service account names it: see --service-account.",
            &login::without(input.logins),
            "Install: transship export pull-secret | kubectl apply -f -",
        ],
    );
    comment(&about) + &documents.join("---\n")
}

fn provider(input: &Input<'_>) -> String {
    let hosts: Vec<String> = input.logins.ecr.iter().map(ToString::to_string).collect();
    let about = about(
        "pull-secret",
        &[
            &format!("Covers: {}.", hosts.join(", ")),
            "Limits: tokens of Amazon ECR expire after 12 hours, so the kubelet requests its own.",
            "Nodes need ecr-credential-provider and a role with pull permission.",
            "Install: start the kubelet with --image-credential-provider-config=FILE and --image-credential-provider-bin-dir=DIR",
        ],
    );
    let config = ProviderConfig {
        api_version: "kubelet.config.k8s.io/v1",
        kind: "CredentialProviderConfig",
        providers: [Provider {
            name: "ecr-credential-provider",
            match_images: hosts,
            default_cache_duration: "12h",
            api_version: "credentialprovider.kubelet.k8s.io/v1",
        }],
    };
    comment(&about) + &yaml(&config)
}

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::super::tests::export_logins;

    #[test]
    fn snapshot() {
        let options = Options {
            namespaces: vec!["a".to_owned(), "b".to_owned()],
            service_account: Some("default".to_owned()),
            ..Options::default()
        };
        let ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
        insta::assert_snapshot!(export_logins(super::KIND.name, &["h.example"], &[ecr], &["open.example"], &options), @"
        == pull-secret.yaml (secret)
        # Written by `transship export pull-secret`. Run it again when mirror.yaml or mirror.lock changes.
        # Covers: h.example.
        # Limits: it contains passwords, so keep it out of version control. It is for one namespace: see --namespace.
        # Pods use it if imagePullSecrets of the pod or of its service account names it: see --service-account.
        # It lacks open.example: there are no credentials for them.
        # Install: transship export pull-secret | kubectl apply -f -
        apiVersion: v1
        kind: Secret
        metadata:
          name: transship
          namespace: a
        type: kubernetes.io/dockerconfigjson
        data:
          .dockerconfigjson: ewogICJhdXRocyI6IHsKICAgICJoLmV4YW1wbGUiOiB7CiAgICAgICJ1c2VybmFtZSI6ICJtZSIsCiAgICAgICJwYXNzd29yZCI6ICJwOnciLAogICAgICAiYXV0aCI6ICJiV1U2Y0RwMyIKICAgIH0KICB9Cn0K
        ---
        apiVersion: v1
        kind: ServiceAccount
        metadata:
          name: default
          namespace: a
        imagePullSecrets:
        - name: transship
        ---
        apiVersion: v1
        kind: Secret
        metadata:
          name: transship
          namespace: b
        type: kubernetes.io/dockerconfigjson
        data:
          .dockerconfigjson: ewogICJhdXRocyI6IHsKICAgICJoLmV4YW1wbGUiOiB7CiAgICAgICJ1c2VybmFtZSI6ICJtZSIsCiAgICAgICJwYXNzd29yZCI6ICJwOnciLAogICAgICAiYXV0aCI6ICJiV1U2Y0RwMyIKICAgIH0KICB9Cn0K
        ---
        apiVersion: v1
        kind: ServiceAccount
        metadata:
          name: default
          namespace: b
        imagePullSecrets:
        - name: transship
        == credential-provider-config.yaml
        # Written by `transship export pull-secret`. Run it again when mirror.yaml or mirror.lock changes.
        # Covers: 123456789012.dkr.ecr.eu-west-1.amazonaws.com.
        # Limits: tokens of Amazon ECR expire after 12 hours, so the kubelet requests its own.
        # Nodes need ecr-credential-provider and a role with pull permission.
        # Install: start the kubelet with --image-credential-provider-config=FILE and --image-credential-provider-bin-dir=DIR
        apiVersion: kubelet.config.k8s.io/v1
        kind: CredentialProviderConfig
        providers:
        - name: ecr-credential-provider
          matchImages:
          - 123456789012.dkr.ecr.eu-west-1.amazonaws.com
          defaultCacheDuration: 12h
          apiVersion: credentialprovider.kubelet.k8s.io/v1
        ");
        insta::assert_snapshot!(export_logins(super::KIND.name, &[], &[], &["open.example"], &options), @"
        there are no credentials for open.example
        hint: set username and password for it under registries: in mirror.yaml, or log in with docker or podman
        ");
    }
}
