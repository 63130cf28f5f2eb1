//! What the program says to whoever started it. The log goes to standard error; this goes to standard output, and errors too to standard error.

use std::io::Write;

/// Writes a line to standard output. A reader that has gone away is no error.
pub(super) fn line(text: &str) {
    self::text(&format!("{text}\n"));
}

/// Writes text to standard output as it is.
pub(super) fn text(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes an error to standard error.
pub(super) fn error(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "error: {text}");
}
