//! A last will: Alice joins a call and leaves a delayed event behind that says she has left. While she is there she keeps it from being sent;
//! when her heartbeats stop, the server sends it, and Bob sees it.
//!
//! Run it against a running server: `scripts/run` in one terminal, `cargo run --release --example last_will` in another. The server's address
//! and shared secret come from the arguments, from `SUNDIAL_URL` and `SUNDIAL_SHARED_SECRET`, or the secret from `sundial.toml`.
#![allow(clippy::print_stdout, reason = "an example talks on its standard output")]

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::Parser;
use hmac::{Hmac, KeyInit, Mac};
use primitives::{Clock, Random, SystemClock};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use sha1::Sha1;
use sundial::config::Config;

/// How long the server waits after the last heartbeat.
const DELAY: Duration = Duration::from_secs(3);
/// How often Alice says that she is still there.
const HEARTBEAT: Duration = Duration::from_secs(1);
const HEARTBEATS: usize = 5;
/// The membership of a call, as clients of `MatrixRTC` write it.
const MEMBERSHIP: &str = "org.matrix.msc3401.call.member";

#[derive(Debug, Parser)]
struct Arguments {
    /// The server's address. Default: `http://127.0.0.1:8008`.
    #[arg(long)]
    server: Option<String>,
    /// Its `registration.shared_secret`. Default: the one in the configuration.
    #[arg(long)]
    shared_secret: Option<String>,
    /// Where the shared secret is read from.
    #[arg(long, default_value = "sundial.toml")]
    config: PathBuf,
}

/// A user with an access token.
struct User {
    http: Client,
    server: String,
    id: String,
    token: String,
}

/// What is shown: what happened when, in seconds since the start.
struct Timeline(SystemClock);

impl Timeline {
    fn note(&self, what: &str) {
        println!("{:6.2} s  {what}", self.0.monotonic().as_secs_f32());
    }
}

impl User {
    /// Makes a user with a random name by the shared secret.
    async fn register(http: &Client, server: &str, secret: &str, name: &str) -> anyhow::Result<Self> {
        let url = format!("{server}/_synapse/admin/v1/register");
        let answer: Value =
            http.get(&url).send().await.with_context(|| format!("no server at {server}"))?.json().await?;
        let nonce = answer["nonce"].as_str().context("the server gives no nonce")?;
        let name = format!("{name}-{}", Random::os().letters(6).to_lowercase());
        let password = Random::os().token::<16>();
        let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes())?;
        mac.update([nonce, &name, &password, "notadmin"].join("\0").as_bytes());
        let mac: Vec<String> = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let body =
            json!({ "nonce": nonce, "username": name, "password": password, "admin": false, "mac": mac.concat() });
        let answer: Value = http.post(&url).json(&body).send().await?.json().await?;
        let text =
            |key: &str| answer[key].as_str().map(str::to_owned).with_context(|| format!("not registered: {answer}"));
        Ok(Self { http: http.clone(), server: server.to_owned(), id: text("user_id")?, token: text("access_token")? })
    }

    /// Calls the client API; anything but success is an error.
    async fn call(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("{}/_matrix/client/{path}", self.server);
        let mut request = self.http.request(method.clone(), &url).bearer_auth(&self.token);
        if method != Method::GET {
            request = request.json(body);
        }
        let response = request.send().await?;
        let (status, answer) = (response.status(), response.json::<Value>().await?);
        if !status.is_success() {
            bail!("{method} {path}: {status} {answer}");
        }
        Ok(answer)
    }

    /// Follows the room from `since` until a call membership without content appears; notes each on the way.
    async fn follow(&self, room: &str, mut since: String, timeline: &Timeline) -> anyhow::Result<()> {
        loop {
            let answer = self.call(Method::GET, &format!("v3/sync?timeout=10000&since={since}"), &Value::Null).await?;
            answer["next_batch"].as_str().context("a sync without next_batch")?.clone_into(&mut since);
            for event in answer["rooms"]["join"][room]["timeline"]["events"].as_array().into_iter().flatten() {
                if event["type"] != MEMBERSHIP {
                    continue;
                }
                let sender = event["sender"].as_str().unwrap_or_default();
                if event["content"] == json!({}) {
                    timeline.note(&format!("Bob sees that {sender} has left the call"));
                    return Ok(());
                }
                timeline.note(&format!("Bob sees that {sender} is in the call"));
            }
        }
    }

    /// Joins the call with a last will, keeps it alive for a while, then is heard of no more.
    async fn call_and_fall_silent(&self, room: &str, timeline: &Timeline) -> anyhow::Result<()> {
        let state = format!("v3/rooms/{room}/state/{MEMBERSHIP}/{}", self.id);
        let delay = DELAY.as_millis();
        let path = format!("{state}?org.matrix.msc4140.delay={delay}");
        let scheduled = self.call(Method::PUT, &path, &json!({})).await?;
        let delay_id = scheduled["delay_id"].as_str().context("no delay_id")?;
        timeline.note(&format!("Alice leaves her last will: unheard of for {delay} ms, she has left"));
        self.call(Method::PUT, &state, &json!({ "application": "m.call" })).await?;
        for beat in 1..=HEARTBEATS {
            timeline.0.sleep(HEARTBEAT).await;
            let restart = format!("unstable/org.matrix.msc4140/delayed_events/{delay_id}");
            self.call(Method::POST, &restart, &json!({ "action": "restart" })).await?;
            timeline.note(&format!("Alice is still there ({beat} of {HEARTBEATS})"));
        }
        timeline.note("Alice falls silent");
        Ok(())
    }
}

fn shared_secret(arguments: &Arguments) -> anyhow::Result<String> {
    if let Some(secret) = arguments.shared_secret.clone().or_else(|| std::env::var("SUNDIAL_SHARED_SECRET").ok()) {
        return Ok(secret);
    }
    let config = Config::load(&arguments.config, []).context("give --shared-secret or --config")?;
    config.registration.shared_secret.context("the configuration has no registration.shared_secret")
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let secret = shared_secret(&arguments)?;
    let server = arguments.server.or_else(|| std::env::var("SUNDIAL_URL").ok());
    let server = server.unwrap_or_else(|| "http://127.0.0.1:8008".to_owned());
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (http, timeline) = (Client::new(), Timeline(SystemClock::new()));

    let alice = User::register(&http, &server, &secret, "alice").await?;
    let bob = User::register(&http, &server, &secret, "bob").await?;
    // Whoever is in the room may say that he is in the call.
    let power = json!({ "events": { MEMBERSHIP: 0 } });
    let new_room = json!({
        "preset": "private_chat", "name": "Last will", "invite": [bob.id], "power_level_content_override": power,
    });
    let created = alice.call(Method::POST, "v3/createRoom", &new_room).await?;
    let room = created["room_id"].as_str().context("a room without id")?.to_owned();
    bob.call(Method::POST, &format!("v3/rooms/{room}/join"), &json!({})).await?;
    timeline.note(&format!("{} and {} are in {room}", alice.id, bob.id));

    let first = bob.call(Method::GET, "v3/sync?timeout=0", &Value::Null).await?;
    let since = first["next_batch"].as_str().context("a sync without next_batch")?.to_owned();
    let limit = DELAY + HEARTBEAT * u32::try_from(HEARTBEATS)? + Duration::from_secs(10);
    let both =
        async { tokio::try_join!(alice.call_and_fall_silent(&room, &timeline), bob.follow(&room, since, &timeline)) };
    tokio::time::timeout(limit, both).await.context("the last will did not arrive in time")??;
    Ok(())
}
