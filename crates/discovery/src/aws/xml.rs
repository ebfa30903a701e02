//! XML as EC2 writes it: a walk over the leaves of a document, bounded in depth and in the length of a text.
//!
//! Invariant: whatever the bytes are, the walk ends, recurses into nothing and keeps no more than one path and one text.

use quick_xml::{Reader, XmlVersion, events::Event};

/// Elements may stand in one another this deep.
const DEPTH_MAX: usize = 24;
/// Longer texts are cut. The longest value that is read is a tag's, of 256 characters.
const TEXT_BYTES_MAX: usize = 4096;

/// Why a document is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(super) enum XmlError {
    /// The bytes are no UTF-8.
    #[error("it is no text")]
    NotText,
    /// They are no XML.
    #[error("it is no XML: {0}")]
    Syntax(String),
    /// The document ends within an element.
    #[error("it ends before `{0}` does")]
    Half(String),
    /// Elements stand in one another too deep.
    #[error("it is more than {DEPTH_MAX} elements deep")]
    Deep,
    /// It is a document of another kind.
    #[error("it is `{0}`")]
    Other(String),
}

/// What a walk meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// An element begins.
    Begins,
    /// An element ends; it held this text.
    Ends(&'a str),
}

/// Walks through a document. `step` gets the path of names from the root, and what happens there.
///
/// # Errors
/// What is wrong with the document; `step` may have been called before that was known.
pub(super) fn walk(bytes: &[u8], mut step: impl FnMut(&[String], Step<'_>)) -> Result<(), XmlError> {
    let text = std::str::from_utf8(bytes).map_err(|_| XmlError::NotText)?;
    let mut reader = Reader::from_str(text);
    let mut path: Vec<String> = Vec::new();
    let mut held = String::new();
    let mut roots = 0;
    loop {
        match reader.read_event().map_err(|error| XmlError::Syntax(error.to_string()))? {
            Event::Start(start) => {
                if path.len() >= DEPTH_MAX {
                    return Err(XmlError::Deep);
                }
                roots += usize::from(path.is_empty());
                path.push(start.local_name().as_ref().to_owned());
                held.clear();
                step(&path, Step::Begins);
            }
            Event::Empty(empty) => {
                roots += usize::from(path.is_empty());
                path.push(empty.local_name().as_ref().to_owned());
                step(&path, Step::Begins);
                step(&path, Step::Ends(""));
                path.pop();
                held.clear();
            }
            Event::Text(part) => keep(&mut held, &part.xml_content(XmlVersion::Implicit1_0)),
            Event::CData(part) => keep(&mut held, &part.xml_content(XmlVersion::Implicit1_0)),
            Event::GeneralRef(part) => {
                let name: &str = part.as_ref();
                match part.resolve_char_ref() {
                    Ok(Some(letter)) => keep(&mut held, letter.encode_utf8(&mut [0; 4])),
                    Ok(None) => keep(&mut held, quick_xml::escape::resolve_predefined_entity(name).unwrap_or_default()),
                    Err(error) => return Err(XmlError::Syntax(error.to_string())),
                }
            }
            Event::End(_) => {
                step(&path, Step::Ends(&held));
                path.pop();
                held.clear();
            }
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            Event::Eof => break,
        }
    }
    match path.last() {
        Some(open) => Err(XmlError::Half(open.clone())),
        None if roots == 0 => Err(XmlError::Half("its first element".to_owned())),
        None => Ok(()),
    }
}

fn keep(held: &mut String, part: &str) {
    let room = TEXT_BYTES_MAX.saturating_sub(held.len());
    let end = (0..=part.len().min(room)).rev().find(|&end| part.is_char_boundary(end)).unwrap_or_default();
    held.push_str(&part[..end]);
}

/// The code and the text of an error of EC2; empty where it is none.
pub(super) fn fault(bytes: &[u8]) -> (String, String) {
    let (mut code, mut message) = (String::new(), String::new());
    let walked = walk(bytes, |path, step| {
        let Step::Ends(text) = step else { return };
        let of_error = path.len() >= 2 && path[path.len() - 2] == "Error";
        match path.last().map(String::as_str) {
            Some("Code") if of_error && code.is_empty() => text.clone_into(&mut code),
            Some("Message") if of_error && message.is_empty() => text.clone_into(&mut message),
            Some(_) | None => {}
        }
    });
    match walked {
        Ok(()) => (code, message),
        Err(_) => (String::new(), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(text: &str) -> Result<Vec<(String, String)>, XmlError> {
        let mut leaves = Vec::new();
        walk(text.as_bytes(), |path, step| {
            if let Step::Ends(text) = step {
                leaves.push((path.join("/"), text.to_owned()));
            }
        })?;
        Ok(leaves)
    }

    fn pair(path: &str, text: &str) -> (String, String) {
        (path.to_owned(), text.to_owned())
    }

    #[test]
    fn leaves_come_with_their_paths_and_texts() {
        let found = leaves("<?xml version=\"1.0\"?><a><b>x &amp; y&#33;</b><c/><b><![CDATA[<z>]]></b></a>");
        let wanted = [pair("a/b", "x & y!"), pair("a/c", ""), pair("a/b", "<z>"), pair("a", "")];
        assert_eq!(found, Ok(wanted.to_vec()));
    }

    #[test]
    fn half_a_document_and_no_document_are_errors() {
        assert_eq!(leaves("<a><b>x</b>"), Err(XmlError::Half("a".to_owned())));
        assert!(matches!(leaves("<a><b>x</a>"), Err(XmlError::Syntax(_))));
        assert!(matches!(leaves(""), Err(XmlError::Half(_))));
        assert!(matches!(leaves("no XML"), Err(XmlError::Half(_))));
        assert_eq!(walk(&[0xff, 0xfe], |_, _| {}), Err(XmlError::NotText));
    }

    #[test]
    fn a_deep_document_and_a_long_text_are_bounded() {
        assert_eq!(leaves(&"<a>".repeat(100_000)), Err(XmlError::Deep));
        let found = leaves(&format!("<a>{}</a>", "ü".repeat(100_000))).expect("a document");
        assert_eq!(found[0].1.len(), TEXT_BYTES_MAX);
    }

    #[test]
    fn entities_are_not_expanded_beyond_the_five_of_xml() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bbbb\"><!ENTITY c \"&b;&b;\">]><a>&c;</a>";
        assert_eq!(leaves(bomb), Ok(vec![pair("a", "")]));
    }

    /// As AWS documents it (API error responses of the EC2 API Reference).
    #[test]
    fn an_error_of_ec2_is_read() {
        let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Errors><Error><Code>RequestLimitExceeded</Code>\
                    <Message>Request limit exceeded.</Message></Error></Errors><RequestID>ea966190</RequestID></Response>";
        assert_eq!(fault(body.as_bytes()), pair("RequestLimitExceeded", "Request limit exceeded."));
        assert_eq!(fault(b"<html>502 Bad Gateway</html>"), pair("", ""));
        assert_eq!(fault(b"garbage"), pair("", ""));
    }
}
