//! The reference of all strategies, rendered from their tables.

use super::{Absent, COMMON, Key, Kind};
use crate::{catalogue::strategies, naming};

/// The reference in Markdown: one section a strategy, one row a key.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from("## Every topology\n\n");
    let everywhere: Vec<Key> = COMMON.iter().copied().chain([naming::BASENAME]).collect();
    table(&mut page, &everywhere);
    let sources = strategies().iter().filter(|info| info.gives.hosts()).map(|info| format!("`{}`", info.name));
    let sources = sources.collect::<Vec<_>>().join(", ");
    page.push_str(&format!("\n## Every source of hosts\n\nOf the strategies below, {sources}.\n\n"));
    table(&mut page, naming::HOST_KEYS);
    for info in strategies() {
        page.push_str("\n## `");
        page.push_str(info.name);
        page.push_str("`\n\n");
        page.push_str(info.summary);
        page.push_str(".\n\n");
        table(&mut page, info.keys);
    }
    page
}

fn table(page: &mut String, keys: &[Key]) {
    page.push_str("| key | takes | default | what it does |\n|---|---|---|---|\n");
    for key in keys {
        let default = match key.absent {
            Absent::Required => "(required)".to_owned(),
            Absent::Default(text) => format!("`{text}`"),
            Absent::Unset(text) => format!("({text})"),
        };
        let takes = match key.kind {
            Kind::Integer { least, most } => format!("{least} to {most}"),
            Kind::OneOf(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
            kind @ (Kind::Text
            | Kind::Secret
            | Kind::Path
            | Kind::Duration { .. }
            | Kind::Boolean
            | Kind::Address
            | Kind::Texts
            | Kind::Nodes
            | Kind::Patterns
            | Kind::Table) => kind.describe().to_owned(),
        };
        page.push_str(&format!("| `{}` | {takes} | {default} | {} |\n", key.name, key.doc));
    }
}
