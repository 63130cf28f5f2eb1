//! Canonical JSON.

use primitives::canonical::{MAX_DEPTH, deeper_than, parse_object, to_bytes};
use proptest::{collection::vec, prelude::*};

use crate::{cases, json};

/// What is read is written so that it reads the same, and is in order.
fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(object) = parse_object(bytes) else { return Ok(()) };
    prop_assert!(!deeper_than(bytes, MAX_DEPTH));
    let written = to_bytes(&object);
    prop_assert_eq!(&parse_object(&written).expect("what was written can be read"), &object);
    prop_assert_eq!(to_bytes(&parse_object(&written).expect("again")), written.clone());
    let loose: serde_json::Value = serde_json::from_slice(&written).expect("JSON");
    prop_assert!(only_canonical_numbers(&loose));
    // No escape but those that JSON needs, no space outside strings: the shortest form is never longer than what came.
    prop_assert!(written.len() <= bytes.len(), "{} became {}", bytes.len(), written.len());
    Ok(())
}

fn only_canonical_numbers(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(number) => number.as_i64().is_some_and(|number| number.abs() < 1 << 53),
        serde_json::Value::Array(items) => items.iter().all(only_canonical_numbers),
        serde_json::Value::Object(fields) => fields.values().all(only_canonical_numbers),
        _ => true,
    }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn fuzz_canonical_json_of_any_bytes(bytes in vec(any::<u8>(), 0..300)) {
        check(&bytes)?;
    }

    #[test]
    fn fuzz_canonical_json_of_brackets(text in r#"[\[\]\{\}",:a0\\ ]{0,400}"#) {
        check(text.as_bytes())?;
    }

    #[test]
    fn fuzz_canonical_json_of_changed_values(value in json::value(), changes in json::changes()) {
        let object = serde_json::json!({ "a": value });
        check(&json::changed(object, &changes))?;
    }

    #[test]
    fn fuzz_canonical_json_of_depths(depth in 0_usize..300, list in any::<bool>()) {
        let (open, close) = if list { ("[", "]") } else { ("{\"a\":", "}") };
        let inner = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        let text = format!("{{\"a\":{inner}}}");
        prop_assert_eq!(parse_object(text.as_bytes()).is_ok(), depth < MAX_DEPTH);
        check(text.as_bytes())?;
    }
}
