//! Words: how a text is cut into them, and how a search term becomes a query.
//!
//! The index cuts at everything that is neither a letter nor a digit and folds case and accents. Chinese and Japanese have no spaces
//! between words: each of their characters is made a word of its own, in texts and in terms alike, and several in a row become a phrase.

use std::collections::BTreeSet;

/// The most words of a term that count.
const MAX_WORDS: usize = 32;

/// What a term asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// The parts that must all be there: words, or phrases of several.
    parts: Vec<Vec<String>>,
}

fn stands_alone(character: char) -> bool {
    matches!(u32::from(character), 0x3040..=0x30FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3FFFF)
}

/// A text in which every word is surrounded by what is no word.
pub(crate) fn spaced(text: &str) -> String {
    let mut spaced = String::with_capacity(text.len());
    for character in text.chars() {
        if stands_alone(character) {
            spaced.extend([' ', character, ' ']);
        } else {
            spaced.push(character);
        }
    }
    spaced
}

/// The words of a text, in lower case.
pub(crate) fn words(text: &str) -> Vec<String> {
    let spaced = spaced(text);
    let words = spaced.split(|character: char| !character.is_alphanumeric());
    words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

impl Term {
    /// Reads a term: what is in double quotes is a phrase, the rest are words. `None` if there is no word in it.
    pub(crate) fn parse(term: &str) -> Option<Self> {
        let mut parts = Vec::new();
        for (at, piece) in term.split('"').enumerate() {
            if at % 2 == 1 {
                parts.push(words(piece));
            } else {
                parts.extend(piece.split_whitespace().map(words));
            }
        }
        parts.retain(|part| !part.is_empty());
        parts.truncate(MAX_WORDS);
        (!parts.is_empty()).then_some(Self { parts })
    }

    /// The term in the index's language, for these columns: every part must be there.
    pub(crate) fn query(&self, columns: &[&str]) -> String {
        // Words hold letters and digits alone, so nothing in them can end the quotes.
        let phrases: Vec<_> = self.parts.iter().map(|part| format!("\"{}\"", part.join(" "))).collect();
        format!("{{{}}} : ({})", columns.join(" "), phrases.join(" AND "))
    }

    /// The words that a client may highlight.
    pub(crate) fn highlights(&self) -> Vec<String> {
        let words: BTreeSet<_> = self.parts.iter().flatten().cloned().collect();
        words.into_iter().collect()
    }

    /// How well a text fits: it grows with how often the words are in it, ever more slowly, and shrinks with its length.
    pub(crate) fn score(&self, text: &str) -> f64 {
        /// How soon more of the same word counts no more.
        const SATURATION: f64 = 1.2;
        /// The length, in words, from which on a text counts as long.
        const USUAL_LENGTH: f64 = 12.0;
        let text = words(text);
        let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
        let length = 0.25 + 0.75 * count(text.len()) / USUAL_LENGTH;
        let wanted = self.parts.iter().flatten();
        wanted
            .map(|wanted| {
                let often = count(text.iter().filter(|word| *word == wanted).count());
                often * (SATURATION + 1.0) / (often + SATURATION * length)
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_words_and_phrases() {
        let query = |term: &str| Term::parse(term).map(|term| term.query(&["body"]));
        assert_eq!(query("Hello, world").as_deref(), Some(r#"{body} : ("hello" AND "world")"#));
        assert_eq!(query(r#"say "good night" now"#).as_deref(), Some(r#"{body} : ("say" AND "good night" AND "now")"#));
        assert_eq!(query("don't").as_deref(), Some(r#"{body} : ("don t")"#));
        assert_eq!(query("東京").as_deref(), Some(r#"{body} : ("東 京")"#));
        for nothing in ["", "  ", "\"\"", "!?", "\" \" *"] {
            assert_eq!(query(nothing), None, "{nothing}");
        }
        let many = "a ".repeat(1_000);
        assert_eq!(Term::parse(&many).expect("a term").parts.len(), MAX_WORDS);
    }

    #[test]
    fn words_that_are_there_more_often_and_in_shorter_texts_fit_better() {
        let term = Term::parse("cake").expect("a term");
        let [once, twice, long] =
            ["a cake here", "cake and cake", &format!("cake {}", "and more ".repeat(50))].map(|text| term.score(text));
        assert!(twice > once && once > long && long > 0.0);
        assert!(term.score("nothing of it").abs() < f64::EPSILON);
    }
}
