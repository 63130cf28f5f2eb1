//! The rules of the house that no compiler checks: crate edges, lengths, names, and that every option is documented.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use sundial::config::Config;

/// Crates from the lowest to the highest; those on one level don't know each other.
const LEVELS: &[&[&str]] = &[
    &["workspace-hack"],
    &["primitives"],
    &["storage"],
    &["federation-client"],
    &["users"],
    &["rooms"],
    &["delayed-events", "search"],
    &["jobs"],
    &["client-api", "federation"],
    &["sundial"],
];
/// Crates that no other may need outside its tests.
const TOOLS: &[&str] = &["testkit", "harness"];
/// The modules of `rooms` that run inside a room's worker.
const WORKER_PARTS: &[&str] = &["append", "authorise", "build", "change", "commit", "persist", "staging", "worker"];
const FILE_MAX_LINES: usize = 800;
const FUNCTION_MAX_LINES: usize = 80;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

fn rust_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&root().join("crates"), "rs", &mut found);
    assert!(found.len() > 20, "the sources were not found");
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn crates_need_only_crates_below_them() {
    let level_of = |name: &str| LEVELS.iter().position(|level| level.contains(&name));
    let ours: BTreeSet<&str> =
        LEVELS.iter().flat_map(|level| level.iter().copied()).chain(TOOLS.iter().copied()).collect();
    let (mut faults, mut seen) = (Vec::new(), BTreeSet::new());
    for entry in fs::read_dir(root().join("crates")).expect("crates") {
        let manifest: toml::Table =
            read(&entry.expect("an entry").path().join("Cargo.toml")).parse().expect("a manifest");
        let name = manifest["package"]["name"].as_str().expect("a name").to_owned();
        let needs = |section: &str| {
            let table = manifest.get(section).and_then(toml::Value::as_table).cloned().unwrap_or_default();
            table.keys().filter(|need| ours.contains(need.as_str())).cloned().collect::<Vec<_>>()
        };
        for need in needs("dependencies").iter().chain(&needs("build-dependencies")) {
            let allowed = match (level_of(&name), level_of(need)) {
                (Some(above), Some(below)) => below < above,
                (None, _) => TOOLS.contains(&name.as_str()),
                (Some(_), None) => false,
            };
            if !allowed {
                faults.push(format!("{name} must not need {need}"));
            }
        }
        seen.insert(name);
    }
    none(&faults);
    let known: BTreeSet<String> = ours.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(seen, known, "every crate has its level here, and every level its crate");
}

#[test]
fn i13_what_a_worker_runs_knows_no_network() {
    let mut sources = Vec::new();
    files(&root().join("crates/rooms/src"), "rs", &mut sources);
    let (mut faults, mut seen) = (Vec::new(), BTreeSet::new());
    for path in sources {
        let name = path.strip_prefix(root().join("crates/rooms/src")).expect("below").display().to_string();
        let part = name.split(['/', '.']).next().unwrap_or_default().to_owned();
        if !WORKER_PARTS.contains(&part.as_str()) {
            continue;
        }
        let text = read(&path);
        let network = ["federation_client", "tokio::net", "reqwest", "hyper"].iter().find(|name| text.contains(**name));
        faults.extend(network.map(|name| format!("{} names {name}", shown(&path))));
        seen.insert(part);
    }
    none(&faults);
    assert_eq!(seen.len(), WORKER_PARTS.len(), "the sources of the worker were not found");
}

#[test]
fn every_invariant_has_a_test_that_names_it() {
    let page = read(&root().join("docs/ARCHITECTURE.md"));
    let named: BTreeSet<String> = rust_files().iter().flat_map(|path| invariants_named_by_tests(&read(path))).collect();
    let faults = (1..=13).map(|number| format!("i{number}")).filter(|name| !named.contains(name));
    none(&faults.map(|name| format!("no test is named for {name}")).collect::<Vec<_>>());
    for number in 1..=13 {
        assert!(page.contains(&format!("- **I{number} ")), "I{number} is not in the architecture page");
    }
}

/// `i4` for a test called `i4_…`, both `i1` and `i2` for one called `i1_i2_…`, also where the name ends so.
fn invariants_named_by_tests(text: &str) -> Vec<String> {
    let is_invariant = |word: &&str| word.strip_prefix('i').is_some_and(|number| number.parse::<u8>().is_ok());
    let names = text.lines().filter_map(|line| line.split_once("fn ")?.1.split('(').next());
    names.flat_map(|name| name.split('_').filter(is_invariant)).map(str::to_owned).collect()
}

#[test]
fn files_and_functions_are_short() {
    let mut faults = Vec::new();
    for path in rust_files() {
        let text = read(&path);
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > FILE_MAX_LINES {
            faults.push(format!("{}: {} lines", shown(&path), lines.len()));
        }
        for (start, length) in functions(&lines) {
            if length > FUNCTION_MAX_LINES {
                faults.push(format!("{}:{}: a function of {length} lines", shown(&path), start + 1));
            }
        }
    }
    none(&faults);
}

/// First line and length of each function: from its signature to the closing brace at the same depth (the sources are formatted).
fn functions(lines: &[&str]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let is_function = code.split(' ').take(6).any(|word| word == "fn") && !code.starts_with("//");
        if !is_function || code.ends_with(['}', ';']) {
            continue;
        }
        let is_end =
            |line: &&str| line.len() > indent && line[..=indent].trim_start() == "}" && line.trim_start().len() <= 2;
        if let Some(length) = lines[start..].iter().position(is_end) {
            found.push((start, length + 1));
        }
    }
    found
}

