use super::*;

const SMALL: &str = "server_name = \"example.org\"\ndata_dir = \"data\"\n";

fn read(more: &str) -> Result<Config, String> {
    Config::parse(&format!("{SMALL}{more}"), []).map_err(|error| error.to_string())
}

fn read_with(variables: &[(&str, &str)]) -> Result<Config, String> {
    let variables = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    Config::parse(SMALL, variables).map_err(|error| error.to_string())
}

#[test]
fn two_keys_are_enough() {
    let config = read("").expect("valid");
    assert_eq!(config.default_room_version, "12");
    assert_eq!(config.listeners, default_listeners());
    assert_eq!(config.registration.mode, RegistrationMode::Closed);
    assert!(config.limits.enforce && config.federation.enabled);
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let error = read("\n[limits]\nenforce = true\nmessages_per_hour = 3\n").expect_err("unknown");
    assert!(error.starts_with("line 6: `limits.messages_per_hour`: unknown field"), "{error}");
    let error = read("[[listeners]]\nbind = \"127.0.0.1:1\"\n[[listeners]]\nbind = \"127.0.0.1:2\"\nport = 3\n")
        .expect_err("unknown");
    assert!(error.starts_with("line 7: `listeners.1.port`: unknown field"), "{error}");
    let error = read("colour = 1\n").expect_err("unknown");
    assert!(error.starts_with("line 3: `colour`: unknown field"), "{error}");
}

#[test]
fn a_bad_value_is_named_with_its_line_and_reason() {
    for (text, start) in [
        ("metrics = 3", "line 3: `metrics`: invalid type: integer `3`, expected a boolean"),
        ("default_room_version = \"13\"", "line 3: `default_room_version`: must be one of \"1\" to \"12\""),
        ("default_room_version = 11", "line 3: `default_room_version`: invalid type"),
        ("[limits]\npdu_max_bytes = 70000", "line 4: `limits.pdu_max_bytes`: must be from 1024 to 65536"),
        (
            "[limits]\n\nmessages_per_user_per_second = -1",
            "line 5: `limits.messages_per_user_per_second`: must be greater than 0",
        ),
        ("[limits]\nmessages_per_user_burst = -1", "line 4: `limits.messages_per_user_burst`: invalid value"),
        ("[registration]\nmode = \"ajar\"", "line 4: `registration.mode`: unknown variant `ajar`"),
        ("[delayed_events]\nmax_delay = \"1 fortnight\"", "line 4: `delayed_events.max_delay`: invalid value"),
        ("[log]\nfilter = \"rooms=loud\"", "line 4: `log.filter`: "),
        ("public_base_url = \"ftp://x\"", "line 3: `public_base_url`: must be an http or https URL"),
        ("[[listeners]]\nbind = \"localhost\"", "line 4: `listeners.0.bind`: "),
        (
            "[[listeners]]\nbind = \"[::1]:80\"\ntls = { certificate = \"a\" }",
            "line 5: `listeners.0.tls`: missing field `key`",
        ),
        (
            "[[listeners]]\nbind = \"[::1]:80\"\ntrusted_proxies = [\"10.0.0.0/40\"]",
            "line 5: `listeners.0.trusted_proxies.0`: ",
        ),
        ("[jobs]\nconcurrent = 0", "line 4: `jobs.concurrent`: must be at least 1"),
        ("[jobs]\nprofile_events_per_second = 0", "line 4: `jobs.profile_events_per_second`: must be at least 0.001"),
        (
            "[federation]\ndenied_keys = [\"AAAA\"]",
            "line 4: `federation.denied_keys`: \"AAAA\" is no ed25519 key in base64",
        ),
        ("[storage]\nmemory_budget = 1", "line 4: `storage.memory_budget`: must be at least 16MiB"),
        ("[search]\nmemory_budget = 1", "line 4: `search.memory_budget`: must be at least 1MiB"),
        ("[[support.contacts]]\nrole = \"m.role.admin\"", "line 3: `support.contacts.0`: needs"),
        ("[turn]\nuris = [\"http://t\"]", "line 4: `turn.uris.0`: must start with turn: or turns:"),
        ("[turn]\nuris = [\"turn:t\"]\nusername = \"u\"", "line 3: `turn`: needs a shared_secret"),
        ("[turn]\nuser_lifetime = \"1s\"", "line 4: `turn.user_lifetime`: must be from 1m to 30d"),
        ("[rtc]\ntransports = [{ url = \"x\" }]", "line 4: `rtc.transports.0`: needs a type"),
        ("= 3", "line 3: "),
    ] {
        let error = read(text).expect_err(text);
        assert!(error.starts_with(start), "{text}\n gave {error}\n not {start}");
    }
}

