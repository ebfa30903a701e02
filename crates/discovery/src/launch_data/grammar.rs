//! How seeds are written.
//!
//! ```text
//! seed    = host [ ":" port ]                10.0.0.4, 10.0.0.4:45893, seed.internal, [fd00::4]:45893, fd00::4
//! own     = { [ "seed=" ] seed | "," }       a variable or a file of seeds alone; `#` begins a comment
//! kernel  = { "metacluster.seed=" seed { "," seed } | other words }
//! json    = { "metacluster": { "seeds": [ seed, … ] } }       without "metacluster" where it holds seeds alone
//! ```
//! User data holds other things too, so there only what is marked counts, be the rest a shell script, a cloud-config or
//! several parts (MIME):
//!
//! ```text
//! #metacluster seed=10.0.0.4 seed=10.0.0.5       a comment line, any number of them
//!
//! #metacluster                                   a part that begins so: its lines are `own`, up to its end
//! seed=10.0.0.4
//!
//! metacluster:                                   a section of a cloud-config, at the beginning of a line
//!   seeds:
//!     - 10.0.0.4
//!     - seed.internal:45893
//! ```
//! Invariants: what is not marked is passed over without a word; a seed that is none is told and hides no other; at most
//! [`SEEDS_MAX`] are taken.

use std::net::{IpAddr, Ipv6Addr};

use serde_json::Value;

/// More seeds are not taken.
const SEEDS_MAX: usize = 1000;
/// The line that begins a part of seeds, and the word that begins a comment of seeds.
const MARK: &str = "#metacluster";
/// The section of a cloud-config or of a JSON object.
const SECTION: &str = "metacluster";
/// The parameter of the kernel command line.
const PARAMETER: &str = "metacluster.seed=";
const SEED: &str = "seed=";

/// A host to begin with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seed {
    /// An address or a name.
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

/// What a text said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seeds {
    /// In the order of the text, each once.
    pub(super) seeds: Vec<Seed>,
    /// What was meant to be a seed and is none.
    pub(super) faults: Vec<String>,
}

/// Where a text comes from, which says what in it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Seeds alone.
    Own,
    /// Marked seeds among other things.
    Marked,
    /// The parameters of a kernel.
    Kernel,
}

impl Seeds {
    /// Reads a text.
    pub(super) fn read(text: &str, form: Form) -> Self {
        let mut seeds = Self::default();
        match form {
            Form::Kernel => {
                let values = text.split_whitespace().filter_map(|word| word.strip_prefix(PARAMETER));
                values.for_each(|value| seeds.words(value));
            }
            Form::Own | Form::Marked => {
                let text = text.trim_start_matches('\u{feff}');
                if !seeds.json(text, form) {
                    seeds.lines(text, form);
                }
            }
        }
        seeds
    }

    /// Whether the text is JSON; then its seeds are taken.
    fn json(&mut self, text: &str, form: Form) -> bool {
        if !text.trim_start().starts_with(['{', '[']) || text.trim_start().starts_with("[f") {
            return false;
        }
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(_) if form == Form::Marked => return true,
            // A list of IPv6 addresses in brackets looks like JSON and is none.
            Err(_) if text.trim_start().starts_with('[') => return false,
            Err(error) => {
                self.faults.push(format!("no JSON: {error}"));
                return true;
            }
        };
        let section = value.get(SECTION);
        let list = match (section, form) {
            (Some(section), _) => section.get("seeds"),
            (None, Form::Own) => value.get("seeds").or_else(|| value.is_array().then_some(&value)),
            (None, Form::Marked | Form::Kernel) => None,
        };
        match list {
            Some(Value::Array(list)) => list.iter().for_each(|item| match item.as_str() {
                Some(text) => self.word(text),
                None => self.faults.push(format!("`{item}` is no seed: expected a text such as \"10.0.0.4\"")),
            }),
            Some(_) => self.faults.push("`seeds` is no list: expected one such as [\"10.0.0.4\"]".to_owned()),
            None if section.is_some() || form == Form::Own => {
                self.faults.push("there is no `seeds`: expected a list such as [\"10.0.0.4\"]".to_owned());
            }
            None => {}
        }
        true
    }

    fn lines(&mut self, text: &str, form: Form) {
        // What the lines are in: a part of seeds, a section, or something of others.
        let mut own = form == Form::Own;
        let mut section: Option<Section> = None;
        for line in text.lines() {
            let line = line.trim_end();
            if let Some(open) = &mut section {
                match open.take(line) {
                    Took::Words(words) => self.words(words),
                    Took::Nothing => {}
                    Took::Ends => section = None,
                }
                if section.is_some() {
                    continue;
                }
            }
            if let Some(rest) = line.trim_start().strip_prefix(MARK) {
                if rest.is_empty() {
                    own = true;
                } else if rest.starts_with(char::is_whitespace) {
                    self.words(rest);
                }
            } else if line.split('#').next().unwrap_or_default().trim_end() == "metacluster:" {
                section = Some(Section::default());
            } else if form == Form::Marked && line.starts_with("--") {
                // The end of a MIME part.
                own = false;
            } else if own {
                self.words(line.split('#').next().unwrap_or_default());
            }
        }
    }

    /// Seeds with spaces and commas between them.
    fn words(&mut self, text: &str) {
        for word in text.split(|letter: char| letter.is_whitespace() || letter == ',').filter(|word| !word.is_empty()) {
            self.word(word);
        }
    }

    fn word(&mut self, word: &str) {
        let word = word.trim().trim_matches(['"', '\'']);
        let word = word.strip_prefix(SEED).unwrap_or(word).trim_matches(['"', '\'']);
        match seed(word) {
            Some(seed) if self.seeds.contains(&seed) => {}
            Some(seed) if self.seeds.len() < SEEDS_MAX => self.seeds.push(seed),
            Some(_) => {
                let line = format!("more than {SEEDS_MAX} seeds: the rest is left out");
                if self.faults.last() != Some(&line) {
                    self.faults.push(line);
                }
            }
            None => {
                let shown: String = word.chars().take(80).filter(|letter| !letter.is_control()).collect();
                self.faults.push(format!("`{shown}` is no seed: expected one such as 10.0.0.4 or seed.internal:45893"));
            }
        }
    }
}

