//! `cargo xtask otp RELEASE`: the tests of the distribution and of epmd against another release of Erlang/OTP.
//!
//! A release comes from the Debian suite that has it, unpacked by debootstrap into a folder under cargo's target folder,
//! made once and kept. Its programs do not run on the libraries of this machine, so each is started in its folder as
//! root, with this machine's processes, devices and files bound into it, in a mount namespace that ends with the
//! program. The tests find these programs first on their path, and notice nothing else.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use metacluster_testbed::{Tool, capture};

use crate::{
    process::{cargo, must, root, step, target_folder},
    setup,
};

/// The releases, and the Debian suite that has each. The first is that of the machine, if it is Debian 12.
const RELEASES: [(&str, Option<&str>); 3] = [("25", None), ("27", Some("trixie")), ("29", Some("forky"))];
/// A script of debootstrap that fits every current suite, for a machine whose debootstrap does not know the name yet.
const SCRIPT: &str = "/usr/share/debootstrap/scripts/sid";
const PACKAGES: &str = "elixir,erlang-base,erlang-crypto,erlang-dev,erlang-runtime-tools,erlang-ssl";
/// What the tests start by name.
const PROGRAMS: [&str; 8] = ["elixir", "epmd", "erl", "erl_call", "erlc", "escript", "iex", "run_erl"];
/// The file that says what a folder holds, once it is complete.
const MARK: &str = "complete";

/// The tests that talk to a real node, and that of two clusters of which one has the machine's own release. Those of epmd
/// that put ours into the folders of that release are left out.
const TESTS: [&[&str]; 3] = [
    &["test", "--no-fail-fast", "--package", "metacluster-erl", "--tests", "--examples"],
    &[
        "test",
        "--no-fail-fast",
        "--package",
        "metacluster-cli",
        "--test",
        "epmd",
        "--",
        "--skip",
        "where_it_finds_it",
        "--skip",
        "rabbitmq",
    ],
    &["test", "--package", "metacluster-cli", "--test", "cluster", "federation_releases::"],
];

/// Sets the release up and runs the tests against it.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let known = || RELEASES.map(|(release, _)| release).join(", ");
    let [release] = arguments else { bail!("which release? There are {}", known()) };
    let Some((release, suite)) = RELEASES.into_iter().find(|(name, _)| name == release) else {
        bail!("no release {release}; there are {}", known());
    };
    let path = match suite {
        None => {
            setup::provide(&[Tool::Erl, Tool::ErlangCrypto])?;
            env::var("PATH").unwrap_or_default()
        }
        Some(suite) => {
            let folder = target_folder()?.join("otp").join(release);
            step(&format!("OTP {release} of {suite}"), || provide(suite, &folder))?;
            format!("{}:{}", folder.join("bin").display(), env::var("PATH").unwrap_or_default())
        }
    };
    let found = Command::new("erl").env("PATH", &path).args(["-noshell", "-eval", TELL]).output().context("no erl")?;
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    if found != release {
        bail!("`erl` is of OTP {found:?}, not {release}");
    }
    // The programs of the tests alone get the path: were it that of cargo, all that is built would be built again.
    let runner = format!("target.'cfg(all())'.runner = ['env', {}]", toml_text(&format!("PATH={path}"))?);
    let mut outcome = Ok(());
    for tests in TESTS {
        let ran = must(cargo(&["--config", &runner]).args(tests).env("CI", "true"));
        outcome = outcome.and(ran);
    }
    outcome
}

const TELL: &str = "io:format(\"~s\", [erlang:system_info(otp_release)]), halt().";

/// Unpacks a suite, and makes the programs that start those in it.
fn provide(suite: &str, folder: &Path) -> Result<()> {
    setup::provide(&[Tool::Debootstrap])?;
    let (system, programs) = (folder.join("system"), folder.join("bin"));
    let holds = format!("{suite} {PACKAGES}");
    if fs::read_to_string(folder.join(MARK)).ok().as_deref() != Some(&holds) {
        if system.exists() {
            fs::remove_dir_all(&system)?;
        }
        fs::create_dir_all(&system)?;
        let include = format!("--include={PACKAGES}");
        must(
            Command::new("debootstrap")
                .args(["--variant=minbase", &include, suite])
                .arg(&system)
                .args([&mirror()?, SCRIPT]),
        )?;
        fs::write(folder.join(MARK), holds)?;
    }
    // Names mean there what they mean here.
    for file in ["etc/hosts", "etc/resolv.conf"] {
        fs::copy(Path::new("/").join(file), system.join(file)).with_context(|| format!("cannot copy /{file}"))?;
    }
    fs::create_dir_all(&programs)?;
    let enter = folder.join("enter");
    script(&enter, &entering(&system)?)?;
    for program in PROGRAMS {
        let start = format!("exec unshare --mount --propagation unchanged {} {program} \"$@\"\n", quoted(&enter)?);
        script(&programs.join(program), &start)?;
    }
    Ok(())
}

/// Where this machine gets its own Debian packages from.
fn mirror() -> Result<String> {
    let targets = ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"];
    let found = capture(Command::new("apt-get").args(targets))?;
    found.lines().next().map(str::to_owned).context("apt knows no source of Debian packages: apt-get update")
}

/// Binds what the tests share with their nodes into the system, and goes there. Only what is not shared with other mount
/// namespaces is bound, so nothing of it is seen outside. The path is the system's own: its programs come first on ours.
fn entering(system: &Path) -> Result<String> {
    let temporary = env::temp_dir();
    let shared = [Path::new("/proc"), Path::new("/dev"), &temporary, &root(), &target_folder()?];
    let mut text = "mount --make-rprivate / 2>/dev/null\n".to_owned();
    for folder in shared {
        let (from, to) = (quoted(folder)?, quoted(&within(system, folder))?);
        text.push_str(&format!("mkdir -p {to} && mount --bind {from} {to} || exit 1\n"));
    }
    let system = quoted(system)?;
    text.push_str(&format!(
        "exec chroot {system} /usr/bin/env -C \"$PWD\" PATH=/usr/sbin:/usr/bin:/sbin:/bin \"$@\"\n"
    ));
    Ok(text)
}

fn within(system: &Path, folder: &Path) -> PathBuf {
    system.join(folder.strip_prefix("/").unwrap_or(folder))
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> Result<String> {
    let text = path.to_str().context("a folder whose name is not UTF-8")?;
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

/// A text as a literal of TOML.
fn toml_text(text: &str) -> Result<String> {
    if text.contains(['\'', '\n']) {
        bail!("a path with a quotation mark or a line break: {text:?}");
    }
    Ok(format!("'{text}'"))
}

fn script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, format!("#!/bin/sh\n{text}"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
