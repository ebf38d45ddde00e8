//! "Did you mean": the nearest of the names that exist.

/// The names of `all` nearest to `wanted`, at most three, nearest first.
///
/// A name is near when it differs in a third of its letters at most, or when one contains the
/// other.
pub fn near<'a>(wanted: &str, all: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found: Vec<(usize, &str)> = all
        .into_iter()
        .filter_map(|name| {
            let contains = !wanted.is_empty()
                && !name.is_empty()
                && (name.contains(wanted) || wanted.contains(name));
            let d = distance(&wanted.to_lowercase(), &name.to_lowercase());
            let limit = wanted.chars().count().max(name.chars().count()).div_ceil(3);
            (d <= limit || contains).then_some((d, name))
        })
        .collect();
    found.sort();
    found.dedup();
    found.into_iter().take(3).map(|(_, name)| name).collect()
}

/// The tail of a sentence about a missing name: what is near, else what exists.
pub fn suggestion<'a, I>(wanted: &str, all: I) -> String
where
    I: IntoIterator<Item = &'a str>,
{
    let all: Vec<&str> = all.into_iter().collect();
    let near = near(wanted, all.iter().copied());
    let list = |names: &[&str]| names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>();
    match (near.as_slice(), all.as_slice()) {
        ([], []) => "; there is none".into(),
        ([], all) => {
            let more = all.len().saturating_sub(8);
            let shown = list(all.get(..8).unwrap_or(all)).join(", ");
            let tail = if more == 0 { String::new() } else { format!(" and {more} more") };
            format!("; there is {shown}{tail}")
        }
        (near, _) => format!("; did you mean {}?", list(near).join(" or ")),
    }
}

/// Edits (insert, delete, replace) between two words, in one row of memory.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cb, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let replace = diagonal + usize::from(ca != *cb);
            diagonal = *cell;
            *cell = replace.min(diagonal + 1).min(left + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let cases =
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("map", "map", 0)];
        for (a, b, want) in cases {
            assert_eq!(distance(a, b), want, "{a} {b}");
        }
    }

    #[test]
    fn suggestions() {
        let maps = ["counters", "flows", "events"];
        assert_eq!(suggestion("counter", maps), "; did you mean `counters`?");
        assert_eq!(suggestion("evnets", maps), "; did you mean `events`?");
        assert_eq!(suggestion("zzz", maps), "; there is `counters`, `flows`, `events`");
        assert_eq!(suggestion("zzz", []), "; there is none");
    }
}
