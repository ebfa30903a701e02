//! What the process was started with, captured once: variables, flags, who runs it. Tests make their own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Where the state lives on a host that was set up for the agent.
const SYSTEM_STATE_DIR: &str = "/var/lib/metacluster";

/// Everything outside the file that a configuration depends on. It has no `Debug`, since a variable may hold the cookie.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    /// Variables of ours that are no text.
    unreadable: Vec<String>,
    /// Key to flag and value.
    flags: BTreeMap<String, (String, String)>,
    system_state_dir: Option<PathBuf>,
}

impl Environment {
    /// Nothing at all: no variable, no home, no right to the system's folders.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// What this process has. The one place that reads `std::env`.
    #[must_use]
    pub fn capture() -> Self {
        let mut environment = Self::default();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str() else { continue };
            if !name.starts_with("METACLUSTER_") && !["HOME", "XDG_STATE_HOME", "ERL_EPMD_PORT"].contains(&name) {
                continue;
            }
            match value.into_string() {
                Ok(value) => drop(environment.variables.insert(name.to_owned(), value)),
                Err(_) => environment.unreadable.push(name.to_owned()),
            }
        }
        environment.unreadable.sort();
        let system = Path::new(SYSTEM_STATE_DIR);
        let writable = nix::unistd::access(system, nix::unistd::AccessFlags::W_OK).is_ok();
        if nix::unistd::geteuid().is_root() || writable {
            environment.system_state_dir = Some(system.to_owned());
        }
        environment
    }

    /// Sets a variable.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets the key at `path` (such as `api.socket`) as the flag `flag` (such as `--socket`) says. It wins over all else.
    /// The text has the form of an environment variable: lists are joined by commas.
    #[must_use]
    pub fn with_flag(mut self, flag: &str, path: &str, value: &str) -> Self {
        self.flags.insert(path.to_owned(), (flag.to_owned(), value.to_owned()));
        self
    }

    /// The home folder, where the cookie is looked for.
    #[must_use]
    pub fn home(&self) -> Option<&Path> {
        self.variable("HOME").filter(|home| !home.is_empty()).map(Path::new)
    }

    /// A variable. An empty one counts as not set.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(super) fn flag(&self, path: &str) -> Option<(&str, &str)> {
        self.flags.get(path).map(|(flag, value)| (flag.as_str(), value.as_str()))
    }

    pub(super) fn flags(&self) -> impl Iterator<Item = (&str, &str)> {
        self.flags.iter().map(|(path, (flag, _))| (path.as_str(), flag.as_str()))
    }

    pub(super) fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// The variables that begin with `METACLUSTER_`.
    pub(super) fn ours(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str).filter(|name| name.starts_with("METACLUSTER_"))
    }

    /// Where the state lives when nothing is said: the system's folder for root or where it is writable, else below
    /// `XDG_STATE_HOME` or the home folder.
    pub(super) fn default_state_dir(&self) -> Option<PathBuf> {
        if let Some(system) = &self.system_state_dir {
            return Some(system.clone());
        }
        let state = match self.variable("XDG_STATE_HOME") {
            Some(state) if Path::new(state).is_absolute() => PathBuf::from(state),
            Some(_) | None => self.home()?.join(".local/state"),
        };
        Some(state.join("metacluster"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_lives_where_it_may() {
        let nobody = Environment::empty();
        assert_eq!(nobody.default_state_dir(), None);
        let user = nobody.with_variable("HOME", "/home/ann");
        assert_eq!(user.default_state_dir(), Some(PathBuf::from("/home/ann/.local/state/metacluster")));
        let xdg = user.with_variable("XDG_STATE_HOME", "/state");
        assert_eq!(xdg.default_state_dir(), Some(PathBuf::from("/state/metacluster")));
        let relative = xdg.clone().with_variable("XDG_STATE_HOME", "state");
        assert_eq!(relative.default_state_dir(), Some(PathBuf::from("/home/ann/.local/state/metacluster")));
        let root = Environment { system_state_dir: Some(SYSTEM_STATE_DIR.into()), ..xdg };
        assert_eq!(root.default_state_dir(), Some(PathBuf::from("/var/lib/metacluster")));
    }
}
