//! The cookie, from its file or from `METACLUSTER_COOKIE`. Every way in which that can fail is one clear line.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use metacluster_types::Cookie;

use super::{
    environment::Environment,
    fault::{Fault, Origin},
};

/// A cookie is an atom: no longer than this.
const COOKIE_CHARACTERS_MAX: usize = 255;
/// White space may stand around it.
const COOKIE_FILE_BYTES_MAX: u64 = 4096;

/// The name of the variable that holds the cookie itself.
pub(super) const COOKIE_VARIABLE: &str = "METACLUSTER_COOKIE";

/// Finds the cookie. A warning is pushed for a file that others may read.
pub(super) fn find(
    file: Option<(&str, &Origin)>,
    environment: &Environment,
    warnings: &mut Vec<String>,
) -> Result<Cookie, Fault> {
    if let Some(text) = environment.variable(COOKIE_VARIABLE) {
        let origin = Origin::Environment(COOKIE_VARIABLE.to_owned());
        return check(text).map_err(|error| Fault::new(&origin, error));
    }
    let (path, origin) = match (file, environment.home()) {
        (Some((path, origin)), _) => (expand_home(path, environment), origin.clone()),
        (None, Some(home)) => (home.join(".erlang.cookie"), Origin::Default),
        (None, None) => {
            return Err(Fault::new(
                &Origin::Default,
                "no cookie: HOME is not set; name its file with cookie_file, or set METACLUSTER_COOKIE",
            ));
        }
    };
    let text = read(&path).map_err(|error| Fault::new(&origin, error))?;
    let mode = std::fs::metadata(&path).map(|metadata| metadata.permissions().mode()).unwrap_or(0);
    if mode & 0o077 != 0 {
        warnings.push(format!(
            "{origin}the cookie file {path} is open to others (mode {mode:03o}); run: chmod 600 {path}",
            path = path.display(),
            mode = mode & 0o777,
        ));
    }
    check(&text).map_err(|error| Fault::new(&origin, format!("the cookie file {}: {error}", path.display())))
}

fn read(path: &Path) -> Result<String, String> {
    let bytes = read_bounded(path, COOKIE_FILE_BYTES_MAX).map_err(|error| {
        format!("no cookie: {error}; name its file with cookie_file, set METACLUSTER_COOKIE, or start a node once")
    })?;
    String::from_utf8(bytes).map_err(|_| format!("the cookie file {} is not text", path.display()))
}

/// Reads a whole file of at most `bytes_max`; the error is a line that names it.
pub(super) fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| {
        // The system's words, where ours say no more.
        let known = [
            (io::ErrorKind::NotFound, "it does not exist"),
            (io::ErrorKind::PermissionDenied, "permission denied"),
            (io::ErrorKind::IsADirectory, "it is a folder"),
        ];
        let why = known.iter().find(|(kind, _)| *kind == error.kind());
        let why = why.map_or_else(|| error.to_string(), |(_, why)| (*why).to_owned());
        format!("cannot read {}: {why}", path.display())
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        return Err(format!("{} is larger than {bytes_max} bytes", path.display()));
    }
    Ok(bytes)
}

/// The error never shows the text.
fn check(text: &str) -> Result<Cookie, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("the cookie is empty".to_owned());
    }
    if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err("the cookie holds white space or a control character".to_owned());
    }
    let characters = text.chars().count();
    if characters > COOKIE_CHARACTERS_MAX {
        return Err(format!("the cookie has {characters} characters: at most {COOKIE_CHARACTERS_MAX}"));
    }
    Ok(Cookie::new(text))
}

/// `~/x` below the home folder.
pub(super) fn expand_home(path: &str, environment: &Environment) -> PathBuf {
    match (path.strip_prefix("~/"), environment.home()) {
        (Some(rest), Some(home)) => home.join(rest),
        (Some(_) | None, _) => PathBuf::from(path),
    }
}
