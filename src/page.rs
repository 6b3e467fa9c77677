//! A page in Prometheus' text format:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.

use std::fmt::{Display, Write};

/// The `Content-Type` of a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text of a page so far.
#[derive(Debug, Default)]
pub struct Page(pub String);

impl Page {
    /// Adds a family that has one sample without labels.
    pub fn metric(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// Adds the two lines that begin a family. `help` is one line without backslashes.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String can't fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a sample. Label values may contain any text.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.0.extend([if index == 0 { "{" } else { "," }, label, "=\""]);
            for character in text.chars() {
                match character {
                    '\n' => self.0.push_str("\\n"),
                    '\\' | '"' => self.0.extend(['\\', character]),
                    _ => self.0.push(character),
                }
            }
            self.0.push('"');
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_may_have_any_labels() {
        let mut page = Page::default();
        page.metric("m", "gauge", "Help.", 0.5);
        page.sample("m", &[("path", "C:\\x"), ("text", "a \"b\"\nc, é")], 1);
        let text = "# HELP m Help.\n# TYPE m gauge\nm 0.5\nm{path=\"C:\\\\x\",text=\"a \\\"b\\\"\\nc, é\"} 1\n";
        assert_eq!(page.0, text);
    }
}
