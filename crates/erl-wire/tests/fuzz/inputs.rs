//! The inputs of `corpus/`: lines of a name and bytes in hexadecimal.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The folder.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// Name and bytes of every input, in the order of the names of the files.
pub(crate) fn all() -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder()).expect("the corpus").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    files.iter().flat_map(|path| read(path)).collect()
}

/// Those of one file.
fn read(path: &Path) -> Vec<(String, Vec<u8>)> {
    let text = fs::read_to_string(path).expect("UTF-8");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let (name, hex) = (words.next().expect("a name"), words.next().unwrap_or_default());
            assert!(hex.len() % 2 == 0, "{name}: half a byte");
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("digits");
            (name.to_owned(), (0..hex.len()).step_by(2).map(byte).collect())
        })
        .collect()
}
