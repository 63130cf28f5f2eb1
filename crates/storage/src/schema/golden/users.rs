use super::Golden;

pub(super) fn rows() -> Golden {
    Golden::default()
}
