//! Glob-style patterns (appendices, "Glob-style matching"): `*` for any number of characters, `?` for one. Case doesn't count.
//!
//! A pattern is cut at its stars. Each piece is looked for from where the one before it ended: the first place where it fits leaves the most
//! for those after it, so nothing is ever tried twice, and a text costs at most its length times that of the longest piece.

use std::borrow::Cow;

/// A text in the form in which patterns compare it.
pub(super) fn folded(text: &str) -> Cow<'_, str> {
    let as_it_is = text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
    if as_it_is { Cow::Borrowed(text) } else { Cow::Owned(text.to_lowercase()) }
}

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    /// What is between the stars: always one more than there are stars.
    pieces: Box<[Piece]>,
}

/// A piece of a pattern, without stars.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// Just this text.
    Text(Box<str>),
    /// Each either a character or, for `None`, any character.
    Marks(Box<[Option<char>]>),
}

impl Glob {
    /// Compiles a pattern.
    pub(super) fn new(pattern: &str) -> Self {
        let mark = |char| Some(char).filter(|char| *char != '?');
        let piece = |text: &str| {
            if text.contains('?') { Piece::Marks(text.chars().map(mark).collect()) } else { Piece::Text(text.into()) }
        };
        Self { pieces: folded(pattern).split('*').map(piece).collect() }
    }

    /// A pattern that is just this text, stars and all.
    pub(super) fn literal(text: &str) -> Self {
        Self { pieces: [Piece::Text(folded(text).into())].into() }
    }

    /// Whether the whole of a [`folded`] text matches.
    pub(super) fn matches(&self, text: &str) -> bool {
        let (first, others) = self.pieces.split_first().expect("a pattern has a piece");
        let Some(mut at) = first.fits(text, 0) else { return false };
        let Some((last, middle)) = others.split_last() else { return at == text.len() };
        for piece in middle {
            let Some((_, end)) = piece.places(text, at).next() else { return false };
            at = end;
        }
        last.place_at_end(text).is_some_and(|start| start >= at)
    }

    /// Whether a part of a [`folded`] text matches that starts and ends at word boundaries.
    pub(super) fn matches_words(&self, text: &str) -> bool {
        let (first, others) = self.pieces.split_first().expect("a pattern has a piece");
        let mut starts = first.places(text, 0).filter(|(start, _)| starts_word(text, *start));
        let Some((last, middle)) = others.split_last() else { return starts.any(|(_, end)| ends_word(text, end)) };
        let Some((_, mut at)) = starts.next() else { return false };
        for piece in middle {
            let Some((_, end)) = piece.places(text, at).next() else { return false };
            at = end;
        }
        // A star before the end may take what is left.
        last.is_empty() || last.places(text, at).any(|(_, end)| ends_word(text, end))
    }
}

impl Piece {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Text(text) if text.is_empty())
    }

    /// Where the piece ends if it starts at a place.
    fn fits(&self, text: &str, start: usize) -> Option<usize> {
        match self {
            Self::Text(piece) => text[start..].starts_with(&**piece).then_some(start + piece.len()),
            Self::Marks(marks) => {
                let mut chars = text[start..].chars();
                let fits = marks.iter().all(|mark| chars.next().is_some_and(|char| mark.is_none_or(|m| m == char)));
                fits.then_some(text.len() - chars.as_str().len())
            }
        }
    }

    /// Where the piece fits, from a place on: starts and ends.
    fn places<'a>(&'a self, text: &'a str, from: usize) -> impl Iterator<Item = (usize, usize)> + 'a {
        let mut next = Some(from);
        std::iter::from_fn(move || {
            let from = next?;
            let start = match self {
                Self::Text(piece) => from + text[from..].find(&**piece)?,
                Self::Marks(_) => starts(text, from).find(|start| self.fits(text, *start).is_some())?,
            };
            next = starts(text, start).nth(1);
            Some((start, self.fits(text, start)?))
        })
    }

    /// Where the piece starts if it ends with the text.
    fn place_at_end(&self, text: &str) -> Option<usize> {
        let start = match self {
            Self::Text(piece) => return text.ends_with(&**piece).then(|| text.len() - piece.len()),
            Self::Marks(marks) => text.char_indices().rev().nth(marks.len() - 1)?.0,
        };
        self.fits(text, start).map(|_| start)
    }
}

