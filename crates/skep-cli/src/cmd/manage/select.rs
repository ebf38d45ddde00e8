//! Which object is meant: `id 5`, `name N`, `tag T`, `pinned PATH`.

use anyhow::Context as _;
use skep::kernel::inspect::{self, Kind};

use super::rights;
use crate::exit::usage;

/// Takes a selector off the front of `words`; none when there are no words. Names and tags may be
/// those of several objects.
pub(in crate::cmd) fn take(kind: Kind, words: &mut &[String]) -> anyhow::Result<Option<Vec<u32>>> {
    let [how, which, rest @ ..] = *words else {
        return match words.first() {
            None => Ok(None),
            Some(word) => Err(usage(format!("`{word}` needs a value: {}", forms(kind)))),
        };
    };
    *words = rest;
    let found = match (how.as_str(), kind) {
        ("id", _) => vec![id(kind, which)?],
        ("name", Kind::Program | Kind::Map | Kind::Btf) => matching(kind, |id| {
            Ok(match kind {
                Kind::Program => inspect::program(id)?.map(|p| p.name),
                Kind::Map => inspect::map(id)?.map(|m| m.name),
                _ => inspect::btf(id)?.map(|b| b.name),
            }
            .is_some_and(|name| same_name(&name, which)))
        })?,
        ("tag", Kind::Program) => matching(kind, |id| {
            let tag = inspect::program(id)?.map(|p| crate::show::hex(&p.tag));
            Ok(tag.as_deref() == Some(which.as_str()))
        })?,
        ("pinned", Kind::Program | Kind::Map | Kind::Link) => {
            let pin = rights("opening a pin", inspect::pinned(which.as_ref()));
            let (found, id) = pin.with_context(|| format!("cannot open {which}"))?;
            if found != kind {
                anyhow::bail!("{which} is a pinned {}, expected a {}", noun(found), noun(kind));
            }
            vec![id]
        }
        _ => return Err(usage(format!("expected {}, found `{how}`", forms(kind)))),
    };
    if found.is_empty() {
        anyhow::bail!("no {} has the {how} {which}", noun(kind));
    }
    Ok(Some(found))
}

/// As [`take`], for commands that work on one object.
pub(in crate::cmd) fn take_one(kind: Kind, words: &mut &[String]) -> anyhow::Result<u32> {
    let Some(found) = take(kind, words)? else {
        return Err(usage(format!("say which {}: {}", noun(kind), forms(kind))));
    };
    match *found.as_slice() {
        [one] => Ok(one),
        _ => Err(several(&found)),
    }
}

/// "One is meant", where several fit.
pub(in crate::cmd) fn several(ids: &[u32]) -> anyhow::Error {
    let ids = super::commas(ids);
    usage(format!("several are meant, with the ids {ids}: choose one by `id`"))
}

/// All objects of a kind, or those that the words select; nothing may be left.
pub(in crate::cmd) fn all_or(kind: Kind, words: &[String]) -> anyhow::Result<Vec<u32>> {
    let mut rest = words;
    let chosen = take(kind, &mut rest)?;
    done(rest)?;
    match chosen {
        Some(ids) => Ok(ids),
        None => rights(&format!("listing {}s", noun(kind)), inspect::ids(kind)),
    }
}

/// Refuses words that nobody took.
pub(in crate::cmd) fn done(rest: &[String]) -> anyhow::Result<()> {
    match rest.first() {
        None => Ok(()),
        Some(word) => Err(usage(format!("unexpected `{word}`"))),
    }
}

/// "No such object", by id.
pub(in crate::cmd) fn gone(kind: Kind, id: u32) -> anyhow::Error {
    anyhow::anyhow!("no {} has the id {id}", noun(kind))
}

fn id(kind: Kind, text: &str) -> anyhow::Result<u32> {
    let id = text.parse().map_err(|_| usage(format!("`{text}` is no id: expected a number")))?;
    match rights(&format!("opening a {}", noun(kind)), inspect::open(kind, id))? {
        Some(_) => Ok(id),
        None => Err(gone(kind, id)),
    }
}

fn matching(
    kind: Kind,
    fits: impl Fn(u32) -> Result<bool, skep::kernel::SysError>,
) -> anyhow::Result<Vec<u32>> {
    let what = format!("listing {}s", noun(kind));
    let mut found = Vec::new();
    for id in rights(&what, inspect::ids(kind))? {
        if rights(&what, fits(id))? {
            found.push(id);
        }
    }
    Ok(found)
}

/// The kernel keeps 15 bytes of a name.
fn same_name(kept: &str, asked: &str) -> bool {
    kept == asked || (kept.len() == 15 && asked.starts_with(kept))
}

const fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::Program => "program",
        Kind::Map => "map",
        Kind::Link => "link",
        Kind::Btf => "BTF object",
    }
}

const fn forms(kind: Kind) -> &'static str {
    match kind {
        Kind::Program => "id N, name NAME, tag TAG or pinned PATH",
        Kind::Map => "id N, name NAME or pinned PATH",
        Kind::Link => "id N or pinned PATH",
        Kind::Btf => "id N or name NAME",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_those_that_the_kernel_cut() {
        assert!(same_name("short", "short") && !same_name("short", "shorter"));
        assert!(same_name("fifteen_letters", "fifteen_letters_and_more"));
    }

    #[test]
    fn wrong_words_are_wrong_usage() {
        for words in [&["id"][..], &["tag", "00"], &["id", "x"], &["nonsense", "1"]] {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            let e = take(Kind::Map, &mut words.as_slice()).unwrap_err();
            assert_eq!(crate::exit::code(&e), crate::exit::USAGE, "{words:?}: {e}");
        }
    }
}
