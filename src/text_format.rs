//! A page in Prometheus' text format:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.

use std::borrow::Cow;
use std::fmt::{Display, Write};

/// The `Content-Type` of a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text of a page so far.
#[derive(Debug, Default)]
pub struct TextFormat {
    text: String,
}

impl TextFormat {
    /// Adds a family that has one sample without labels.
    pub fn metric(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// Adds the two lines that begin a family. `help` may contain any text.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let mut help = Cow::from(help);
        // Few texts need escapes. To copy all of them would add 7 % to the instructions of a scrape.
        if help.contains('\\') || help.contains('\n') {
            help = help.replace('\\', "\\\\").replace('\n', "\\n").into();
        }
        // Writing to a String can't fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a sample. Label values may contain any text.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.text.extend([if index == 0 { "{" } else { "," }, label, "=\""]);
            for character in text.chars() {
                match character {
                    '\n' => self.text.push_str("\\n"),
                    '\\' | '"' => self.text.extend(['\\', character]),
                    _ => self.text.push(character),
                }
            }
            self.text.push('"');
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{end} {value}");
    }

    /// Adds whole families that were rendered before.
    pub fn append(&mut self, families: &str) {
        self.text.push_str(families);
    }

    pub fn into_string(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_and_labels_may_have_any_text() {
        let mut page = TextFormat::default();
        page.metric("m", "gauge", "In \"C:\\x\",\nhelp.", 0.5);
        page.sample("m", &[("path", "C:\\x"), ("text", "a \"b\"\nc, é")], 1);
        page.append("# HELP n Help.\n");
        // In a help text, a quotation mark needs no backslash.
        let lines = [
            r#"# HELP m In "C:\\x",\nhelp."#,
            "# TYPE m gauge",
            "m 0.5",
            r#"m{path="C:\\x",text="a \"b\"\nc, é"} 1"#,
            "# HELP n Help.",
        ];
        assert_eq!(page.into_string(), lines.join("\n") + "\n");
    }
}
