//! The generated parts of `docs/kernel-support.md`: what stands between its markers.

mod features;

use std::{fs, path::Path};

use anyhow::{Context as _, bail};

use crate::support;

const PAGE: &str = "docs/kernel-support.md";

/// Writes the generated parts, or sees that they are what would be written.
pub(crate) fn run(root: &Path, check: bool) -> anyhow::Result<()> {
    let path = root.join(PAGE);
    let old = fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"))?;
    let new = between(&old, "hooks", &support::markdown(root)?)?;
    let new = between(&new, "features", &features::markdown())?;
    match (new == old, check) {
        (true, _) => Ok(()),
        (false, true) => bail!("{PAGE} is not what its tables say: run cargo xtask docs"),
        (false, false) => fs::write(&path, new).with_context(|| format!("cannot write {PAGE}")),
    }
}

/// `page` with `text` between the markers of this name.
fn between(page: &str, name: &str, text: &str) -> anyhow::Result<String> {
    let (begin, end) = (format!("<!-- generated: {name} -->\n"), "<!-- end -->");
    let parts = page.split_once(&begin).and_then(|(head, rest)| {
        let (_, tail) = rest.split_once(end)?;
        Some((head, tail))
    });
    let (head, tail) = parts.with_context(|| format!("{PAGE} has no place for {name}"))?;
    Ok(format!("{head}{begin}{text}{end}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let page = "a\n<!-- generated: x -->\nold\n<!-- end -->\nb <!-- end -->\n";
        let new = between(page, "x", "new\n").unwrap();
        assert_eq!(new, page.replace("old", "new"));
        assert!(between(page, "y", "new").is_err());
    }
}
