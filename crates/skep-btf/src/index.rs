//! Names to types: a chained hash table over type numbers, cheap enough to build for a whole kernel.

use std::sync::OnceLock;

use crate::{
    Btf, KindTag, TypeId,
    raw::{info_kind, value},
};

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

/// The indexes of one layer, each made when it is first needed: objects ask for structures, and
/// functions are most of a kernel's names.
#[derive(Debug, Default)]
pub(crate) struct Indexes {
    functions: OnceLock<NameIndex>,
    others: OnceLock<NameIndex>,
}

impl Indexes {
    /// The index that has types of this kind; `btf` is the layer.
    pub(crate) fn of(&self, kind: KindTag, btf: &Btf) -> &NameIndex {
        let functions = kind == KindTag::Func;
        let index = if functions { &self.functions } else { &self.others };
        index.get_or_init(|| NameIndex::new(btf, functions))
    }
}

/// Named types of one layer, by the hash of their essential name.
#[derive(Debug)]
pub(crate) struct NameIndex {
    /// By hash: one more than the first entry with it, 0 for none.
    heads: Box<[u32]>,
    entries: Box<[Entry]>,
}

#[derive(Debug)]
struct Entry {
    id: TypeId,
    /// One more than the next entry of the same chain, 0 at the end.
    next: u32,
}

impl NameIndex {
    /// Indexes the types that `btf` itself stores: functions, or all others.
    fn new(btf: &Btf, functions: bool) -> Self {
        let inner = &btf.inner;
        let (words, strings) = (inner.file.words(), inner.file.strings());
        let named = (inner.first_id..).map(TypeId).zip(&inner.starts).filter_map(|(id, &start)| {
            let &[name, info, ..] = words.get(start as usize..)? else { return None };
            let (name, is_function) = (value(name), info_kind(value(info)) == FUNC);
            // The name stands where the next entry will.
            (name != 0 && is_function == functions).then_some(Entry { id, next: name })
        });
        let mut entries: Box<[Entry]> = named.collect();
        let mut heads = vec![0u32; entries.len().next_power_of_two()].into_boxed_slice();
        let mask = heads.len() - 1;
        // From the back, so that each chain ends up in ascending order.
        for (at, entry) in entries.iter_mut().enumerate().rev() {
            let name = entry.next;
            let tail =
                name.checked_sub(inner.first_string).and_then(|at| strings.get(at as usize..));
            let slow = || hash(essential_name(btf.name_at(name)).as_bytes());
            let hash = tail.and_then(hash_of_plain).unwrap_or_else(slow);
            let number = u32::try_from(at + 1).expect("parsing counts types in 32 bits");
            if let Some(head) = heads.get_mut(hash as usize & mask) {
                entry.next = std::mem::replace(head, number);
            }
        }
        Self { heads, entries }
    }

    /// Types whose essential name may be `name`, in ascending order; the caller compares.
    pub(crate) fn candidates(&self, name: &str) -> impl Iterator<Item = TypeId> + '_ {
        let slot = hash(name.as_bytes()) as usize & (self.heads.len() - 1);
        let entry = |number: u32| self.entries.get(number.checked_sub(1)? as usize);
        let head = self.heads.get(slot).copied().unwrap_or(0);
        std::iter::successors(entry(head), move |last| entry(last.next)).map(|entry| entry.id)
    }
}

/// Number of the kind of functions.
const FUNC: u32 = KindTag::Func.number();

/// The hash of the name that begins here, as [`hash`] of what is before its NUL, eight bytes at a
/// time; `None` when there is `___` in it, which may begin a flavor.
fn hash_of_plain(bytes: &[u8]) -> Option<u32> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // The top bit of each byte that is 0; above the lowest one, a mark may be wrong.
    let zeros = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
    let mut state = 0;
    let mut last = 0;
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut rest_padded = [0; 8];
    for (to, from) in rest_padded.iter_mut().zip(rest) {
        *to = *from;
    }
    for &chunk in chunks.iter().chain([&rest_padded]) {
        let word = u64::from_le_bytes(chunk);
        let end = zeros(word);
        let kept = if end == 0 { 64 } else { end.trailing_zeros() & !7 };
        let word = word & !u64::MAX.checked_shl(kept).unwrap_or(0);
        // Exact, unlike `zeros`: bytes that are `_`.
        let other = word ^ u64::from_le_bytes([b'_'; 8]);
        let marks = !((other & !HIGH).wrapping_add(!HIGH) | other) & HIGH;
        let before = |bytes: u32| marks << (8 * bytes) | last >> (64 - 8 * bytes);
        if marks & before(1) & before(2) != 0 {
            return None;
        }
        last = marks;
        if kept == 64 {
            state = mix(state, word);
        } else {
            return Some(finish(mix(state, word)));
        }
    }
    None
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
        let text = b"a_name_of_some_length\0next\0\0\xff\x01\0and__another_one\0";
        for start in 0..text.len() {
            let end = start + text[start..].iter().position(|&b| b == 0).unwrap();
            let want = Some(hash(&text[start..end]));
            assert_eq!(hash_of_plain(&text[start..]), want, "{start}");
            assert_eq!(hash_of_plain(&text[start..=end]), want, "{start}, nothing after it");
        }
        for unended in ["", "no end", "no end.."] {
            assert_eq!(hash_of_plain(unended.as_bytes()), Some(hash(unended.as_bytes())));
        }
    }

    #[test]
    fn three_underscores_are_seen_wherever_they_are() {
        for before in 0..30 {
            let name = |inside: &str| format!("{}{inside}z\0___", "y".repeat(before));
            assert_eq!(hash_of_plain(name("___").as_bytes()), None, "{before}");
            assert_eq!(hash_of_plain(name("____").as_bytes()), None, "{before}");
            assert!(hash_of_plain(name("__.__").as_bytes()).is_some(), "{before}");
            assert!(hash_of_plain(name("_\u{5f}\u{df}_").as_bytes()).is_some(), "{before}");
        }
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