/// Places between characters, from one on, the end of the text included.
fn starts(text: &str, from: usize) -> impl Iterator<Item = usize> + '_ {
    text[from..].char_indices().map(move |(at, _)| from + at).chain(std::iter::once(text.len()))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn starts_word(text: &str, at: usize) -> bool {
    at == 0 || !is_word(text.as_bytes()[at - 1])
}

fn ends_word(text: &str, at: usize) -> bool {
    text.as_bytes().get(at).is_none_or(|byte| !is_word(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(pattern: &str, text: &str) -> bool {
        Glob::new(pattern).matches(&folded(text))
    }

    fn words(pattern: &str, text: &str) -> bool {
        Glob::new(pattern).matches_words(&folded(text))
    }

    #[test]
    fn the_specification_s_examples_hold() {
        assert!(whole("lunc?*", "Lunch plans"));
        assert!(whole("lunc?*", "LUNCH"));
        assert!(!whole("lunc?*", " lunch"));
        assert!(!whole("lunc?*", "lunc"));
        assert!(words("ex*ple", "An example event."));
        assert!(words("ex*ple", "exple"));
        assert!(words("ex*ple", "An exciting triple-whammy"));
        assert!(!words("ex*ple", "An examples"));
    }

    #[test]
    fn words_end_where_neither_letter_nor_digit_nor_underscore_is() {
        assert!(words("cake", "a piece of Cake!"));
        assert!(!words("cake", "cupcake") && !words("cake", "cakes") && !words("cake", "_cake"));
        assert!(words("cake", "cupcake cake"), "a later place counts");
        assert!(words("cake", "écakeé"), "other letters are boundaries");
        assert!(words("bob", "hello @bob:hs1") && words("@room", "x @room"));
        assert!(!words("@room", "x@room"));
        assert!(words("a*b", "xa a c b") && !words("a*b", "a bc"));
        assert!(words("*", "") && words("*", "anything") && words("a*", "x a") && words("*a", "x a"));
        assert!(!words("a*", "xa") && !words("*a", "ax"));
        assert!(words("c?ke", "cäke") && words("?", "ä") && !words("??", "ä"));
    }

    #[test]
    fn whole_texts_match_from_end_to_end() {
        assert!(whole("", "") && !whole("", "a") && whole("**", "") && whole("*", "a\nb"));
        assert!(whole("a*a", "aa") && !whole("a*a", "a") && whole("a*b*c", "a-b-b-c") && !whole("a*b*c", "a-c-b"));
        assert!(whole("*ab", "aab") && whole("a*?", "aä") && !whole("a*?", "a") && whole("*a?c*", "xxabcxx"));
        assert!(!whole("ab*ba", "aba"), "pieces don't overlap");
        assert!(Glob::literal("a*?").matches("a*?") && !Glob::literal("a*").matches("ab"));
    }

    #[test]
    fn the_work_is_bounded() {
        let (pattern, text) = (format!("{}b", "a*".repeat(500)), "a".repeat(65_000));
        assert!(!whole(&pattern, &text) && !words(&pattern, &text));
    }

    /// The definition, tried out in every way.
    fn slow(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|skipped| slow(rest, &text[skipped..])),
            Some((mark, rest)) => {
                text.split_first().is_some_and(|(char, left)| (*mark == '?' || mark == char) && slow(rest, left))
            }
        }
    }

    fn slow_words(pattern: &[char], text: &[char]) -> bool {
        let word = |char: &char| char.is_ascii_alphanumeric() || *char == '_';
        let ends = |at: usize| (0..=text.len()).contains(&at);
        (0..=text.len()).any(|start| {
            (start..=text.len()).filter(|end| ends(*end)).any(|end| {
                (start == 0 || !word(&text[start - 1]))
                    && !text.get(end).is_some_and(word)
                    && slow(pattern, &text[start..end])
            })
        })
    }

    proptest! {
        #[test]
        fn matching_is_what_the_definition_says(pattern in "[ab*?é ]{0,6}", text in "[abé_ ]{0,9}") {
            let (marks, chars): (Vec<_>, Vec<_>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(whole(&pattern, &text), slow(&marks, &chars));
            prop_assert_eq!(words(&pattern, &text), slow_words(&marks, &chars));
        }
    }
}
