//! What each file must be: documented, of a size that a person reads, and of no machine in particular.

/// More lines than this, and the file has two subjects.
const LINES_MAX: usize = 600;

/// Files that may be longer, each with the reason.
const LONG: [(&str, &str); 1] =
    [("crates/sim/src/formation/world.rs", "one machine: sources, nodes, links and faults share their state")];

/// Parts of paths that only one machine has. Put together here, so that this file does not hold them.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/tmp/", "mc/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];

/// Every fault of a file, one line each.
pub(super) fn check(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if path.ends_with(".rs") {
        if !text.trim_start().starts_with("//!") {
            faults.push(format!("{path}:1: opens with no `//!` that says its job"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX && !LONG.iter().any(|&(long, _)| long == path) {
            faults.push(format!("{path}: has {lines} lines, more than {LINES_MAX}; split it by subject"));
        }
    }
    for (number, line) in text.lines().enumerate() {
        if let Some(found) = MACHINE_PATHS.iter().find(|&&part| line.contains(part)) {
            faults.push(format!("{path}:{}: names the path `{found}` of one machine", number + 1));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_documented_file_is_fine() {
        assert_eq!(check("src/a.rs", "//! Adds.\n\nfn add() {}\n"), Vec::<String>::new());
        assert_eq!(check("README.md", "# Title\n"), Vec::<String>::new());
    }

    #[test]
    fn a_file_without_its_job_is_a_fault() {
        for text in ["fn add() {}\n", "", "// Adds.\n"] {
            assert_eq!(check("src/a.rs", text).len(), 1, "{text:?}");
        }
    }

    #[test]
    fn a_long_file_is_a_fault() {
        let text = format!("//! Adds.\n{}", "\n".repeat(LINES_MAX));
        assert!(check("src/a.rs", &text)[0].contains("split it by subject"));
    }

    #[test]
    fn a_path_of_one_machine_is_a_fault() {
        let faults = check("notes.md", &format!("fine\nsee {}x\n", MACHINE_PATHS[0]));
        assert!(faults[0].starts_with("notes.md:2:"), "{faults:?}");
    }
}
