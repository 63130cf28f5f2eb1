use super::*;

const RUN: &str = r#"
{"Time":"2026-11-21T09:30:25.2Z","Action":"start","Package":"example.org/suite/tests/csapi"}
{"Action":"run","Package":"example.org/suite/tests/csapi","Test":"TestLogin"}
{"Action":"output","Package":"example.org/suite/tests/csapi","Test":"TestLogin","Output":"=== RUN   TestLogin\n"}
{"Action":"run","Package":"example.org/suite/tests/csapi","Test":"TestLogin/with_a_password"}
{"Action":"pass","Package":"example.org/suite/tests/csapi","Test":"TestLogin/with_a_password","Elapsed":0.1}
{"Action":"pass","Package":"example.org/suite/tests/csapi","Test":"TestLogin","Elapsed":0.1}
{"Action":"run","Package":"example.org/suite/tests/csapi","Test":"TestMedia"}
{"Action":"skip","Package":"example.org/suite/tests/csapi","Test":"TestMedia","Elapsed":0}
# example.org/suite/tests
{"Action":"run","Package":"example.org/suite/tests","Test":"TestJoin"}
{"Action":"fail","Package":"example.org/suite/tests","Test":"TestJoin","Elapsed":3}
{"Action":"run","Package":"example.org/suite/tests","Test":"TestPanics"}
{"Action":"fail","Package":"example.org/suite/tests","Elapsed":3.7}
"#;

fn results(rows: &[(&str, &str, &str)]) -> Results {
    Results(rows.iter().map(|(package, test, outcome)| (id(package, test), Outcome::parse(outcome).unwrap())).collect())
}

#[test]
fn a_run_becomes_a_sorted_table() {
    insta::assert_snapshot!(Results::from_go_json(RUN).unwrap().to_tsv(), @r"
    package	test	outcome
    tests	TestJoin	fail
    tests	TestPanics	fail
    tests/csapi	TestLogin	pass
    tests/csapi	TestLogin/with_a_password	pass
    tests/csapi	TestMedia	skip
    ");
}

#[test]
fn the_table_reads_back_as_it_was_written() {
    let run = Results::from_go_json(RUN).unwrap();
    assert_eq!(Results::from_tsv(&run.to_tsv()).unwrap(), run);
    assert_eq!(Results::from_tsv("").unwrap(), Results::default());
}

#[test]
fn a_test_that_a_kill_cut_off_failed() {
    let cut = RUN.find(r#"{"Action":"pass","Package":"example.org/suite/tests/csapi","Test":"TestLogin","#).unwrap();
    let run = Results::from_go_json(&RUN[..cut + 30]).unwrap();
    assert_eq!(run.outcome(&id("tests/csapi", "TestLogin")), Some(Outcome::Fail));
    assert_eq!(run.outcome(&id("tests/csapi", "TestLogin/with_a_password")), Some(Outcome::Pass));
}

#[test]
fn broken_input_names_its_line() {
    let broken = Results::from_go_json("{\"Action\":\"run\"\n{\"Action\":\"start\"}\n").unwrap_err();
    assert!(matches!(broken, ReadError::Event { line: 1, .. }), "{broken}");
    assert!(matches!(Results::from_go_json("ok  example.org 0.1s\n"), Err(ReadError::NoTests)));
    let headless = Results::from_tsv("tests\tTestA\tpass\n").unwrap_err();
    assert!(matches!(headless, ReadError::Row { line: 1, .. }), "{headless}");
    for row in ["tests\tTestA", "tests\tTestA\tmaybe", "tests\tTestA\tpass\tmore"] {
        let error = Results::from_tsv(&format!("package\ttest\toutcome\n{row}\n")).unwrap_err();
        assert!(matches!(error, ReadError::Row { line: 2, .. }), "{row}: {error}");
    }
}

#[test]
fn a_merge_replaces_what_ran_and_keeps_what_did_not() {
    let before = results(&[
        ("tests", "TestA", "pass"),
        ("tests", "TestB", "fail"),
        ("tests", "TestC", "pass"),
        ("tests", "TestD", "skip"),
    ]);
    let mut after = before.clone();
    after.merge(results(&[
        ("tests", "TestA", "fail"),
        ("tests", "TestB", "pass"),
        ("tests", "TestD", "fail"),
        ("tests", "TestE", "pass"),
    ]));
    assert_eq!(
        after.changes_since(&before),
        Changes { better: vec![id("tests", "TestB")], worse: vec![(id("tests", "TestA"), Outcome::Fail)], new: 1 }
    );
    assert_eq!(after.outcome(&id("tests", "TestC")), Some(Outcome::Pass));
    assert_eq!(after.top_level(), Count { passed: 3, total: 5 });
}

#[test]
fn a_pass_that_becomes_a_skip_is_worse() {
    let before = results(&[("tests", "TestA", "pass")]);
    let after = results(&[("tests", "TestA", "skip")]);
    assert_eq!(after.changes_since(&before).worse, [(id("tests", "TestA"), Outcome::Skip)]);
}

#[test]
fn parts_count_what_never_ran() {
    let parts = Parts::from_tsv("part\tpackage\tfile\ttest\nspine\ttests\ta.go\tTestA\nspine\ttests\ta.go\tTestB\nclient\ttests/csapi\tb.go\tTestC\n").unwrap();
    let run = results(&[("tests", "TestA", "pass"), ("tests", "TestA/sub", "pass"), ("tests", "TestC", "pass")]);
    assert_eq!(
        parts.counts(&run),
        [
            PartCount {
                part: "client".to_owned(),
                count: Count { passed: 0, total: 1 },
                missing: vec![id("tests/csapi", "TestC")]
            },
            PartCount {
                part: "spine".to_owned(),
                count: Count { passed: 1, total: 2 },
                missing: vec![id("tests", "TestB")]
            },
        ]
    );
    assert_eq!(run.subtests(), Count { passed: 1, total: 1 });
    assert!(matches!(Parts::from_tsv("part\ttest\n"), Err(ReadError::Row { line: 1, .. })));
    assert!(matches!(Parts::from_tsv("part\tpackage\ttest\nspine\n"), Err(ReadError::Row { line: 2, .. })));
}

#[test]
fn packages_are_cut_at_the_directory_of_tests() {
    for (package, short) in [
        ("example.org/suite/tests", "tests"),
        ("example.org/suite/tests/msc1", "tests/msc1"),
        ("example.org/mytests/tests/msc1", "tests/msc1"),
        ("example.org/other", "example.org/other"),
    ] {
        assert_eq!(short_package(package), short);
    }
}
