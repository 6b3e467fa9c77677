//! The exporter's README against what it documents: each metric and each flag has its row.

use std::fs;
use std::process::Command;

fn read(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn each_metric_family_has_its_row() {
    let (readme, page) = (read("src/README.md"), read("tests/page.prom"));
    let mut rows: Vec<&str> =
        readme.lines().filter(|line| line.starts_with("| `model") || line.starts_with("| `process_")).collect();
    for family in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = family.split_once(' ').unwrap();
        let documented = |row: &&str| row.starts_with(&format!("| `{name}` | {kind} |"));
        let row = rows.iter().position(documented);
        rows.remove(row.unwrap_or_else(|| panic!("the README has no row for the {kind} {name}")));
    }
    rows.retain(|row| row.split('|').count() == 6 && !row.contains("PromQL"));
    assert_eq!(rows, Vec::<&str>::new(), "the README has rows for metrics that do not exist");
}

#[test]
fn each_flag_has_its_row() {
    let readme = read("src/README.md");
    let help = Command::new(env!("CARGO_BIN_EXE_modelmock")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let words = help.split([' ', ',', '\n']).filter(|word| word.starts_with("--"));
    for flag in words {
        let row = |line: &str| line.starts_with("| `-") && line.contains(&format!("`{flag}"));
        assert!(readme.lines().any(row), "the README has no row for {flag}");
    }
}
