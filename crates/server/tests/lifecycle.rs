//! The binary from outside: start, refusal of a second process, limits of a connection, signals.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A server on a free port, killed when the test ends.
struct Server {
    child: Child,
    /// Kept open: the server may write to it until its end.
    stdout: BufReader<ChildStdout>,
    said: String,
    address: SocketAddr,
}

impl Server {
    fn start(config: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sundial"));
        command.args(["serve", "--config"]).arg(config);
        Self::run(command)
    }

    fn run(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut said = String::new();
        while !said.contains(" serves ") {
            assert_ne!(stdout.read_line(&mut said).expect("text"), 0, "the server ended: {said}");
        }
        let url = said.lines().find(|line| line.contains(" serves ")).and_then(|line| line.rsplit("://").next());
        let address = url.and_then(|address| address.trim().parse().ok()).expect("an address");
        Self { child, stdout, said, address }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status();
        assert!(status.expect("a shell").success());
    }

    /// SIGTERM, then the exit status, which must come within five seconds.
    fn terminate(self) -> ExitStatus {
        self.signal("TERM");
        self.ended()
    }

    /// The exit status, which must come within five seconds.
    fn ended(mut self) -> ExitStatus {
        for _ in 0..100 {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the server did not end within five seconds");
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("accepts");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
        stream
    }

    /// Sends bytes on a new connection and reads all that comes until the server closes it.
    fn exchange(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(request).expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer, then the end");
        answer
    }

    fn health(&self) -> String {
        self.exchange(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.stdout.read_line(&mut self.said);
    }
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("temporary directory")
}

fn write_config(directory: &TempDir, listener: &str, more: &str) -> PathBuf {
    let file = directory.path().join("sundial.toml");
    let text = format!(
        "server_name = \"hs.test\"\ndata_dir = \"data\"\n{more}\n[[listeners]]\nbind = \"127.0.0.1:0\"\n{listener}\n"
    );
    std::fs::write(&file, text).expect("written");
    file
}

fn sundial(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sundial")).args(arguments).output().expect("the binary runs")
}

#[test]
fn it_serves_refuses_a_second_process_and_ends_on_sigterm() {
    let directory = directory();
    let config = write_config(&directory, "", "");
    let server = Server::start(&config);
    assert!(server.health().starts_with("HTTP/1.1 200 OK"));
    let mode = |name: &str| {
        let path = directory.path().join("data").join(name);
        std::fs::metadata(path).expect(name).permissions().mode() & 0o777
    };
    assert_eq!((mode("admin.sock"), mode("")), (0o600, 0o700));

    let second = sundial(&["serve", "--config", config.to_str().expect("text")]);
    let refusal = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1));
    assert!(refusal.contains(&format!("in use by another Sundial (process {})", server.child.id())), "{refusal}");

    let _idle = server.connect();
    assert_eq!(server.terminate().code(), Some(0));
    assert_eq!(Server::start(&config).terminate().code(), Some(0), "the directory is free again");
}

#[test]
fn a_bad_configuration_is_refused_by_key_and_line() {
    let directory = directory();
    let config = write_config(&directory, "", "colour = 3");
    for command in ["serve", "check-config"] {
        let output = sundial(&[command, "--config", config.to_str().expect("text")]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1));
        assert!(error.contains("line 3: `colour`: unknown field"), "{error}");
    }
    assert!(!directory.path().join("data").exists(), "nothing is touched before the configuration is right");
}

#[test]
fn a_generated_configuration_passes_the_check() {
    let directory = directory();
    let file = directory.path().join("generated.toml");
    let generated = sundial(&["generate-config", "--server-name", "example.org"]);
    assert!(generated.status.success());
    std::fs::write(&file, generated.stdout).expect("written");
    let checked = sundial(&["check-config", "--config", file.to_str().expect("text")]);
    assert_eq!(String::from_utf8_lossy(&checked.stdout), "OK\n");
    assert!(sundial(&["--version"]).stdout.starts_with(b"sundial "));
}

