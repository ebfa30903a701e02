//! What the pages of the strategies show is what the binary takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::support::binary;

/// Every page by its name, without that of all.
fn pages() -> Result<BTreeMap<String, String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/strategies");
    let mut pages = BTreeMap::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_stem().context("a name")?.to_string_lossy().into_owned();
        if name != "README" {
            pages.insert(name, fs::read_to_string(&path)?);
        }
    }
    Ok(pages)
}

/// What stands in a page between marks of this language.
fn blocks<'p>(page: &'p str, language: &str) -> Vec<&'p str> {
    let begin = format!("```{language}\n");
    page.split(&begin).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// The configurations of a page: those that stand alone, and those within a `ConfigMap`.
fn examples(page: &str) -> Vec<String> {
    let mapped = blocks(page, "yaml").into_iter().filter_map(|block| block.split_once("metacluster.toml: |\n"));
    let mapped = mapped.map(|(_, file)| {
        let lines = file.lines().map_while(|line| line.strip_prefix("    ").or_else(|| line.is_empty().then_some("")));
        lines.flat_map(|line| [line, "\n"]).collect()
    });
    blocks(page, "toml").into_iter().map(str::to_owned).chain(mapped).collect()
}

#[test]
fn every_strategy_has_a_page_with_its_rights_and_an_example_that_is_taken() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut shown = BTreeSet::new();
    for (name, page) in &pages()? {
        ensure!(page.contains("## Rights") || page.contains("least rights"), "{name}: which rights?");
        ensure!(page.contains("metacluster discover "), "{name}: how is it tried?");
        for example in examples(page) {
            let file = folder.path().join("metacluster.toml");
            // The file of the cookie is not there.
            let lines = example.lines().filter(|line| !line.starts_with("cookie_file = "));
            fs::write(&file, lines.flat_map(|line| [line, "\n"]).collect::<String>())?;
            let mut check = Command::new(binary());
            check.env("METACLUSTER_COOKIE", "of-the-pages").arg("check-config").arg(&file);
            let output = check.output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{name}:\n{example}\n{said}");
            let strategies = example.lines().filter_map(|line| line.strip_prefix("strategy = \"")?.strip_suffix('"'));
            shown.extend(strategies.map(str::to_owned));
        }
    }
    let help = Command::new(binary()).args(["discover", "--help"]).output()?;
    let help = String::from_utf8(help.stdout)?;
    let (_, listed) = help.split_once("Strategies:\n").context("the strategies")?;
    let listed = listed.lines().map_while(|line| line.strip_prefix("  ")?.split(' ').next());
    let listed: BTreeSet<String> = listed.map(str::to_owned).collect();
    ensure!(listed.len() > 10 && listed == shown, "listed: {listed:?}\nshown: {shown:?}");
    Ok(())
}

/// A line of a page that tries a strategy is none that would be refused before anybody is asked.
#[test]
fn every_try_that_a_page_shows_is_understood() -> Result<()> {
    for (name, page) in &pages()? {
        let lines = blocks(page, "console").into_iter().flat_map(str::lines);
        for line in lines.filter_map(|line| line.split_once("metacluster discover ").map(|(_, rest)| rest)) {
            // With a key more that there is not, all faults are told and nothing is asked.
            let arguments: Vec<&str> = line.split_whitespace().map(|word| word.trim_matches(['\'', '"'])).collect();
            let output = Command::new(binary()).arg("discover").args(&arguments).arg("no_such_key=1").output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            let faults: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
            ensure!(
                output.status.code() == Some(2) && faults.len() == 1 && faults[0].contains("no_such_key"),
                "{name}: {line}\n{said}"
            );
        }
    }
    Ok(())
}

/// Silence would leave open whether anybody was asked.
#[test]
fn an_answer_without_anybody_is_said_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("peers");
    fs::write(&path, "")?;
    let path = format!("path={}", path.display());
    let output = Command::new(binary()).args(["discover", "file", &path]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && output.stdout.is_empty(), "{said}");
    ensure!(said.trim() == "file: it answers, and knows nobody", "{said}");
    let output = Command::new(binary()).args(["discover", "--json", "file", &path]).output()?;
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.stderr.is_empty() && answer["candidates"] == serde_json::json!([]), "{answer}");
    Ok(())
}
