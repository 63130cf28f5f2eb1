//! `event_fields`: which properties of events a client wants (specification, appendices, "Dot-separated property paths").

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Paths of properties.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFields(Vec<Vec<String>>);

impl<'de> Deserialize<'de> for EventFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let paths = Vec::<String>::deserialize(deserializer)?;
        Ok(Self(paths.iter().map(|path| segments(path)).collect()))
    }
}

impl EventFields {
    /// What an event has of these properties.
    pub(crate) fn of(&self, event: &Map<String, Value>) -> Map<String, Value> {
        let mut picked = Map::new();
        for path in &self.0 {
            pick(event, path, &mut picked);
        }
        picked
    }
}

/// The names in a path. A backslash takes the meaning from a dot or a backslash after it, and stands for itself before anything else.
fn segments(path: &str) -> Vec<String> {
    let (mut done, mut open) = (Vec::new(), String::new());
    let mut rest = path.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\\' => open.push(rest.next_if(|next| matches!(next, '.' | '\\')).unwrap_or('\\')),
            '.' => done.push(std::mem::take(&mut open)),
            other => open.push(other),
        }
    }
    done.push(open);
    done
}

fn pick(from: &Map<String, Value>, path: &[String], into: &mut Map<String, Value>) {
    let [name, inner @ ..] = path else { return };
    match (from.get(name), inner) {
        (Some(value), []) => drop(into.insert(name.clone(), value.clone())),
        (Some(Value::Object(value)), inner) => {
            let mut picked = match into.remove(name) {
                Some(Value::Object(picked)) => picked,
                _ => Map::new(),
            };
            pick(value, inner, &mut picked);
            if !picked.is_empty() {
                into.insert(name.clone(), picked.into());
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_pick_what_they_name() {
        let event = json!({
            "type": "m.x", "content": { "body": "b", "m.mentions": { "room": true }, "more": { "a": 1, "b": 2 } }, "sender": "@a:x",
        });
        let shown = |paths: Value| {
            let fields: EventFields = serde_json::from_value(paths).expect("paths");
            Value::Object(fields.of(event.as_object().expect("an object")))
        };
        assert_eq!(shown(json!([])), json!({}));
        assert_eq!(shown(json!(["type", "nothing", "type.inner"])), json!({ "type": "m.x" }));
        let two = json!({ "content": { "body": "b", "more": { "b": 2 } } });
        assert_eq!(shown(json!(["content.body", "content.more.b", "content.more.c"])), two);
        assert_eq!(shown(json!(["content", "content.body"])), json!({ "content": event["content"] }));
        assert_eq!(
            shown(json!(["content.m\\.mentions.room"])),
            json!({ "content": { "m.mentions": { "room": true } } })
        );
        assert_eq!(shown(json!(["content.m.mentions"])), json!({}));
    }

    #[test]
    fn a_backslash_escapes_dots_and_itself_only() {
        assert_eq!(segments(r"a\.b.c\\.d\e\"), ["a.b", r"c\", r"d\e\"]);
    }
}
