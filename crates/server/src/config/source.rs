//! Where each value comes from: a line of the file or a variable of the environment, so that an error can name it.

use std::collections::BTreeMap;

use serde::de::IntoDeserializer;
use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use super::{Config, ConfigError};

/// What a variable that overrides a key begins with. Parts of the key follow, in upper case, joined by two underscores.
const PREFIX: &str = "SUNDIAL__";

/// A configuration that is parsed but not yet judged.
#[derive(Debug)]
pub(super) struct Source {
    values: Table,
    /// Line of every key of the file, by its path.
    lines: BTreeMap<String, usize>,
    /// Variables by the path that they override.
    overrides: BTreeMap<String, Override>,
}

#[derive(Debug)]
struct Override {
    variable: String,
    text: String,
    /// Whether `text` was read as a TOML value; if that doesn't fit, it is taken as a string.
    typed: bool,
}

impl Source {
    /// Parses the text of a file.
    pub(super) fn parse(text: &str) -> Result<Self, ConfigError> {
        let syntax = |error: toml::de::Error| ConfigError::Key {
            file: None,
            line: error.span().map(|span| line_of(text, span.start)),
            key: String::new(),
            reason: error.message().to_owned(),
        };
        let tree = DeTable::parse(text).map_err(syntax)?;
        let mut lines = BTreeMap::new();
        collect_lines(text, tree.get_ref(), "", &mut lines);
        Ok(Self { values: toml::from_str(text).map_err(syntax)?, lines, overrides: BTreeMap::new() })
    }

    /// Puts the overrides among the variables over the values of the file.
    pub(super) fn apply(&mut self, environment: impl IntoIterator<Item = (String, String)>) -> Result<(), ConfigError> {
        for (variable, text) in environment {
            let Some(name) = variable.strip_prefix(PREFIX) else { continue };
            let path: Vec<String> = name.split("__").map(str::to_ascii_lowercase).collect();
            let parsed = parse_value(&text);
            let typed = parsed.is_some();
            let value = parsed.unwrap_or_else(|| Value::String(text.clone()));
            let key = path.join(".");
            if !set(&mut self.values, &path, value) {
                return Err(ConfigError::Variable {
                    variable,
                    key,
                    reason: "the configuration has no such key".to_owned(),
                });
            }
            self.overrides.insert(key, Override { variable, text, typed });
        }
        Ok(())
    }

    /// Reads the values. A variable whose value looks like another type than the key has is tried again as a string.
    pub(super) fn read(&mut self) -> Result<Config, ConfigError> {
        loop {
            let error = match serde_path_to_error::deserialize(Value::Table(self.values.clone()).into_deserializer()) {
                Ok(config) => return Ok(config),
                Err(error) => error,
            };
            let key = path_of(error.path());
            let inner: &toml::de::Error = error.inner();
            let reason = inner.message().trim_end().to_owned();
            let Some(retry) = self.overrides.get_mut(&key).filter(|known| known.typed) else {
                return Err(self.locate(&key, reason));
            };
            retry.typed = false;
            let path: Vec<String> = key.split('.').map(str::to_owned).collect();
            let text = retry.text.clone();
            if !set(&mut self.values, &path, Value::String(text)) {
                return Err(self.locate(&key, reason));
            }
        }
    }

    /// An error for `key` that names where its value comes from: the variable, its line, or the line of what holds it.
    pub(super) fn locate(&self, key: &str, reason: String) -> ConfigError {
        let holders = || std::iter::successors(Some(key), |key| key.rsplit_once('.').map(|(holder, _)| holder));
        if let Some(known) = holders().find_map(|holder| self.overrides.get(holder)) {
            return ConfigError::Variable { variable: known.variable.clone(), key: key.to_owned(), reason };
        }
        let line = holders().find_map(|holder| self.lines.get(holder).copied());
        ConfigError::Key { file: None, line, key: if key == "." { String::new() } else { key.to_owned() }, reason }
    }
}

/// The text as one TOML value, if it is one.
fn parse_value(text: &str) -> Option<Value> {
    let mut table: Table = toml::from_str(&format!("value = {text}")).ok()?;
    // A text with a line break could bring keys of its own; then it is no value.
    if table.len() == 1 { table.remove("value") } else { None }
}

/// Sets the value at a path, making tables on the way. False if the path leads through something that is no table or list entry.
fn set(table: &mut Table, path: &[String], value: Value) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    if first.is_empty() {
        return false;
    }
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return true;
    }
    match table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(inner) => set(inner, rest, value),
        Value::Array(entries) => {
            let entry = rest[0].parse::<usize>().ok().and_then(|index| entries.get_mut(index));
            entry.and_then(Value::as_table_mut).is_some_and(|inner| set(inner, &rest[1..], value))
        }
        _ => false,
    }
}

/// `listeners[0].tls` as `listeners.0.tls`.
fn path_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let parts = path.iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    parts.collect::<Vec<_>>().join(".")
}

fn collect_lines(text: &str, table: &DeTable<'_>, prefix: &str, lines: &mut BTreeMap<String, usize>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        lines.entry(path.clone()).or_insert_with(|| line_of(text, key.span().start));
        match value.get_ref() {
            DeValue::Table(inner) => collect_lines(text, inner, &path, lines),
            DeValue::Array(entries) => {
                for (index, entry) in entries.iter().enumerate() {
                    let path = format!("{path}.{index}");
                    lines.insert(path.clone(), line_of(text, entry.span().start));
                    if let DeValue::Table(inner) = entry.get_ref() {
                        collect_lines(text, inner, &path, lines);
                    }
                }
            }
            _ => {}
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.get(..offset).unwrap_or(text).matches('\n').count()
}