/// A section of a cloud-config: `seeds` as a list, on lines of its own or in brackets.
#[derive(Debug, Default)]
struct Section {
    in_seeds: bool,
}

enum Took<'a> {
    Words(&'a str),
    Nothing,
    Ends,
}

impl Section {
    fn take<'a>(&mut self, line: &'a str) -> Took<'a> {
        let line = line.split(" #").next().unwrap_or_default().trim_end();
        let inner = line.trim_start();
        if inner.is_empty() || inner.starts_with('#') {
            return Took::Nothing;
        }
        if inner.len() == line.len() && !inner.starts_with("- ") {
            return Took::Ends;
        }
        if let Some(rest) = inner.strip_prefix("seeds:") {
            self.in_seeds = true;
            return Took::Words(rest.trim().trim_start_matches('[').trim_end_matches(']'));
        }
        match inner.strip_prefix("- ") {
            Some(item) if self.in_seeds => Took::Words(item),
            Some(_) => Took::Nothing,
            None => {
                self.in_seeds = false;
                Took::Nothing
            }
        }
    }
}

/// Reads `host`, `host:port`, `[IPv6]:port` or an IPv6 address alone.
fn seed(text: &str) -> Option<Seed> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Some(Seed { host: text.to_owned(), port: None });
    }
    let port = |text: &str| text.parse::<u16>().ok().filter(|&port| port > 0);
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        address.parse::<Ipv6Addr>().ok()?;
        let port = match rest.strip_prefix(':') {
            Some(text) => Some(port(text)?),
            None if rest.is_empty() => None,
            None => return None,
        };
        return Some(Seed { host: address.to_owned(), port });
    }
    let (host, port) = match text.split_once(':') {
        Some((host, text)) => (host, Some(port(text)?)),
        None => (text, None),
    };
    is_host(host).then(|| Seed { host: host.to_owned(), port })
}