#[test]
fn a_connection_that_dawdles_or_talks_too_much_is_closed() {
    let directory = directory();
    let more = "[limits]\nheader_timeout_seconds = 1\nidle_timeout_seconds = 2\n";
    let server = Server::start(&write_config(&directory, "", more));
    assert_eq!(server.exchange(b"GET /health HTTP/1.1\r\nx-slow: "), "", "headers that never end");
    let answer = server.exchange(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200"), "kept alive, then closed as idle: {answer}");

    let headers = "x-many: 1\r\n".repeat(120);
    let answer = server.exchange(format!("GET /health HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 431"), "too many headers: {answer}");
    let header = "a".repeat(40_000);
    let answer = server.exchange(format!("GET /health HTTP/1.1\r\nhost: x\r\nx: {header}\r\n\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 431"), "too large headers: {answer}");
    assert!(server.health().starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_the_certificate_again() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = directory();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let use_certificate = |name: &str| {
        for (kind, file) in [("crt", "tls.crt"), ("key", "tls.key")] {
            std::fs::copy(fixtures.join(format!("{name}.{kind}")), directory.path().join(file)).expect("copied");
        }
    };
    use_certificate("first");
    let config = write_config(&directory, "tls = { certificate = \"tls.crt\", key = \"tls.key\" }", "");
    let server = Server::start(&config);
    let url = format!("https://localhost:{}/health", server.address.port());
    let trusts = async |name: &str| {
        let pem = std::fs::read(fixtures.join(format!("{name}.crt"))).expect("a fixture");
        let root = reqwest::Certificate::from_pem(&pem).expect("a certificate");
        let client = reqwest::Client::builder().tls_certs_only([root]).build().expect("a client");
        client.get(&url).send().await.is_ok_and(|response| response.version() == http::Version::HTTP_2)
    };
    assert!(trusts("first").await && !trusts("second").await);

    std::fs::write(directory.path().join("tls.crt"), "rubbish").expect("written");
    server.signal("HUP");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(trusts("first").await, "what can't be read changes nothing");

    use_certificate("second");
    server.signal("HUP");
    let mut reloaded = false;
    for _ in 0..50 {
        reloaded = trusts("second").await;
        if reloaded {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(reloaded, "the new certificate is served");
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn a_data_directory_belongs_to_one_server_name() {
    let directory = directory();
    let config = write_config(&directory, "", "");
    assert_eq!(Server::start(&config).terminate().code(), Some(0));
    let other = std::fs::read_to_string(&config).expect("written").replace("hs.test", "other.test");
    std::fs::write(&config, other).expect("written");
    let refused = sundial(&["serve", "--config", config.to_str().expect("text")]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(error.contains("hs.test") && error.contains("other.test"), "{error}");
}

#[test]
fn users_are_made_with_and_without_a_running_server() {
    let directory = directory();
    let config = write_config(&directory, "", "[limits]\npassword_hash_memory_kib = 64\npassword_hash_passes = 1\n");
    let create = |name: &str, admin: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sundial"));
        command.args(["user", "create", name, "--password-stdin", "--config"]).arg(&config);
        if admin {
            command.arg("--admin");
        }
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("the binary runs");
        child.stdin.take().expect("piped").write_all(b"correct horse battery\n").expect("written");
        let output = child.wait_with_output().expect("it ends");
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    assert_eq!(create("alice", false), (true, "created @alice:hs.test\n".to_owned()));
    let (done, error) = create("@alice:hs.test", false);
    assert!(!done && error.contains("taken"), "{error}");

    let server = Server::start(&config);
    assert_eq!(create("@bob:hs.test", true), (true, "created @bob:hs.test\n".to_owned()));
    let (done, error) = create("@carol:elsewhere.test", false);
    assert!(!done && error.contains("not a user of hs.test"), "{error}");
    assert_eq!(server.terminate().code(), Some(0));
    let (done, error) = create("bob", false);
    assert!(!done && error.contains("taken"), "{error}");
}

#[test]
fn reports_are_read_and_deleted_with_and_without_a_running_server() {
    let directory = directory();
    let more = "[registration]\nmode = \"open\"\n[limits]\npassword_hash_memory_kib = 8\npassword_hash_passes = 1\n";
    let config = write_config(&directory, "", more);
    let reports = |arguments: &[&str]| {
        let output = sundial(&[&["reports"], arguments, &["--config", config.to_str().expect("text")]].concat());
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let server = Server::start(&config);
    let post = |path: &str, token: &str, body: &Value| {
        let body = body.to_string();
        let head = format!("POST /_matrix/client/v3/{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        let head = format!("{head}authorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let answer = server.exchange(head.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        serde_json::from_str::<Value>(body).expect("JSON")
    };
    let wish = json!({ "auth": { "type": "m.login.dummy" }, "username": "alice", "password": "correct horse" });
    let session = post("register", "", &wish);
    let token = session["access_token"].as_str().expect("a token");
    assert_eq!(reports(&["list"]), (true, "no reports\n".to_owned()));
    post("rooms/!r:hs.test/report", token, &json!({ "reason": "noise" }));
    post("users/@eve:hs.test/report", token, &json!({ "reason": "more noise" }));
    let (done, listed) = reports(&["list"]);
    assert!(done && listed.contains("@alice:hs.test reports room !r:hs.test\n    noise\n"), "{listed}");
    let numbers: Vec<_> = listed.lines().filter(|line| !line.starts_with(' ')).collect();
    let numbers: Vec<_> = numbers.iter().map(|line| line.split(' ').next().expect("a number")).collect();
    let (_, second) = reports(&["list", "--after", numbers[0], "--limit", "1"]);
    assert!(second.contains("reports user @eve:hs.test") && !second.contains("!r:hs.test"), "{second}");
    assert_eq!(reports(&["delete", numbers[0]]), (true, "deleted\n".to_owned()));
    let (done, error) = reports(&["show", numbers[0]]);
    assert!(!done && error.contains("there is no report"), "{error}");
    assert_eq!(server.terminate().code(), Some(0));
    let (done, shown) = reports(&["show", numbers[1]]);
    assert!(done && shown.contains("@eve:hs.test") && shown.contains("more noise"), "{shown}");
    assert_eq!(reports(&["delete", numbers[1]]), (true, "deleted\n".to_owned()));
    assert_eq!(reports(&["list"]), (true, "no reports\n".to_owned()));
}

#[test]
fn servers_that_failed_are_listed_with_and_without_a_running_server() {
    let directory = directory();
    let config = write_config(&directory, "", "");
    let federation = |arguments: &[&str]| {
        let output = sundial(&[&["federation"], arguments, &["--config", config.to_str().expect("text")]].concat());
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let ask = || {
        assert_eq!(federation(&["destinations"]), (true, "no server failed last time\n".to_owned()));
        let (done, error) = federation(&["retry", "x.test"]);
        assert!(!done && error.contains("x.test has not failed"), "{error}");
    };
    let server = Server::start(&config);
    ask();
    assert_eq!(server.terminate().code(), Some(0));
    ask();
}

#[test]
fn the_store_is_checked_while_no_server_runs() {
    let directory = directory();
    let config = write_config(&directory, "", "");
    let check = || {
        let output = sundial(&["check-store", "--config", config.to_str().expect("text")]);
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, said) = check();
    assert!(code == Some(1) && said.contains("there is no store in"), "{said}");
    assert!(!directory.path().join("data").exists(), "and none is made");
    let server = Server::start(&config);
    let (code, said) = check();
    assert!(code == Some(1) && said.contains("in use by another Sundial"), "{said}");
    assert_eq!(server.terminate().code(), Some(0));
    let (code, said) = check();
    assert!(code == Some(0) && said.contains("rooms: 0, events: 0") && said.contains("faults: 0"), "{said}");
}

#[test]
fn the_search_index_is_made_anew_while_no_server_runs() {
    let directory = directory();
    let config = write_config(&directory, "", "");
    let rebuild = |config: &Path| {
        let output = sundial(&["search", "rebuild", "--config", config.to_str().expect("text")]);
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, said) = rebuild(&config);
    assert!(code == Some(1) && said.contains("there is no store in"), "{said}");
    let server = Server::start(&config);
    let index = directory.path().join("data/search/index.sqlite");
    assert!(index.is_file(), "a server that searches has an index");
    let (code, said) = rebuild(&config);
    assert!(code == Some(1) && said.contains("in use by another Sundial"), "{said}");
    assert_eq!(server.terminate().code(), Some(0));
    std::fs::write(
        &index,
        "this is no index, and longer than the hundred bytes that its header would have ".repeat(20),
    )
    .expect("writes");
    assert_eq!(Server::start(&config).terminate().code(), Some(0), "a damaged index keeps no server from starting");
    let (code, said) = rebuild(&config);
    assert!(code == Some(0) && said.contains("0 events can be found"), "{said}");
    let off = write_config(&directory, "", "[search]\nenabled = false\n");
    let (code, said) = rebuild(&off);
    assert!(code == Some(1) && said.contains("search.enabled"), "{said}");
}

#[test]
fn the_signing_key_is_rotated_while_no_server_runs_and_the_old_one_stays_published() {
    let directory = directory();
    let config = write_config(&directory, "", "");
    let rotate = || {
        let output = sundial(&["keys", "rotate", "--config", config.to_str().expect("text")]);
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let published = |server: &Server| {
        let answer = server.exchange(b"GET /_matrix/key/v2/server HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let body = &answer[answer.find('{').expect("JSON")..];
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        let ids = |field: &str| body[field].as_object().expect(field).keys().cloned().collect::<Vec<_>>();
        (ids("verify_keys"), ids("old_verify_keys"))
    };
    let server = Server::start(&config);
    let (first, none) = published(&server);
    assert_eq!((first.len(), none.len()), (1, 0));
    let (code, said) = rotate();
    assert!(code == Some(1) && said.contains("in use by another Sundial"), "{said}");
    assert_eq!(server.terminate().code(), Some(0));
    let (code, said) = rotate();
    assert!(code == Some(0) && said.contains(&format!("{} has expired", first[0])), "{said}");
    let server = Server::start(&config);
    let (second, old) = published(&server);
    assert!(second != first && old == first, "{second:?} {old:?}");
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn the_first_start_gives_a_token() {
    let directory = directory();
    let config = write_config(&directory, "", "");
    let server = Server::start(&config);
    let token =
        server.said.lines().find_map(|line| line.trim().strip_prefix("registration token: ")).map(str::to_owned);
    assert!(token.as_ref().is_some_and(|token| token.len() >= 22), "{}", server.said);
    assert_eq!(server.terminate().code(), Some(0));
}

/// Asks for one account after the other over the admin socket, at most `most`, until one is not made.
fn create_until_failure(directory: &TempDir, most: usize) -> Vec<String> {
    let socket = UnixStream::connect(directory.path().join("data/admin.sock")).expect("connected");
    let mut answers = BufReader::new(socket.try_clone().expect("a second handle"));
    let mut made = Vec::new();
    for number in 0..most {
        let request =
            format!("{{\"command\":\"create_user\",\"name\":\"u{number}\",\"password\":\"correct horse\"}}\n");
        let mut answer = String::new();
        let asked = (&socket).write_all(request.as_bytes()).and_then(|()| answers.read_line(&mut answer));
        if asked.is_err() || !answer.contains("user_created") {
            return made;
        }
        made.push(format!("u{number}"));
    }
    panic!("{most} accounts fit");
}

#[test]
fn a_store_that_cannot_grow_ends_the_process_and_keeps_what_was_acknowledged() {
    let directory = directory();
    let more = "[limits]\npassword_hash_memory_kib = 8\npassword_hash_passes = 1\n";
    let config = write_config(&directory, "", more);
    // No file may be larger than 512 KiB; without the trap that would be a signal instead of an error.
    let mut command = Command::new("sh");
    let script = "trap '' XFSZ; ulimit -f 1024; exec \"$0\" serve --config \"$1\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_sundial")]).arg(&config);
    let log = directory.path().join("log");
    let server = Server::run({
        command.stderr(std::fs::File::create(&log).expect("made"));
        command
    });
    let made = create_until_failure(&directory, 20_000);
    assert!(!made.is_empty());
    assert_eq!(server.ended().code(), Some(1));
    let log = std::fs::read_to_string(&log).expect("written");
    assert!(log.contains("error: the store can't be written any more"), "{log}");

    let server = Server::start(&config);
    let socket = UnixStream::connect(directory.path().join("data/admin.sock")).expect("connected");
    let mut answers = BufReader::new(socket.try_clone().expect("a second handle"));
    for name in made {
        let request = format!("{{\"command\":\"create_user\",\"name\":\"{name}\",\"password\":\"correct horse\"}}\n");
        (&socket).write_all(request.as_bytes()).expect("written");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("answered");
        assert!(answer.contains("taken"), "{name} was acknowledged and is gone: {answer}");
    }
    assert_eq!(server.terminate().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_does_not_wait_for_a_long_poll() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = directory();
    let more = "[registration]\nmode = \"open\"\n[limits]\npassword_hash_memory_kib = 8\npassword_hash_passes = 1\n";
    let server = Server::start(&write_config(&directory, "", more));
    let (http, base) = (reqwest::Client::new(), format!("http://{}/_matrix/client/v3", server.address));
    let body = json!({ "auth": { "type": "m.login.dummy" }, "username": "alice", "password": "correct horse" });
    let post = http.post(format!("{base}/register")).json(&body).send().await.expect("answered");
    let session: Value = post.json().await.expect("JSON");
    let token = session["access_token"].as_str().expect("a token").to_owned();
    let get = |query: String| http.get(format!("{base}/sync?{query}")).bearer_auth(&token).send();
    let first: Value = get("timeout=0".to_owned()).await.expect("answered").json().await.expect("JSON");
    let since = first["next_batch"].as_str().expect("a token").to_owned();
    let poll = tokio::time::timeout(Duration::from_millis(500), get(format!("timeout=60000&since={since}"))).await;
    assert!(poll.is_err(), "nothing happens, so the poll waits");

    let wait = get(format!("timeout=60000&since={since}"));
    let end = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        tokio::task::spawn_blocking(move || server.terminate()).await.expect("no panic")
    };
    let (_, status) = tokio::join!(wait, end);
    assert_eq!(status.code(), Some(0));
}

/// A user of a running server.
struct Alice {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Alice {
    async fn on(server: &Server) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (http, base) = (reqwest::Client::new(), format!("http://{}/_matrix/client/v3", server.address));
        let body = json!({ "auth": { "type": "m.login.dummy" }, "username": "alice", "password": "correct horse" });
        let mut alice = Self { http, base, token: String::new() };
        let session = alice.call("POST", "/register", body).await;
        session["access_token"].as_str().expect("a token").clone_into(&mut alice.token);
        alice
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> Value {
        let method = method.parse().expect("a method");
        let mut request = self.http.request(method, format!("{}{path}", self.base)).json(&body);
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        let response = request.send().await.expect("answered");
        assert!(response.status().is_success(), "{path}: {}", response.text().await.expect("text"));
        response.json().await.expect("JSON")
    }

    /// Schedules messages in a room; the delay ids.
    async fn schedule(&self, room: &str, bodies: &[&str]) -> Vec<String> {
        let mut ids = Vec::new();
        for body in bodies {
            let path = format!("/rooms/{room}/send/m.room.message/{body}?org.matrix.msc4140.delay=3600000");
            let answer = self.call("PUT", &path, json!({ "msgtype": "m.text", "body": body })).await;
            ids.push(answer["delay_id"].as_str().expect("an id").to_owned());
        }
        ids
    }
}

/// A command about delayed events: whether it succeeded, and what it said.
async fn delayed(config: &Path, arguments: &[&str]) -> (bool, String) {
    let (config, [command, rest @ ..]) = (config.to_owned(), arguments) else { panic!("a command") };
    let mut run = Command::new(env!("CARGO_BIN_EXE_sundial"));
    run.args(["delayed", command, "--config"]).arg(config).args(rest);
    let output = tokio::task::spawn_blocking(move || run.output()).await.expect("no panic").expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).expect("text"))
}

/// Waits until `/metrics` has all these lines.
async fn metrics_say(server: &Server, lines: &[&str]) {
    let url = format!("http://{}/metrics", server.address);
    let mut text = String::new();
    for _ in 0..100 {
        text = reqwest::get(&url).await.expect("answered").text().await.expect("text");
        if lines.iter().all(|line| text.lines().any(|found| found == *line)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("one of {lines:?} is missing: {text}");
}

#[tokio::test]
async fn delayed_events_are_shown_and_ended_at_the_command_line() {
    let directory = directory();
    let limits = "[limits]\nenforce = false\npassword_hash_memory_kib = 8\npassword_hash_passes = 1\n";
    let more = format!("metrics = true\n[registration]\nmode = \"open\"\n{limits}");
    let config = write_config(&directory, "", &more);
    let server = Server::start(&config);
    let alice = Alice::on(&server).await;
    let room = alice.call("POST", "/createRoom", json!({})).await["room_id"].as_str().expect("an id").to_owned();
    let ids = alice.schedule(&room, &["one", "two", "three", "four"]).await;

    let (ok, said) = delayed(&config, &["list", "--limit", "3"]).await;
    assert!(ok && said.contains("4 scheduled, of 1 users; 3 shown"), "{said}");
    assert!(said.contains("due in 59 min") && said.contains("@alice:hs.test") && said.contains(&room), "{said}");
    assert!(ids.iter().all(|id| !said.contains(id.as_str())) && !said.contains("three"), "secrets are kept: {said}");
    let from = said.lines().last().and_then(|line| line.strip_prefix("more: --from ")).expect("a next page");
    let (_, rest) = delayed(&config, &["list", "--user", "@alice:hs.test", "--from", from]).await;
    assert!(rest.contains("4 scheduled; 1 shown"), "{rest}");

    let number = said.split_whitespace().next().expect("a number").to_owned();
    let (_, shown) = delayed(&config, &["show", &number]).await;
    assert!(shown.contains("m.room.message") && !shown.contains("m.text") && !shown.contains(&ids[0]), "{shown}");
    let (_, shown) = delayed(&config, &["show", &number, "--content"]).await;
    assert!(shown.contains("m.text") && shown.contains(&ids[0]), "{shown}");
    assert_eq!(delayed(&config, &["cancel", &number]).await, (true, "1 cancelled\n".to_owned()));
    assert_eq!(delayed(&config, &["cancel", &ids[0]]).await.1, "nothing to cancel: it is cancelled\n");
    let (_, ended) = delayed(&config, &["list", "--ended", "--user", "@alice:hs.test", "--json"]).await;
    let ended: Value = serde_json::from_str(&ended).expect("JSON");
    assert_eq!(
        (&ended["events"][0]["number"], &ended["events"][0]["reason"]),
        (&json!(number), &json!("by an operator"))
    );

    let (_, drained) = delayed(&config, &["drain", "--send"]).await;
    assert_eq!(drained, "3 in all: 3 sent, 0 cancelled, 0 refused and still scheduled\n");
    let messages = alice.call("GET", &format!("/rooms/{room}/messages?dir=b&limit=3"), Value::Null).await;
    let bodies: Vec<_> = messages["chunk"].as_array().expect("a chunk").iter().map(|e| &e["content"]["body"]).collect();
    assert_eq!(bodies, ["four", "three", "two"]);
    alice.schedule(&room, &["five", "six"]).await;
    let path = format!("/rooms/{room}/send/m.room.message/due?org.matrix.msc4140.delay=1");
    alice.call("PUT", &path, json!({ "body": "due" })).await;
    metrics_say(
        &server,
        &[
            r#"sundial_delayed_events_total{outcome="sent",reason="action"} 3"#,
            r#"sundial_delayed_events_total{outcome="sent",reason="due"} 1"#,
            r#"sundial_delayed_events_total{outcome="cancelled",reason="operator"} 1"#,
            "sundial_delayed_event_lateness_seconds_count 1",
            "sundial_delayed_events_pending 2",
            "sundial_delayed_events_due 0",
        ],
    )
    .await;
    assert!(!delayed(&config, &["show", "nothing"]).await.0);
    assert!(!delayed(&config, &["list", "--user", "@nobody:hs.test"]).await.0);
    assert_eq!(tokio::task::spawn_blocking(move || server.terminate()).await.expect("no panic").code(), Some(0));

    let (ok, said) = delayed(&config, &["list"]).await;
    assert!(ok && said.contains("2 scheduled, of 1 users"), "{said}");
    let (ok, said) = delayed(&config, &["drain", "--send"]).await;
    assert!(!ok && said.contains("only a running server can send"), "{said}");
    assert_eq!(delayed(&config, &["cancel", "--user", "@alice:hs.test"]).await, (true, "2 cancelled\n".to_owned()));
    assert_eq!(
        delayed(&config, &["drain", "--cancel"]).await.1,
        "0 in all: 0 sent, 0 cancelled, 0 refused and still scheduled\n"
    );
}

#[test]
fn a_backup_of_a_running_server_is_restored_elsewhere_and_nowhere_over_another_store() {
    let directory = directory();
    let config = write_config(&directory, "", "");
    let (config_arg, backup) = (config.to_str().expect("UTF-8"), directory.path().join("backup"));
    let backup_arg = backup.to_str().expect("UTF-8");
    let create = |name: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sundial"))
            .args(["user", "create", "--config", config_arg, "--password-stdin", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary runs");
        child.stdin.take().expect("piped").write_all(b"correct horse\n").expect("written");
        child.wait().expect("ends").success()
    };
    let server = Server::start(&config);
    assert!(create("before"));
    let taken = sundial(&["backup", "--config", config_arg, backup_arg]);
    assert!(taken.status.success(), "{taken:?}");
    assert!(server.health().starts_with("HTTP/1.1 200 OK"));
    assert!(!sundial(&["backup", "--config", config_arg, backup_arg]).status.success(), "it is there already");
    assert!(create("after"));
    assert!(!sundial(&["restore", "--config", config_arg, backup_arg]).status.success(), "a server runs");
    assert!(server.terminate().success());
    assert!(!sundial(&["restore", "--config", config_arg, backup_arg]).status.success(), "there is a store");

    let data = directory.path().join("data");
    std::fs::rename(data.join("store"), directory.path().join("lost")).expect("moved");
    std::fs::rename(backup.join("backup.json"), directory.path().join("label")).expect("moved");
    let refused = sundial(&["restore", "--config", config_arg, backup_arg]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not finished"), "{refused:?}");
    std::fs::rename(directory.path().join("label"), backup.join("backup.json")).expect("moved");
    let restored = sundial(&["restore", "--config", config_arg, backup_arg]);
    assert!(restored.status.success(), "{restored:?}");
    let checked = sundial(&["check-store", "--config", config_arg]);
    assert!(checked.status.success(), "{checked:?}");
    assert!(!create("before"), "it is there");
    assert!(create("after"), "it was lost");

    // Without a server, and with another signing key in the way.
    let again = directory.path().join("again");
    let taken = sundial(&["backup", "--config", config_arg, again.to_str().expect("UTF-8")]);
    assert!(taken.status.success(), "{taken:?}");
    std::fs::rename(data.join("store"), directory.path().join("lost too")).expect("moved");
    std::fs::write(data.join("signing.key"), "ed25519 a_1 AAAA\n").expect("written");
    let refused = sundial(&["restore", "--config", config_arg, backup_arg]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("other keys"), "{refused:?}");
    assert!(!data.join("store").exists());
}
