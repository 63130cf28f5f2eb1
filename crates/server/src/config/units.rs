//! Values with a unit: spans of time and sizes in bytes.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A span of time, written as a string with a unit (`"90s"`, `"24h"`; `ms`, `s`, `m`, `h`, `d`) or as a whole number of milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes, written as a whole number or as a string with a unit (`"512MiB"`; `B`, `KiB`, `MiB`, `GiB`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const SPAN_UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: &[(&str, u64)] = &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// `number` followed by one of `units`, as so many of the smallest unit.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// The largest unit that `value` is a whole number of.
fn render(value: u64, units: &[(&str, u64)]) -> String {
    let (name, factor) = units.iter().rev().find(|(_, factor)| value.is_multiple_of(*factor)).unwrap_or(&units[0]);
    if value == 0 { format!("0{}", units[0].0) } else { format!("{}{name}", value / factor) }
}

struct Visitor {
    units: &'static [(&'static str, u64)],
    expects: &'static str,
}

impl de::Visitor<'_> for Visitor {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expects)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<u64, E> {
        u64::try_from(value).map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
        Ok(value)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<u64, E> {
        parse(value, self.units).ok_or_else(|| E::invalid_value(de::Unexpected::Str(value), &self))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expects = "a span of time such as \"24h\" (units ms, s, m, h, d) or a whole number of milliseconds";
        deserializer.deserialize_any(Visitor { units: SPAN_UNITS, expects }).map(|ms| Self(Duration::from_millis(ms)))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        serializer.serialize_str(&render(ms, SPAN_UNITS))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expects = "a size such as \"512MiB\" (units B, KiB, MiB, GiB) or a whole number of bytes";
        deserializer.deserialize_any(Visitor { units: SIZE_UNITS, expects }).map(Self)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&render(self.0, SIZE_UNITS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_are_read_and_written_back() {
        for (text, ms) in
            [("1500ms", 1_500), ("90s", 90_000), ("5 m", 300_000), ("24h", 86_400_000), ("7d", 604_800_000)]
        {
            assert_eq!(parse(text, SPAN_UNITS), Some(ms), "{text}");
            assert_eq!(parse(&render(ms, SPAN_UNITS), SPAN_UNITS), Some(ms), "{text}");
        }
        assert_eq!(parse("512MiB", SIZE_UNITS), Some(512 << 20));
        assert_eq!(render(512 << 20, SIZE_UNITS), "512MiB");
        assert_eq!(render(0, SPAN_UNITS), "0ms");
    }

    #[test]
    fn other_text_is_refused() {
        for bad in ["", "s", "-1s", "1.5h", "1w", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse(bad, SPAN_UNITS), None, "{bad}");
        }
    }
}
