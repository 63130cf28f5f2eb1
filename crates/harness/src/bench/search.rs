//! `/search` over a million messages.

use std::path::Path;

use primitives::{Clock, SystemClock};

use super::{
    engine::SCALE,
    fill,
    site::Site,
    table::{Figure, Goal, Latencies},
    wire::Wire,
};
use crate::process::Launch;

const MESSAGES: usize = 1_000_000 / SCALE as usize;
const ROOMS: usize = 100;
const WORDS_EACH: usize = 10;
/// The words that people know. Word `n` comes about `n` times as seldom as the first.
const WORDS: usize = 20_000;
const SEARCHES: usize = 200 / SCALE as usize;

/// The word that the `place`th of a message's is.
fn word(message: usize, place: usize) -> String {
    let mixed = (message * WORDS_EACH + place + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    // Half of all words are of the first hundredth, and so on: roughly as in languages.
    let rank = match mixed % 4 {
        0 | 1 => mixed / 4 % (WORDS / 100),
        2 => mixed / 4 % (WORDS / 10),
        _ => mixed / 4 % WORDS,
    };
    format!("word{rank}")
}

fn body(message: usize) -> String {
    (0..WORDS_EACH).map(|place| word(message, place)).collect::<Vec<_>>().join(" ")
}

/// Searches of a user who is in all rooms: two words of one message, and one that is in very many.
pub(super) async fn figures(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let launch = Launch::new(folder);
    let site = Site::of(&launch).await?;
    let people = fill::people(&site, 1).await?;
    let rooms = fill::rooms(&site, ROOMS, &people).await?;
    fill::messages(&site, &rooms, MESSAGES, body).await?;
    drop(rooms);
    site.close().await?;
    launch.rebuild_search()?;
    let server = launch.start().await?;
    let mut wire = Wire::connect(&server.base, &people[0].token).await?;
    let mut figures = Vec::new();
    let of_one = |search: usize| {
        let message = search * (MESSAGES / SEARCHES);
        format!("{} {}", word(message, 3), word(message, 7))
    };
    let common = |search: usize| format!("word{}", search % 3);
    figures.extend(measure(&mut wire, "two words", of_one).await?);
    figures.extend(measure(&mut wire, "one common word", common).await?);
    let peak = server.memory_kib("VmHWM")?;
    server.stop().await?;
    Ok(figures.into_iter().map(|figure| figure.peak(peak)).collect())
}

async fn measure(wire: &mut Wire, what: &str, term: impl Fn(usize) -> String) -> anyhow::Result<[Figure; 2]> {
    let (clock, mut latencies) = (SystemClock::new(), Latencies::default());
    for search in 0..SEARCHES {
        let term = term(search);
        let request = format!(r#"{{"search_categories":{{"room_events":{{"search_term":"{term}"}}}}}}"#);
        let start = clock.monotonic();
        let bytes = wire.call("POST", "/_matrix/client/v3/search", &request).await?;
        latencies.add(clock.monotonic().saturating_sub(start));
        let answer: serde_json::Value = serde_json::from_slice(bytes)?;
        let count = answer["search_categories"]["room_events"]["count"].as_u64().unwrap_or_default();
        anyhow::ensure!(count > 0, "nothing is found for {term}");
    }
    let what = format!("/search over {MESSAGES} messages, {what}");
    Ok([
        Figure::new(format!("{what}, p50"), latencies.ms(0.5), "ms", Goal::AtMost(50.0)),
        Figure::new(format!("{what}, p99"), latencies.ms(0.99), "ms", Goal::None),
    ])
}
