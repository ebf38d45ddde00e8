//! Names to types: a chained hash table over type numbers, cheap enough to build for a whole kernel.

use crate::{Btf, TypeId, raw::MAX_NAME};

/// The part of a name that CO-RE compares: up to the last `___`, the rest is a flavor.
///
/// `task_struct___v2` is `task_struct`. Underscores that stand first or last do not separate.
pub fn essential_name(name: &str) -> &str {
    // The kernel's rule: the separator has a character that is no underscore on both sides.
    let bytes = name.as_bytes();
    for (at, window) in bytes.windows(5).enumerate().rev() {
        if let [before, b'_', b'_', b'_', after] = window
            && *before != b'_'
            && *after != b'_'
        {
            return name.get(..=at).unwrap_or(name);
        }
    }
    name
}

/// All named types of one layer, by the hash of their essential name.
#[derive(Debug)]
pub(crate) struct NameIndex {
    first_id: u32,
    /// By hash: one more than the lowest position with it, 0 for none.
    heads: Box<[u32]>,
    /// By position: one more than the next position in the same chain, 0 at the end.
    next: Box<[u32]>,
}

impl NameIndex {
    /// Indexes the types that `btf` itself stores.
    pub(crate) fn new(btf: &Btf) -> Self {
        let inner = &btf.inner;
        let strings = inner.strings.as_bytes();
        let flavors = Flavors::new(strings);
        let count = inner.starts.len().saturating_sub(1);
        let mut heads = vec![0u32; count.next_power_of_two()].into_boxed_slice();
        let mask = heads.len() - 1;
        let mut next = vec![0u32; count].into_boxed_slice();
        // From the back, so that each chain ends up in ascending order.
        let positions = 0..u32::try_from(count).expect("parsing counts types in 32 bits");
        for ((position, link), &start) in positions.zip(next.iter_mut()).zip(&inner.starts).rev() {
            let name = inner.words.get(start as usize).copied().unwrap_or(0);
            if name == 0 {
                continue;
            }
            let hash = match name.checked_sub(inner.first_string) {
                Some(at) if !flavors.may_be_after(at as usize) => {
                    hash_to_nul(strings.get(at as usize..).unwrap_or_default())
                }
                _ => hash(essential_name(btf.name_at(name)).as_bytes()),
            };
            if let Some(head) = heads.get_mut(hash as usize & mask) {
                *link = std::mem::replace(head, position + 1);
            }
        }
        Self { first_id: inner.first_id, heads, next }
    }

    /// Types whose essential name may be `name`, in ascending order; the caller compares.
    pub(crate) fn candidates(&self, name: &str) -> impl Iterator<Item = TypeId> + '_ {
        let slot = hash(name.as_bytes()) as usize & (self.heads.len() - 1);
        let head = self.heads.get(slot).copied().unwrap_or(0);
        std::iter::successors(head.checked_sub(1), |&at| self.next.get(at as usize)?.checked_sub(1))
            .map(|position| TypeId(self.first_id + position))
    }
}

/// Where in a string section `___` occurs: almost nowhere, so almost no name has to be searched.
struct Flavors {
    /// By block of bytes: does one start here, or soon enough after it to be in a name from here?
    blocks: Vec<bool>,
}

impl Flavors {
    const BLOCK: usize = 64;

    fn new(strings: &[u8]) -> Self {
        let mut blocks = vec![false; strings.len() / Self::BLOCK + 1];
        let mut start = 0;
        let mut marked = 0;
        // Three in a row have one at every third byte.
        while let Some(at) = strings.get(start..).and_then(|rest| {
            rest.iter().skip(2).step_by(3).position(|&b| b == b'_').map(|p| start + 2 + p * 3)
        }) {
            start = at - 1;
            let around = strings.get(at - 2..).unwrap_or_default();
            let around = around.get(..5).unwrap_or(around);
            if around.windows(3).any(|three| three == b"___") {
                // Of the name around it, all blocks from its start; up to the last separator that
                // is done, and a name is not longer than that.
                let from = marked.max(at.saturating_sub(MAX_NAME));
                let head = strings.get(from..at).unwrap_or_default();
                let name = from + head.iter().rposition(|&b| b == 0).map_or(0, |nul| nul + 1);
                marked = at;
                for block in name / Self::BLOCK..=at / Self::BLOCK {
                    if let Some(mark) = blocks.get_mut(block) {
                        *mark = true;
                    }
                }
            }
        }
        Self { blocks }
    }

    /// Could a name that starts here have a flavor? Sometimes yes when it has none.
    fn may_be_after(&self, at: usize) -> bool {
        self.blocks.get(at / Self::BLOCK).copied().unwrap_or(true)
    }
}

/// The hash of the bytes up to the first NUL, eight at a time.
fn hash_to_nul(bytes: &[u8]) -> u32 {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let mut state = 0;
    let (chunks, rest) = bytes.as_chunks::<8>();
    for chunk in chunks {
        let word = u64::from_le_bytes(*chunk);
        let zeros = word.wrapping_sub(LOW) & !word & HIGH;
        if zeros != 0 {
            // Only the lowest mark is certain to be a NUL, and only that one matters.
            let kept = zeros.trailing_zeros() & !7;
            return finish(mix(state, word & !(u64::MAX << kept)));
        }
        state = mix(state, word);
    }
    let end = rest.iter().position(|&b| b == 0).unwrap_or(rest.len());
    finish(mix(state, tail(rest.get(..end).unwrap_or(rest))))
}

/// The hash of a whole name, the same as of one that a NUL ends.
fn hash(name: &[u8]) -> u32 {
    let (chunks, rest) = name.as_chunks::<8>();
    let state = chunks.iter().fold(0, |state, chunk| mix(state, u64::from_le_bytes(*chunk)));
    finish(mix(state, tail(rest)))
}

/// Less than eight bytes as a number.
fn tail(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &b| word << 8 | u64::from(b))
}

fn mix(state: u64, word: u64) -> u64 {
    (state.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn finish(state: u64) -> u32 {
    let [.., b3, b2, b1, b0] = (state >> 32 ^ state >> 15).to_be_bytes();
    u32::from_be_bytes([b3, b2, b1, b0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_hashes_the_same_with_and_without_what_follows_it() {
        let text = b"a_name_of_some_length\0next\0\0\xff\x01\0and_another_one\0";
        for start in 0..text.len() {
            let end = start + text[start..].iter().position(|&b| b == 0).unwrap();
            assert_eq!(hash_to_nul(&text[start..]), hash(&text[start..end]), "{start}");
        }
    }

    #[test]
    fn names_with_a_separator_are_marked() {
        for before in 0..200 {
            for inside in 1..150 {
                let mut text = vec![b'x'; before];
                text.push(0);
                text.extend(vec![b'y'; inside]);
                text.extend(b"___z\0");
                text.extend(vec![b'_'; 2]);
                text.push(0);
                assert!(Flavors::new(&text).may_be_after(before + 1), "{before} {inside}");
            }
        }
        assert!(!Flavors::new(&[b"a__b\0".as_slice(); 100].concat()).blocks.contains(&true));
    }

    #[test]
    fn a_flavor_is_what_follows_the_last_separator() {
        let cases = [
            ("task_struct", "task_struct"),
            ("task_struct___v2", "task_struct"),
            ("a___b___c", "a___b"),
            ("a____b", "a____b"),
            ("___b", "___b"),
            ("a___", "a___"),
            ("a__b", "a__b"),
            ("a___b____c", "a"),
            ("", ""),
        ];
        for (name, want) in cases {
            assert_eq!(essential_name(name), want, "{name}");
        }
    }
}
