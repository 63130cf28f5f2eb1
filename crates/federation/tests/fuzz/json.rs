//! Random JSON, and changes to JSON that was good.

use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::{Value, json};

/// Numbers at and beyond the edges of canonical JSON, and a few that lie within.
fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-3_i64..100).prop_map(Value::from),
        Just(json!((1_i64 << 53) - 1)),
        Just(json!(1_i64 << 53)),
        Just(json!(-(1_i64 << 53) + 1)),
        Just(json!(i64::MAX)),
    ]
}

/// Texts that look like the ids and types of events, and any others.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[$@!#][a-zA-Z0-9_.=/-]{0,50}(:[a-z0-9.]{0,20}(:[0-9]{0,6})?)?",
        "m\\.room\\.(create|member|message|power_levels|redaction|third_party_invite|join_rules)",
        (0_usize..600).prop_map(|length| "é".repeat(length)),
        Just("ed25519:k".to_owned()),
        Just("join".to_owned()),
        Just("\u{F0001}1".to_owned()),
    ]
}

/// Any JSON of a few dozen values.
pub(crate) fn value() -> impl Strategy<Value = Value> {
    let leaf =
        prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), number(), text().prop_map(Value::from)];
    leaf.prop_recursive(5, 40, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..25).prop_map(Value::from),
            vec((text(), inner), 0..8).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A change to something that was good.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A field somewhere gets another value.
    Set(Index, Value),
    /// A field somewhere goes.
    Remove(Index),
    /// A field is added somewhere.
    Add(Index, String, Value),
    /// A list or a text somewhere becomes this many times as long.
    Repeat(Index, usize),
    /// A byte of the text becomes another.
    Byte(Index, u8),
    /// Bytes come in between.
    Insert(Index, Vec<u8>),
    /// The text ends.
    Cut(Index),
    /// A part of the text stands there twice.
    Twice(Index, Index),
}

pub(crate) fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        4 => (any::<Index>(), value()).prop_map(|(at, value)| Change::Set(at, value)),
        2 => any::<Index>().prop_map(Change::Remove),
        2 => (any::<Index>(), text(), value()).prop_map(|(at, name, value)| Change::Add(at, name, value)),
        2 => (any::<Index>(), 2_usize..300).prop_map(|(at, times)| Change::Repeat(at, times)),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        1 => (any::<Index>(), vec(any::<u8>(), 0..20)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => any::<Index>().prop_map(Change::Cut),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Twice(from, to)),
    ];
    vec(change, 0..5)
}

/// The bytes of a value after changes: those of its fields first, then those of its text.
pub(crate) fn changed(mut value: Value, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let mut count = 0;
        visit(&mut value, &mut |_| count += 1);
        let (Change::Set(at, _) | Change::Remove(at) | Change::Add(at, ..) | Change::Repeat(at, _)) = change else {
            continue;
        };
        let (wanted, mut now) = (at.index(count), 0);
        visit(&mut value, &mut |value| {
            if now == wanted {
                change_value(value, change);
            }
            now += 1;
        });
    }
    let mut bytes = value.to_string().into_bytes();
    for change in changes {
        change_bytes(&mut bytes, change);
    }
    bytes
}

/// Shows every value in a value, itself first. What is put in its place is not looked into.
fn visit(value: &mut Value, look: &mut impl FnMut(&mut Value)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| visit(item, look)),
        Value::Object(fields) => fields.values_mut().for_each(|field| visit(field, look)),
        _ => {}
    }
    look(value);
}

fn change_value(value: &mut Value, change: &Change) {
    match (change, value) {
        (Change::Set(_, new), value) => *value = new.clone(),
        (Change::Add(_, name, new), Value::Object(fields)) => {
            fields.insert(name.clone(), new.clone());
        }
        (Change::Add(_, _, new), Value::Array(items)) => items.push(new.clone()),
        (Change::Remove(at), Value::Object(fields)) if !fields.is_empty() => {
            let name = fields.keys().nth(at.index(fields.len())).cloned();
            fields.remove(&name.expect("there are as many"));
        }
        (Change::Remove(_), Value::Array(items)) => drop(items.pop()),
        (Change::Repeat(_, times), Value::String(text)) if text.len() * times < 200_000 => *text = text.repeat(*times),
        (Change::Repeat(_, times), Value::Array(items)) if items.len() * times < 2_000 => {
            *items = items.iter().cycle().take(items.len() * times).cloned().collect();
        }
        _ => {}
    }
}

fn change_bytes(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    match change {
        Change::Byte(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Change::Insert(at, new) => {
            let at = at.index(bytes.len());
            drop(bytes.splice(at..at, new.iter().copied()));
        }
        Change::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Change::Twice(from, to) => {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let part = bytes[from.min(to)..from.max(to)].to_vec();
            let at = from.max(to);
            drop(bytes.splice(at..at, part));
        }
        Change::Set(..) | Change::Remove(_) | Change::Add(..) | Change::Repeat(..) => {}
    }
}
