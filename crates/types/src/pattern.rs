//! Patterns over names: `*` stands for any run of characters, `?` for one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A pattern such as `worker-*`. Without an `@` it is held against the part of a node name before `@`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// Every text is a pattern.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `text` fits. Linear in `text` for each `*`.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let pattern: Vec<char> = self.0.chars().collect();
        let text: Vec<char> = text.chars().collect();
        let (mut p, mut t) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            if p < pattern.len() && pattern[p] == '*' {
                star = Some((p, t));
                p += 1;
            } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == text[t]) {
                p += 1;
                t += 1;
            } else if let Some((star_p, star_t)) = star {
                p = star_p + 1;
                t = star_t + 1;
                star = Some((star_p, t));
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|&c| c == '*')
    }

    /// Whether a node name fits: the whole of it if the pattern has an `@`, else its basename.
    #[must_use]
    pub fn matches_node(&self, node: &crate::NodeName) -> bool {
        if self.0.contains('@') { self.matches(node.as_str()) } else { self.matches(node.basename()) }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeName;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("worker-?", "worker-1", true),
            ("worker-?", "worker-12", false),
            ("*a*b*", "xxaxxbxx", true),
            ("shop", "shop", true),
            ("shop", "shop2", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), fits, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_pattern_without_a_host_looks_at_the_basename() {
        let node = NodeName::new("shop@web1").expect("valid");
        assert!(Pattern::new("sh*").matches_node(&node));
        assert!(Pattern::new("*@web1").matches_node(&node));
        assert!(!Pattern::new("*@web2").matches_node(&node));
    }
}
