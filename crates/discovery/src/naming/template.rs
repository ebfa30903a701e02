//! How the node of a host is called: a text with placeholders, such as `{basename}@{ip}`.
//!
//! ```text
//! template    = { text | "{" placeholder "}" }
//! placeholder = "basename" | "ip" | "ip_dashes" | "host" | "name" | "short" | "instance" | "zone" | "region" | "tag." KEY
//! ```

use metacluster_types::{Host, NodeName};

use crate::settings::nearest;

/// The placeholders but for the tags.
const WORDS: [(&str, Part); 9] = [
    ("basename", Part::Basename),
    ("ip", Part::Ip),
    ("ip_dashes", Part::IpDashes),
    ("host", Part::Host),
    ("name", Part::Name),
    ("short", Part::Short),
    ("instance", Part::Instance),
    ("zone", Part::Zone),
    ("region", Part::Region),
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Basename,
    /// The preferred address.
    Ip,
    /// The preferred address with dashes, as in the names that clouds and Kubernetes make: `10-0-0-4`.
    IpDashes,
    /// The name, else the address.
    Host,
    Name,
    /// The name up to its first dot.
    Short,
    Instance,
    Zone,
    Region,
    Tag(String),
}

/// A template that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    parts: Vec<Part>,
}

impl Template {
    /// Reads a template. The error says what is wrong and what would be right.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((word, after)) = after.split_once('}') else {
                return Err("holds a `{` without its `}`: expected a placeholder such as `{ip}`".to_owned());
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(placeholder(word)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let literal = |part: &Part| matches!(part, Part::Text(text) if text.contains('@'));
        if !parts.iter().any(literal) {
            return Err("has no `@`: expected name@host, such as `{basename}@{ip}`".to_owned());
        }
        Ok(Self { parts })
    }

    pub(super) fn wants_basename(&self) -> bool {
        self.parts.contains(&Part::Basename)
    }

    /// The node of a host, or what the host lacks.
    pub(super) fn fill(&self, basename: &str, host: &Host) -> Result<NodeName, String> {
        let mut name = String::new();
        for part in &self.parts {
            match part.value(basename, host) {
                Some(value) => name.push_str(&value),
                None => return Err(format!("there is no {}", part.describe())),
            }
        }
        NodeName::new(&name).map_err(|error| error.to_string())
    }
}

fn placeholder(word: &str) -> Result<Part, String> {
    if let Some(key) = word.strip_prefix("tag.").filter(|key| !key.is_empty()) {
        return Ok(Part::Tag(key.to_owned()));
    }
    if let Some((_, part)) = WORDS.iter().find(|(known, _)| *known == word) {
        return Ok(part.clone());
    }
    let words = WORDS.iter().map(|(known, _)| *known);
    let near = nearest(word, words.clone()).map(|near| format!("did you mean `{{{near}}}`? ")).unwrap_or_default();
    let all: Vec<String> = words.chain(["tag.KEY"]).map(|known| format!("{{{known}}}")).collect();
    Err(format!("`{{{word}}}` is no placeholder; {near}there are {}", all.join(", ")))
}

impl Part {
    fn value(&self, basename: &str, host: &Host) -> Option<String> {
        let address = || host.addresses.first().map(ToString::to_string);
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Basename => Some(basename.to_owned()),
            Self::Ip => address(),
            Self::IpDashes => address().map(|text| text.replace(['.', ':'], "-")),
            Self::Host => host.name.clone().or_else(address),
            Self::Name => host.name.clone(),
            Self::Short => host.name.as_deref().and_then(|name| name.split('.').next()).map(ToOwned::to_owned),
            Self::Instance => host.instance.clone(),
            Self::Zone => host.place.zone.as_ref().map(|zone| zone.as_str().to_owned()),
            Self::Region => host.place.region.as_ref().map(|region| region.as_str().to_owned()),
            Self::Tag(key) => host.tags.get(key).cloned(),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Tag(key) => format!("`{{tag.{key}}}`"),
            Self::Text(_) => "text".to_owned(),
            known @ (Self::Basename
            | Self::Ip
            | Self::IpDashes
            | Self::Host
            | Self::Name
            | Self::Short
            | Self::Instance
            | Self::Zone
            | Self::Region) => {
                let word = WORDS.iter().find(|(_, part)| part == known).map_or("", |(word, _)| word);
                format!("`{{{word}}}`")
            }
        }
    }
}
