//! The comparison of a `room_member_count` condition.

/// A range of numbers of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CountIs {
    Equal(u64),
    Less(u64),
    More(u64),
    AtMost(u64),
    AtLeast(u64),
}

impl CountIs {
    /// Reads a number with one of `==`, `<`, `>`, `<=`, `>=` before it or none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        type Make = fn(u64) -> CountIs;
        const FORMS: [(&str, Make); 6] = [
            ("==", CountIs::Equal),
            ("<=", CountIs::AtMost),
            (">=", CountIs::AtLeast),
            ("<", CountIs::Less),
            (">", CountIs::More),
            ("", CountIs::Equal),
        ];
        let form = FORMS.iter().find_map(|(prefix, make)| Some((text.strip_prefix(prefix)?, make)));
        let (digits, make) = form?;
        let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| all_digits).map(make)
    }

    /// Whether a number is in the range.
    pub(super) fn holds(self, count: u64) -> bool {
        match self {
            Self::Equal(limit) => count == limit,
            Self::Less(limit) => count < limit,
            Self::More(limit) => count > limit,
            Self::AtMost(limit) => count <= limit,
            Self::AtLeast(limit) => count >= limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_are_read_and_hold() {
        let held = |text: &str| {
            let is = CountIs::parse(text).expect(text);
            (1..=3).filter(|count| is.holds(*count)).collect::<Vec<_>>()
        };
        assert_eq!(held("2"), [2]);
        assert_eq!(held("==2"), [2]);
        assert_eq!(held("<2"), [1]);
        assert_eq!(held("<=2"), [1, 2]);
        assert_eq!(held(">2"), [3]);
        assert_eq!(held(">=2"), [2, 3]);
        for bad in ["", "=2", "<>2", "two", "2 ", "-1", "+1", "==", "99999999999999999999"] {
            assert_eq!(CountIs::parse(bad), None, "{bad}");
        }
    }
}
