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

/// Opens a string that stands for a number. A private-use code point.
const MARK: char = '\u{F0002}';

/// JSON text in which every number that canonical JSON doesn't know, a float or an integer beyond ±(2⁵³−1), stands as a marked string, so that the rest can be
/// read strictly; [`MarkedNumbers::unmark`] turns them back. Looks at tokens only; says nothing of validity.
#[derive(Clone, Debug)]
pub struct MarkedNumbers {
    /// The text.
    pub json: Vec<u8>,
    marks: usize,
}

impl MarkedNumbers {
    /// Marks the numbers of a JSON text.
    pub fn mark(json: &[u8]) -> Self {
        let (mut marked, mut marks, mut at) = (Vec::with_capacity(json.len()), 0, 0);
        while let Some(&byte) = json.get(at) {
            let end = at + token(&json[at..]);
            let text = &json[at..end];
            if (byte == b'-' || byte.is_ascii_digit()) && !is_canonical_integer(text) {
                marks += 1;
                marked.extend_from_slice(format!("\"{MARK}").as_bytes());
                marked.extend_from_slice(text);
                marked.push(b'"');
            } else {
                marked.extend_from_slice(text);
            }
            at = end;
        }
        Self { json: marked, marks }
    }

    /// Writes the marked strings of a text that was made of [`Self::json`] as the numbers that they stand for, as they came. `None`: marks are lost, or were there
    /// before.
    pub fn unmark(&self, text: &str) -> Option<String> {
        if text.matches(MARK).count() != self.marks {
            return None;
        }
        let opening = format!("\"{MARK}");
        let (mut out, mut rest, mut found) = (String::with_capacity(text.len()), text, 0);
        while let Some(at) = rest.find(&opening) {
            out.push_str(&rest[..at]);
            let number = &rest[at + opening.len()..];
            let end = number.find('"')?;
            out.push_str(&number[..end]);
            rest = &number[end + 1..];
            found += 1;
        }
        out.push_str(rest);
        (found == self.marks).then_some(out)
    }
}

/// The length of the first token of a JSON text: a string, a number, or one byte.
fn token(json: &[u8]) -> usize {
    let rest = |ends: &dyn Fn(&u8) -> bool| json[1..].iter().position(ends).unwrap_or(json.len() - 1);
    match json[0] {
        b'"' => {
            let mut escaped = false;
            let closes = json[1..].iter().position(|byte| {
                let closes = *byte == b'"' && !escaped;
                escaped = *byte == b'\\' && !escaped;
                closes
            });
            closes.map_or(json.len(), |at| at + 2)
        }
        b'-' | b'0'..=b'9' => 1 + rest(&|byte| !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')),
        _ => 1,
    }
}

fn is_canonical_integer(text: &[u8]) -> bool {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
    number.is_some_and(|number| ruma::Int::new(number).is_some())
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
    fn numbers_that_canonical_json_does_not_know_come_back_as_they_were() {
        let text = r#"{"b":[1.50,-7,1e3],"a":"1.5 \" 2.5 \\","c":{"d":9007199254740993,"e":-0.0},"f":12345678901234567890123}"#;
        let marked = MarkedNumbers::mark(text.as_bytes());
        let object = parse_object(&marked.json).expect("canonical now");
        let back = String::from_utf8(to_bytes(&object)).expect("text");
        let sorted = r#"{"a":"1.5 \" 2.5 \\","b":[1.50,-7,1e3],"c":{"d":9007199254740993,"e":-0.0},"f":12345678901234567890123}"#;
        assert_eq!(marked.unmark(&back).as_deref(), Some(sorted));
        for forged in ["{\"a\":\"\u{F0002}1\",\"b\":1.5}", r#"{"a":"\udb80\udc021","b":1.5}"#, r#"{"a":1.5,"a":2.5}"#] {
            let marked = MarkedNumbers::mark(forged.as_bytes());
            let back = parse_object(&marked.json).map(|object| String::from_utf8(to_bytes(&object)).expect("text"));
            assert_eq!(marked.unmark(&back.expect("canonical now")), None, "{forged}");
        }
        for broken in ["{", r#"{"a":-}"#, r#"{"a":1.5"#, r#"{"a"#, r#"{"a":1.}"#, r#"{"a":01}"#, r#"{"a":+1}"#] {
            let marked = MarkedNumbers::mark(broken.as_bytes());
            let whole =
                parse_object(&marked.json).ok().filter(|_| serde_json::from_str::<serde_json::Value>(broken).is_ok());
            assert!(whole.is_none(), "{broken}");
        }
    }

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
