//! Tokens, plugins and the ways to the API.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use metacluster_discovery::{build, spec::Spec, trial::Trial};

use crate::{list, script::Script, slice};

#[tokio::test]
async fn a_token_that_was_rotated_is_read_again_at_once() {
    let mut script = Script::start().await;
    let mut trial = Trial::of(&script.spec("service=shop"));
    let first = script.list().await;
    assert_eq!(first.token, "token-1");
    script.write_token("token-2");
    first.refuse(401, "Unauthorized", "Unauthorized");
    let second = script.list().await;
    assert_eq!(second.token, "token-2");
    second.json(&list(&[slice("a", "shop-0", "10.0.0.4", "3")], "10", ""));
    // It was no failure.
    while trial.names().is_empty() {
        let update = trial.next().await;
        assert!(!matches!(update, metacluster_types::SourceUpdate::Failed(_)), "{update:?}");
    }
    trial.stop().await;
}

#[tokio::test]
async fn a_token_that_nobody_takes_is_told_of() {
    let mut script = Script::start().await;
    let mut trial = Trial::of(&script.spec("service=shop"));
    script.list().await.refuse(401, "Unauthorized", "Unauthorized");
    script.list().await.refuse(401, "Unauthorized", "Unauthorized");
    let line = trial.until_failed_with("does not take the credentials (401 Unauthorized: Unauthorized)").await;
    assert!(line.contains("expired, was rotated away, or is of another cluster"), "{line}");
    trial.stop().await;
}

/// Puts a program in the place of the token.
fn use_plugin(script: &Script, program: &str) {
    let path = script.folder().join("plugin");
    fs::write(&path, format!("#!/bin/sh\n{program}\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("it can be run");
    if fs::read_to_string(script.kubeconfig()).is_ok_and(|text| text.contains("exec:")) {
        return;
    }
    let text = fs::read_to_string(script.kubeconfig()).expect("a kubeconfig");
    let token = format!("{{tokenFile: {}/token}}", script.folder().display());
    let exec = format!(
        "{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: {}, interactiveMode: Never}}}}",
        path.display()
    );
    assert!(text.contains(&token));
    fs::write(script.kubeconfig(), text.replace(&token, &exec)).expect("written");
}

#[tokio::test]
async fn a_plugin_gives_the_token() {
    let mut script = Script::start().await;
    let credential =
        r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"made"}}"#;
    use_plugin(&script, &format!("echo '{credential}'"));
    let mut trial = Trial::of(&script.spec("service=shop"));
    let first = script.list().await;
    assert_eq!(first.token, "made");
    first.json(&list(&[slice("a", "shop-0", "10.0.0.4", "3")], "10", ""));
    trial.until(&["shop@10.0.0.4"]).await;
    trial.stop().await;
}

#[tokio::test]
async fn a_plugin_that_fails_or_hangs_is_told_of() {
    let script = Script::start().await;
    use_plugin(&script, "echo no session >&2; exit 3");
    let mut trial = Trial::of(&script.spec("service=shop,namespace=shop"));
    let line = trial.until_failed().await;
    assert!(
        line.starts_with("the credentials for the Kubernetes API cannot be used") && line.contains("no session"),
        "{line}"
    );
    trial.stop().await;
    // A named pipe that nobody opens: it hangs until the test opens it.
    let pipe = script.folder().join("pipe");
    assert!(metacluster_testbed::succeed("mkfifo", &[pipe.to_str().expect("a path of letters")]));
    use_plugin(&script, &format!("read -r line < {}", pipe.display()));
    let mut trial = Trial::of(&script.spec("service=shop,namespace=shop,timeout=1s"));
    let line = trial.until_failed_with("not read within 1s").await;
    assert!(line.contains("exec plugin hang?"), "{line}");
    drop(fs::OpenOptions::new().write(true).open(&pipe));
    trial.stop().await;
}

#[tokio::test]
async fn without_a_way_to_the_api_what_is_missing_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig = folder.path().join("config");
    let failed = async |rest: &str| {
        let mut trial = Trial::of(&format!("kubernetes:service=shop,kubeconfig={}{rest}", kubeconfig.display()));
        let line = trial.until_failed().await;
        trial.stop().await;
        line
    };
    let line = failed("").await;
    assert!(line.contains(&format!("the kubeconfig {} cannot be used", kubeconfig.display())), "{line}");
    assert!(line.contains("No such file"), "{line}");
    write_kubeconfig(&kubeconfig, "https://127.0.0.1:1");
    let line = failed(",context=other").await;
    assert!(line.contains("cannot be used") && line.contains("other"), "{line}");
    let line = failed("").await;
    assert_eq!(
        line,
        "endpointslices in the namespace `default`: the Kubernetes API cannot be reached: Connection refused (os error 111)"
    );
}

fn write_kubeconfig(path: &Path, server: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- name: c\n  cluster: {{server: \"{server}\"}}\n\
         users:\n- name: u\n  user: {{token: t}}\ncontexts:\n- name: c\n  context: {{cluster: c, user: u}}\n"
    );
    fs::write(path, text).expect("written");
}

#[test]
fn what_is_wrong_with_the_settings_is_told_all_at_once() {
    for (spec, faults) in [
        ("kubernetes", &["service: is missing, and `selector` too"][..]),
        ("kubernetes:resource=pods", &["selector: is missing"]),
        ("kubernetes:resource=pods,selector=app=shop,service=shop", &["service: names no pods"]),
        ("kubernetes:resource=nodes,naming=name", &["naming: `name` is none of", "resource: `nodes` is none of"]),
        ("kubernetes:service=shop,namespace=Shop", &["namespace: `Shop` is no namespace"]),
        ("kubernetes:service=shop,context=a,service_account=/x", &["service_account: has no use beside"]),
        ("kubernetes:service=shop,namespaces=shop", &["namespaces: there is no such key; did you mean `namespace`?"]),
    ] {
        let spec: Spec = spec.parse().expect("a spec");
        let told = build(&spec.strategy, &spec.settings).err().expect("faults");
        let told: Vec<String> = told.iter().map(ToString::to_string).collect();
        for fault in faults {
            assert!(told.iter().any(|line| line.starts_with(fault)), "{fault}: {told:?}");
        }
    }
}
