//! Words behind a command: keywords, alone or with a value, in any order.

use std::str::FromStr;

use crate::exit::usage;

/// What is left of the words.
pub(in crate::cmd) struct Words<'a>(pub(in crate::cmd) &'a [String]);

impl<'a> Words<'a> {
    /// Takes the next word, whatever it is.
    pub(in crate::cmd) fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// Takes the next word, which is the value of `keyword`.
    pub(in crate::cmd) fn value(&mut self, keyword: &str) -> anyhow::Result<&'a str> {
        self.next().ok_or_else(|| usage(format!("`{keyword}` needs a value")))
    }

    /// As [`Words::value`], for numbers.
    pub(in crate::cmd) fn number<T: FromStr>(&mut self, keyword: &str) -> anyhow::Result<T> {
        let word = self.value(keyword)?;
        let parsed = word.parse();
        parsed.map_err(|_| usage(format!("`{keyword} {word}`: expected a number")))
    }
}

/// "Unexpected word", with what may stand there.
pub(in crate::cmd) fn unexpected(word: &str, expected: &str) -> anyhow::Error {
    usage(format!("unexpected `{word}`: expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_and_their_values() {
        let words: Vec<String> = "repeat 5 file".split(' ').map(str::to_owned).collect();
        let mut words = Words(&words);
        assert_eq!(words.next(), Some("repeat"));
        assert_eq!(words.number::<u32>("repeat").unwrap(), 5);
        assert_eq!(words.next(), Some("file"));
        let e = words.value("file").unwrap_err();
        assert_eq!(crate::exit::code(&e), crate::exit::USAGE);
    }
}