/// Whether a text is an IPv4 address or a name that DNS can hold.
fn is_host(text: &str) -> bool {
    if text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    // Numbers and dots alone are an address that is none.
    let named = text.bytes().any(|byte| byte.is_ascii_alphabetic());
    named && text.len() <= 253 && text.trim_end_matches('.').split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, form: Form) -> Vec<String> {
        let read = Seeds::read(text, form);
        assert_eq!(read.faults, Vec::<String>::new(), "{text}");
        let shown = |seed: Seed| seed.port.map_or(seed.host.clone(), |port| format!("{} {port}", seed.host));
        read.seeds.into_iter().map(shown).collect()
    }

    #[test]
    fn a_text_of_seeds_alone_is_read_in_each_way_of_writing() {
        let wanted = ["10.0.0.4", "seed.internal 45893", "fd00::4 7", "fd00::5"];
        for text in [
            "10.0.0.4,seed.internal:45893 [fd00::4]:7 , fd00::5",
            "# the first hosts\nseed=10.0.0.4\nseed=seed.internal:45893 # in DNS\n\n[fd00::4]:7\nseed=fd00::5\n",
            r#"{"seeds": ["10.0.0.4", "seed.internal:45893", "[fd00::4]:7", "fd00::5"]}"#,
            r#"{"metacluster": {"seeds": ["10.0.0.4", "seed.internal:45893", "[fd00::4]:7", "fd00::5"]}}"#,
            r#"["10.0.0.4", "seed.internal:45893", "[fd00::4]:7", "fd00::5"]"#,
            "metacluster:\n  seeds:\n    - 10.0.0.4\n    - seed.internal:45893\n    - '[fd00::4]:7'\n    - fd00::5\n",
        ] {
            assert_eq!(read(text, Form::Own), wanted, "{text}");
        }
        assert_eq!(read("[2001:db8::4]:7", Form::Own), ["2001:db8::4 7"], "brackets are no JSON");
        assert_eq!(read("", Form::Own), Vec::<String>::new());
        assert_eq!(read("10.0.0.4 10.0.0.4", Form::Own), ["10.0.0.4"], "each once");
    }

    #[test]
    fn user_data_is_read_only_where_it_is_marked() {
        let wanted = ["10.0.0.4", "10.0.0.5 45893"];
        for text in [
            "#!/bin/sh\nset -e\n#metacluster seed=10.0.0.4 seed=10.0.0.5:45893\necho seed=10.9.9.9\n",
            "#!/bin/sh\n  #metacluster seed=10.0.0.4\nexport A=1\n#metacluster seed=10.0.0.5:45893\n",
            "#metacluster\nseed=10.0.0.4\nseed=10.0.0.5:45893\n",
            "#cloud-config\npackages:\n  - curl\nmetacluster:\n  seeds:\n    - 10.0.0.4\n    - 10.0.0.5:45893\nruncmd:\n  - x\n",
            "#cloud-config\nmetacluster:\n  # the first two\n  seeds: [10.0.0.4, \"10.0.0.5:45893\"]\n",
            "#cloud-config\nmetacluster:\n  name: [10.8.8.8]\n  seeds:\n  - 10.0.0.4\n  - 10.0.0.5:45893\n  other:\n  - 10.9.9.9\n",
            r#"{"app": {"seeds": ["10.9.9.9"]}, "metacluster": {"seeds": ["10.0.0.4", "10.0.0.5:45893"]}}"#,
            "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"==B\"\n\n--==B\nContent-Type: text/x-metacluster\n\n\
             #metacluster\n10.0.0.4\n10.0.0.5:45893\n--==B\nContent-Type: text/x-shellscript\n\n#!/bin/sh\necho 1\n--==B--\n",
        ] {
            assert_eq!(read(text, Form::Marked), wanted, "{text}");
        }
        for text in [
            "",
            "#!/bin/sh\nseed=10.9.9.9\n",
            "#metaclusters seed=10.9.9.9",
            "{\"seeds\": [\"10.9.9.9\"]}",
            "{ not json",
            "metaclusters:\n  seeds:\n    - 10.9.9.9\n",
            "write_files:\n  - metacluster:\n      seeds: [10.9.9.9]\n",
        ] {
            assert_eq!(read(text, Form::Marked), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn the_kernel_command_line_is_read() {
        let line = "BOOT_IMAGE=/vmlinuz root=/dev/sda1 metacluster.seed=10.0.0.4,10.0.0.5:7 quiet metacluster.seed=s.internal\n";
        assert_eq!(read(line, Form::Kernel), ["10.0.0.4", "10.0.0.5 7", "s.internal"]);
        assert_eq!(read("quiet seed=10.9.9.9", Form::Kernel), Vec::<String>::new());
    }

    #[test]
    fn a_seed_that_is_none_is_told_and_hides_no_other() {
        for (text, wrong) in [
            ("10.0.0.4 10.0.0.300", "10.0.0.300"),
            ("10.0.0.4 host:port", "host:port"),
            ("10.0.0.4 host:0", "host:0"),
            ("10.0.0.4 host:99999", "host:99999"),
            ("10.0.0.4 http://x/", "http://x/"),
            ("10.0.0.4 [fd00::4", "[fd00::4"),
            ("10.0.0.4 seed=", ""),
        ] {
            let read = Seeds::read(text, Form::Own);
            assert_eq!(read.seeds, [Seed { host: "10.0.0.4".to_owned(), port: None }], "{text}");
            assert_eq!(read.faults.len(), 1, "{text}: {read:?}");
            assert!(read.faults[0].starts_with(&format!("`{wrong}` is no seed")), "{read:?}");
        }
        for text in ["{\"seeds\": 1}", "{\"metacluster\": {}}", "{", "{\"seeds\": [1]}"] {
            assert_eq!(Seeds::read(text, Form::Own).faults.len(), 1, "{text}");
        }
    }

    #[test]
    fn no_more_seeds_are_taken_than_there_may_be() {
        let text: String = (0..3000).map(|at| format!("10.0.{}.{} ", at / 250, at % 250)).collect();
        let read = Seeds::read(&text, Form::Own);
        assert_eq!((read.seeds.len(), read.faults.len()), (SEEDS_MAX, 1));
    }
}
