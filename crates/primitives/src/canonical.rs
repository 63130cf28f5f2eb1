//! Strict reading and writing of canonical JSON (specification, appendix "Canonical JSON").

use ruma::canonical_json::{CanonicalJsonError, CanonicalJsonObject, CanonicalJsonValue, to_canonical_value};
use serde::Serialize;

/// The deepest nesting that is read.
pub const MAX_DEPTH: usize = 100;

/// Why bytes are not canonical JSON.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// Not JSON at all, not UTF-8, or a number that canonical JSON does not know: a float, or an integer beyond ±(2⁵³−1).
    #[error("not canonical JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("JSON is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A value that has no canonical form.
    #[error("value has no canonical form: {0}")]
    Value(#[from] CanonicalJsonError),
}

/// Whether JSON text is nested deeper than `limit`. Looks at brackets outside strings only; says nothing of validity.
pub fn deeper_than(json: &[u8], limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in json {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Reads one JSON object, strictly: no floats, integers within ±(2⁵³−1), at most [`MAX_DEPTH`] levels.
pub fn parse_object(json: &[u8]) -> Result<CanonicalJsonObject, CanonicalError> {
    if deeper_than(json, MAX_DEPTH) {
        return Err(CanonicalError::TooDeep);
    }
    Ok(serde_json::from_slice(json)?)
}

/// Turns any serialisable value into its canonical form.
pub fn to_canonical(value: impl Serialize) -> Result<CanonicalJsonValue, CanonicalError> {
    Ok(to_canonical_value(value)?)
}

/// The canonical bytes of an object: keys sorted, no white space.
pub fn to_bytes(object: &CanonicalJsonObject) -> Vec<u8> {
    serde_json::to_vec(object).expect("a canonical object serialises")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_canonical_json_does_not_know_is_refused() {
        for bad in [
            r#"{"a":1.5}"#,
            r#"{"a":1e3}"#,
            r#"{"a":9007199254740992}"#,
            r#"{"a":-9007199254740992}"#,
            "[1]",
            "{",
            "{\"a\":\"\u{1}\"}",
        ] {
            assert!(parse_object(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse_object(b"{\"a\":\"\xff\"}").is_err());
        assert!(parse_object(br#"{"a":9007199254740991}"#).is_ok());
    }

    #[test]
    fn depth_is_counted_outside_strings() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(!deeper_than(nested(100).as_bytes(), 100));
        assert!(deeper_than(nested(101).as_bytes(), 100));
        assert!(!deeper_than(br#"{"a":"[[[[\"[[["}"#, 1));
        let deep = format!("{{\"a\":{}}}", nested(100));
        assert!(matches!(parse_object(deep.as_bytes()), Err(CanonicalError::TooDeep)));
    }

    #[test]
    fn bytes_are_sorted_and_tight() {
        let object = parse_object(br#"{ "b" : [1, 2], "a" : { "z":"\u00e9", "y":null } }"#).expect("valid");
        assert_eq!(to_bytes(&object), r#"{"a":{"y":null,"z":"é"},"b":[1,2]}"#.as_bytes());
    }
}
