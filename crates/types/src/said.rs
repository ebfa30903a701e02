//! What a user event or a query says: a name, a payload of any bytes, and who says it.
//!
//! In JSON the payload is the text `payload` where it is UTF-8, else the base64 `payload_base64` (docs/contracts.md, JSON).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::AgentId;

/// The content of a user event or a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Json", into = "Json")]
pub struct Said {
    /// What it is called.
    pub name: String,
    /// What it carries.
    pub payload: Vec<u8>,
    /// The agent that says it.
    pub from: AgentId,
    /// Under which number this agent's own process waits for the answer to a query. It is in no JSON.
    pub query: Option<u64>,
}

/// The fields of the JSON.
#[derive(Clone, Serialize, Deserialize)]
struct Json {
    member_id: AgentId,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

impl From<Said> for Json {
    fn from(said: Said) -> Self {
        let (payload, payload_base64) = texts(&said.payload);
        Self { member_id: said.from, name: said.name, payload, payload_base64 }
    }
}

impl TryFrom<Json> for Said {
    type Error = String;

    fn try_from(json: Json) -> Result<Self, String> {
        let payload = bytes(json.payload.as_deref(), json.payload_base64.as_deref())?;
        Ok(Self { name: json.name, payload, from: json.member_id, query: None })
    }
}

/// Bytes as `payload` or as `payload_base64`: one of both is there.
#[must_use]
pub fn texts(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

/// The bytes of `payload` or `payload_base64`; none of both is no bytes.
///
/// # Errors
/// When both are there, or the base64 is none; the text says so.
pub fn bytes(payload: Option<&str>, payload_base64: Option<&str>) -> Result<Vec<u8>, String> {
    match (payload, payload_base64) {
        (Some(_), Some(_)) => Err("payload and payload_base64 exclude each other".to_owned()),
        (Some(text), None) => Ok(text.as_bytes().to_vec()),
        (None, Some(base64)) => STANDARD.decode(base64).map_err(|error| format!("payload_base64: {error}")),
        (None, None) => Ok(Vec::new()),
    }
}

/// Bytes as base64.
#[must_use]
pub fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of a base64 text.
///
/// # Errors
/// When it is none; the text says why.
pub fn from_base64(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text.trim()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_payload_survives_its_json() {
        for (payload, json) in [
            (b"v1".to_vec(), r#"{"member_id":"00000000000000000000000000000007","name":"deploy","payload":"v1"}"#),
            (
                vec![0xff, 0],
                r#"{"member_id":"00000000000000000000000000000007","name":"deploy","payload_base64":"/wA="}"#,
            ),
        ] {
            let said = Said { name: "deploy".to_owned(), payload, from: AgentId(7), query: None };
            assert_eq!(serde_json::to_string(&said).expect("json"), json);
            assert_eq!(serde_json::from_str::<Said>(json).expect("said"), said);
        }
    }

    #[test]
    fn a_payload_is_told_in_one_way() {
        assert!(bytes(Some("a"), Some("YQ==")).is_err() && bytes(None, Some("?")).is_err());
        assert_eq!((bytes(None, None), bytes(None, Some("YQ=="))), (Ok(Vec::new()), Ok(b"a".to_vec())));
    }
}
