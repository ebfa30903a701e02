//! The entries of `[[handler]]`.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use metacluster_types::{EventKind, Pattern};

use super::{
    HandlerConfig,
    fault::{Fault, Origin, suggestion},
    keys::HANDLER_KEYS,
    raw::Raw,
    values::Values,
};

/// Validates every entry.
pub(super) fn validate(entries: Vec<Raw>, faults: &mut Vec<Fault>, warnings: &mut Vec<String>) -> Vec<HandlerConfig> {
    let mut handlers = Vec::new();
    for raw in entries {
        match raw.value.into_table() {
            Ok(table) => {
                let values = Values::of_entry(HANDLER_KEYS, "[[handler]]", table, &raw.origin, faults);
                handlers.extend(handler(&values, faults, warnings));
            }
            Err(other) => faults.push(Fault::new(&raw.origin, format!("a handler is a table, not {}", other.what()))),
        }
    }
    handlers
}

fn handler(values: &Values, faults: &mut Vec<Fault>, warnings: &mut Vec<String>) -> Option<HandlerConfig> {
    let (on, named) = events(values, faults);
    let command: Vec<String> = values.list("command").iter().map(|(word, _)| word.clone()).collect();
    let origin = values.origin("command");
    match command.first() {
        Some(program) if program.is_empty() => {
            faults.push(Fault::new(origin, "`command`: the name of the program is empty"));
        }
        Some(_) if command.iter().any(|word| word.contains('\0')) => {
            faults.push(Fault::new(origin, "`command`: a word holds a zero byte"));
        }
        Some(program) => {
            warnings.extend(not_runnable(program).map(|why| format!("{origin}the handler {program} {why}")))
        }
        None if origin.is_explicit() => {
            faults.push(Fault::new(origin, "`command`: expected the program and its arguments, got an empty list"));
        }
        // It is missing, or no list of texts: that was reported.
        None => {}
    }
    Some(HandlerConfig {
        on,
        named,
        command,
        at_most: values.number("at_most").and_then(|number| usize::try_from(number).ok())?,
        timeout: values.duration("timeout").filter(|timeout| *timeout > Duration::ZERO)?,
    })
}

/// What a handler is for: kinds of events, and user events and queries by name.
type On = (BTreeSet<EventKind>, Vec<(EventKind, Pattern)>);

fn events(values: &Values, faults: &mut Vec<Fault>) -> On {
    let mut on = BTreeSet::new();
    let mut named = Vec::new();
    for (word, origin) in values.list("on") {
        if let Some((kind, name)) = word.split_once(':') {
            match [EventKind::User, EventKind::Query].into_iter().find(|of| of.as_str() == kind) {
                Some(kind) if !name.is_empty() => named.push((kind, Pattern::new(name))),
                Some(_) | None => faults.push(Fault::new(
                    origin,
                    format!("`on`: expected `user:NAME` or `query:NAME`, such as \"user:deploy\", got `{word}`"),
                )),
            }
            continue;
        }
        match EventKind::ALL.into_iter().find(|kind| kind.as_str() == word) {
            Some(kind) => drop(on.insert(kind)),
            None => {
                let near = suggestion(word, EventKind::ALL.map(EventKind::as_str));
                faults.push(Fault::new(origin, format!("`on`: there is no event `{word}`{near}")));
            }
        }
    }
    let origin: &Origin = values.origin("on");
    if values.list("on").is_empty() && origin.is_explicit() {
        faults.push(Fault::new(origin, "`on`: expected one event at least, such as \"nodedown\""));
    }
    (on, named)
}

/// A program that is named by a path should be there. It may still come, so this is no fault.
fn not_runnable(program: &str) -> Option<&'static str> {
    if !program.contains('/') {
        return None;
    }
    match std::fs::metadata(Path::new(program)) {
        Err(_) => Some("does not exist, or cannot be seen from here"),
        Ok(metadata) if metadata.is_dir() => Some("is a folder"),
        Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => Some("is not executable; run chmod +x on it"),
        Ok(_) => None,
    }
}