#[test]
fn a_missing_or_bad_name_is_refused() {
    let error = Config::parse("data_dir = \"x\"", []).expect_err("missing").to_string();
    assert_eq!(error, "missing field `server_name`");
    let error = Config::parse("\nserver_name = \"no spaces here\"\ndata_dir = \"x\"", []).expect_err("bad").to_string();
    assert!(error.starts_with("line 2: `server_name`: "), "{error}");
}

#[test]
fn the_environment_overrides_and_is_typed_by_the_key() {
    let config = read_with(&[
        ("SUNDIAL__SERVER_NAME", "hs1"),
        ("SUNDIAL__DEFAULT_ROOM_VERSION", "11"),
        ("SUNDIAL__LIMITS__ENFORCE", "false"),
        ("SUNDIAL__LIMITS__MESSAGES_PER_USER_PER_SECOND", "7"),
        ("SUNDIAL__REGISTRATION__MODE", "open"),
        ("SUNDIAL__REGISTRATION__SHARED_SECRET", "1234"),
        ("SUNDIAL__DELAYED_EVENTS__MAX_DELAY", "1500"),
        ("SUNDIAL__LISTENERS", "[{ bind = \"0.0.0.0:8008\" }]"),
        ("PATH", "/bin"),
    ])
    .expect("valid");
    assert_eq!(config.server_name, "hs1");
    assert_eq!(config.default_room_version, "11");
    assert!(!config.limits.enforce);
    assert!((config.limits.messages_per_user_per_second - 7.0).abs() < f64::EPSILON);
    assert_eq!(config.registration.mode, RegistrationMode::Open);
    assert_eq!(config.registration.shared_secret.as_deref(), Some("1234"));
    assert_eq!(config.delayed_events.max_delay.0.as_millis(), 1_500);
    assert_eq!(config.listeners[0].bind.port(), 8008);
}

#[test]
fn one_entry_of_a_list_can_be_overridden() {
    let text = format!("{SMALL}[[listeners]]\nbind = \"127.0.0.1:1\"\n");
    let config =
        Config::parse(&text, [("SUNDIAL__LISTENERS__0__BIND".to_owned(), "127.0.0.1:2".to_owned())]).expect("valid");
    assert_eq!(config.listeners[0].bind.port(), 2);
}

#[test]
fn a_bad_variable_is_named() {
    let error = read_with(&[("SUNDIAL__LIMITS__ENFORCED", "false")]).expect_err("unknown");
    assert!(
        error.starts_with("environment variable SUNDIAL__LIMITS__ENFORCED: `limits.enforced`: unknown field"),
        "{error}"
    );
    let error = read_with(&[("SUNDIAL__METRICS", "maybe")]).expect_err("bad");
    assert!(error.starts_with("environment variable SUNDIAL__METRICS: `metrics`: invalid type"), "{error}");
    let error = read_with(&[("SUNDIAL__SERVER_NAME__X", "1")]).expect_err("no table");
    assert_eq!(
        error,
        "environment variable SUNDIAL__SERVER_NAME__X: `server_name.x`: the configuration has no such key"
    );
    let error = read_with(&[("SUNDIAL__LIMITS__PDU_MAX_BYTES", "9")]).expect_err("too small");
    assert!(
        error.starts_with("environment variable SUNDIAL__LIMITS__PDU_MAX_BYTES: `limits.pdu_max_bytes`: must be"),
        "{error}"
    );
}

#[test]
fn paths_are_relative_to_the_file() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("config.toml");
    std::fs::write(&file, SMALL).expect("written");
    let config = Config::load(&file, []).expect("valid");
    assert_eq!(config.data_dir, directory.path().join("data"));
    std::fs::write(&file, format!("{SMALL}x = 1\n")).expect("written");
    let error = Config::load(&file, []).expect_err("unknown key").to_string();
    assert!(error.starts_with(&format!("{}: line 3: `x`: ", file.display())), "{error}");
}
