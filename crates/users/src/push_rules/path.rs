//! Dot-separated property paths (appendices, "Dot-separated property paths") and the values at their ends.

use serde_json::{Map, Value};

/// A path's parts: dots separate them; a backslash before a dot or a backslash makes it part of a name.
pub(super) fn parse(path: &str) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let mut chars = path.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '.' => parts.push(std::mem::take(&mut part)),
            '\\' if matches!(chars.peek(), Some('.' | '\\')) => part.extend(chars.next()),
            other => part.push(other),
        }
    }
    parts.push(part);
    parts
}

/// What an object holds at the end of a path.
pub(super) fn find<'a>(object: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(object.get(first)?, |value, part| value.as_object()?.get(part))
}

/// Whether a value is one that canonical JSON has and that holds no others.
pub(super) fn is_scalar(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => number.is_i64() || number.is_u64(),
        Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_split_at_dots_that_are_not_escaped() {
        assert_eq!(parse("content.body"), ["content", "body"]);
        assert_eq!(parse(r"content.m\.mentions.user_ids"), ["content", "m.mentions", "user_ids"]);
        assert_eq!(parse(r"m\\.a\x"), [r"m\", r"a\x"]);
        assert_eq!(parse(""), [""]);
        assert_eq!(parse(r"a.\"), ["a", r"\"]);
    }

    #[test]
    fn values_are_found() {
        let event = json!({ "content": { "m.a": { "b\\": 1 }, "": 2, "list": [{ "x": 3 }] } });
        let event = event.as_object().expect("an object");
        let find = |path| find(event, &parse(path)).and_then(Value::as_u64);
        assert_eq!(find(r"content.m\.a.b\\"), Some(1));
        assert_eq!(find("content."), Some(2));
        assert_eq!(find("content.list.0.x"), None);
        assert_eq!(find("content.m.a"), None);
    }
}