#[test]
fn the_length_of_a_function_is_counted() {
    let text = "impl A {\n    pub(crate) async fn a(\n        x: u8,\n    ) -> u8 {\n        if x {\n        }\n    }\n}\nfn b() {\n}\n";
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(functions(&lines), [(1, 6), (8, 2)]);
}

#[test]
fn modules_are_named_files_and_the_engine_is_named_once() {
    let mut faults = Vec::new();
    let mut engine = Vec::new();
    for path in rust_files() {
        if path.file_name().is_some_and(|name| name == "mod.rs") {
            faults.push(format!("{}: a module is a named file", shown(&path)));
        }
        if read(&path).contains(concat!("rocks", "db::")) {
            engine.push(shown(&path));
        }
    }
    if engine.len() > 1 {
        faults.push(format!("the engine's crate is named in more than one file: {}", engine.join(", ")));
    }
    none(&faults);
}

#[test]
fn the_example_configuration_is_the_defaults() {
    let text = read(&root().join("config.example.toml"));
    let example = Config::parse(&text, []).expect("the example is accepted");
    let defaults =
        Config::parse("server_name = \"example.org\"\ndata_dir = \"data\"", []).expect("two keys are enough");
    assert_eq!(example, defaults);
    let everything = Config::parse(&uncommented(&text), []).expect("what is commented out is accepted too");
    assert!(everything.public_base_url.is_some() && everything.listeners[0].tls.is_some());
}

/// The example with the options that are commented out because their default is "none".
fn uncommented(text: &str) -> String {
    let lines = text.lines().map(|line| line.strip_prefix("# ").filter(|rest| is_assignment(rest)).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

fn is_assignment(line: &str) -> bool {
    line.split_once(" = ")
        .is_some_and(|(key, _)| !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
}

#[test]
fn every_option_is_in_the_example_and_in_the_reference() {
    let (root, mut faults) = (root(), Vec::new());
    let example: toml::Table = uncommented(&read(&root.join("config.example.toml"))).parse().expect("TOML");
    let reference = read(&root.join("docs/configuration.md"));
    let mut options = Vec::new();
    collect_options("", &mut options);
    assert!(options.len() > 80, "the options were not found: {options:?}");
    for option in options {
        if !holds(&toml::Value::Table(example.clone()), &option) {
            faults.push(format!("{option} is not in config.example.toml"));
        }
        if !reference.contains(&format!("`{option}`")) {
            faults.push(format!("{option} is not in docs/configuration.md"));
        }
    }
    none(&faults);
}

fn holds(value: &toml::Value, option: &str) -> bool {
    let (first, rest) = option.split_once('.').map_or((option, None), |(first, rest)| (first, Some(rest)));
    let value = value.as_array().and_then(|entries| entries.first()).unwrap_or(value);
    value.get(first).is_some_and(|inner| rest.is_none_or(|rest| holds(inner, rest)))
}

/// Every option below `section`, as the reader of the configuration itself names them when it meets one that it doesn't know.
fn collect_options(section: &str, options: &mut Vec<String>) {
    const UNKNOWN: &str = "is_this_an_option";
    let text = match section {
        "" => format!("{UNKNOWN} = 1"),
        "listeners" | "support.contacts" => format!("[[{section}]]\n{UNKNOWN} = 1"),
        "listeners.tls" => format!("[[listeners]]\nbind = \"[::1]:1\"\ntls = {{ {UNKNOWN} = 1 }}"),
        _ => format!("[{section}]\n{UNKNOWN} = 1"),
    };
    let error = Config::parse(&text, []).expect_err("no such option").to_string();
    let Some((_, known)) = error.split_once(&format!("unknown field `{UNKNOWN}`, expected ")) else { return };
    for name in known.split('`').skip(1).step_by(2) {
        let option = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
        let before = options.len();
        if option.matches('.').count() < 2 {
            collect_options(&option, options);
        }
        if options.len() == before || matches!(option.as_str(), "listeners.tls" | "support.contacts") {
            options.push(option);
        }
    }
}

#[test]
fn links_between_pages_resolve() {
    let root = root();
    let mut pages = vec![root.join("README.md"), root.join("complement/README.md")];
    files(&root.join("docs"), "md", &mut pages);
    let mut faults = Vec::new();
    for page in &pages {
        for target in links(&read(page)) {
            let file = target.split('#').next().unwrap_or_default();
            let outside = file.is_empty() || file.contains("://") || file.starts_with("mailto:");
            if !outside && !page.parent().expect("a directory").join(file).exists() {
                faults.push(format!("{}: {target} leads nowhere", shown(page)));
            }
        }
    }
    none(&faults);
    let summary = read(&root.join("docs/SUMMARY.md"));
    for page in pages.iter().filter(|page| page.starts_with(root.join("docs")) && !page.ends_with("SUMMARY.md")) {
        let name = page.strip_prefix(root.join("docs")).expect("below docs").display().to_string();
        assert!(summary.contains(&format!("({name})")), "docs/SUMMARY.md does not list {name}");
    }
}

/// Targets of the links in Markdown text, code left out.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        let parts = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        found.extend(parts.map(|(target, _)| target.to_owned()));
    }
    found
}
