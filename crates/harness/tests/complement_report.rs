//! The report's binary: what it writes, what it prints, and when it fails.

use std::path::Path;
use std::process::{Command, Output};

fn event(action: &str, test: &str) -> String {
    format!("{{\"Action\":\"{action}\",\"Package\":\"example.org/suite/tests\",\"Test\":\"{test}\"}}\n")
}

fn report(directory: &Path, files: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_complement-report"))
        .current_dir(directory)
        .args(["--results", "results.tsv", "--parts", "parts.tsv", "--missing", "spine"])
        .args(files)
        .output()
        .expect("the binary is built with this test")
}

#[test]
fn only_a_lost_pass_fails() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("parts.tsv", "part\tpackage\ttest\nspine\ttests\tTestA\nspine\ttests\tTestB\n");
    write("first.json", &(event("run", "TestA") + &event("pass", "TestA") + &event("run", "TestB")));
    write("second.json", &(event("fail", "TestA") + &event("pass", "TestB")));

    let first = report(directory.path(), &["first.json"]);
    assert!(first.status.success());
    insta::assert_snapshot!(String::from_utf8(first.stdout).unwrap(), @r"
    part spine: 1 of 2 top-level tests pass
            not yet tests TestB
    0 better, 0 worse, 2 new; 1 of 2 top-level tests pass, 0 of 0 subtests
    ");

    let second = report(directory.path(), &["second.json"]);
    assert_eq!(second.status.code(), Some(1));
    insta::assert_snapshot!(String::from_utf8(second.stdout).unwrap(), @r"
    better  tests TestB
    WORSE   tests TestA (fail)
    part spine: 1 of 2 top-level tests pass
            not yet tests TestA
    1 better, 1 worse, 0 new; 1 of 2 top-level tests pass, 0 of 0 subtests
    ");
    let table = std::fs::read_to_string(directory.path().join("results.tsv")).unwrap();
    insta::assert_snapshot!(table, @r"
    package	test	outcome
    tests	TestA	fail
    tests	TestB	pass
    ");
}

#[test]
fn a_file_without_tests_leaves_the_table_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("parts.tsv"), "part\tpackage\ttest\n").unwrap();
    std::fs::write(directory.path().join("empty.json"), "").unwrap();
    let output = report(directory.path(), &["empty.json"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no test ran"));
    assert!(!directory.path().join("results.tsv").exists());
}
