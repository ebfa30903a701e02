//! Where seeds are given: user data, the environment, a file, the kernel command line.

use std::{
    env, fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::grammar::Form;
use crate::aws::metadata::{imds::Imds, is_instance};

/// Longer texts are none. User data has at most 16 kB, a kernel command line 4 kB.
const BYTES_MAX: u64 = 64 << 10;
/// Where Linux shows its command line.
const COMMAND_LINE: &str = "/proc/cmdline";

/// One place.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// The user data of an instance. `sure` says that it was asked for by name, and so has to be there.
    UserData { imds: Arc<Imds>, sure: bool },
    /// A variable.
    Environment { name: String, sure: bool },
    /// A file.
    File { path: PathBuf },
    /// The kernel command line, from the file that shows it.
    Kernel { path: PathBuf },
}

impl Place {
    pub(super) fn user_data(sure: bool) -> Self {
        Self::UserData { imds: Arc::new(Imds::of_environment()), sure }
    }

    pub(super) fn kernel() -> Self {
        Self::Kernel { path: COMMAND_LINE.into() }
    }

    /// What it is called.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::UserData { .. } => "the user data".to_owned(),
            Self::Environment { name, .. } => format!("the variable {name}"),
            Self::File { path } => path.display().to_string(),
            Self::Kernel { .. } => "the kernel command line".to_owned(),
        }
    }

    /// Who or what is asked for it.
    pub(super) fn asked(&self) -> String {
        match self {
            Self::UserData { .. } => "the instance metadata service".to_owned(),
            Self::Environment { .. } | Self::File { .. } | Self::Kernel { .. } => self.describe(),
        }
    }

    /// How it is written there.
    pub(super) fn form(&self) -> Form {
        match self {
            Self::UserData { .. } => Form::Marked,
            Self::Environment { .. } | Self::File { .. } => Form::Own,
            Self::Kernel { .. } => Form::Kernel,
        }
    }

    /// What stands there, `None` if the place does not exist and need not. The error is a line.
    pub(super) async fn read(&self) -> Result<Option<String>, String> {
        match self {
            Self::UserData { imds, sure } => {
                if !sure && !is_instance() {
                    return Ok(None);
                }
                let bytes = imds.get("/latest/user-data").await.map_err(|error| error.to_string())?;
                let Some(bytes) = bytes else { return Ok(None) };
                if bytes.starts_with(&[0x1f, 0x8b]) {
                    return Err("the user data is compressed: seeds are read from plain user data alone".to_owned());
                }
                Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
            }
            Self::Environment { name, sure } => match env::var(name) {
                Ok(text) => Ok(Some(text)),
                Err(env::VarError::NotPresent) if !sure => Ok(None),
                Err(env::VarError::NotPresent) => Err(format!("the variable {name} is not set")),
                Err(env::VarError::NotUnicode(_)) => Err(format!("the variable {name} is no text")),
            },
            Self::File { path } => file(path).map(Some),
            Self::Kernel { path } => Ok(file(path).ok()),
        }
    }
}

fn file(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!("{} is longer than {BYTES_MAX} bytes: it is no file of seeds", path.display()));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
