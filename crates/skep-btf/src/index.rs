//! Names to types: a chained hash table over type numbers, cheap enough to build for a whole kernel.

use crate::{Btf, TypeId};

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
        let first_id = btf.inner.first_id;
        let count = btf.inner.starts.len().saturating_sub(1);
        let mut heads = vec![0u32; count.next_power_of_two()].into_boxed_slice();
        let mut next = vec![0u32; count].into_boxed_slice();
        // From the back, so that each chain ends up in ascending order.
        let positions = 0..u32::try_from(count).expect("parsing counts types in 32 bits");
        for (position, link) in positions.zip(next.iter_mut()).rev() {
            let Some((_, raw)) = btf.raw(TypeId(first_id + position)) else { continue };
            if raw.name_off == 0 {
                continue;
            }
            let slot = hash(essential_name(btf.name_at(raw.name_off))) as usize & (heads.len() - 1);
            if let Some(head) = heads.get_mut(slot) {
                *link = std::mem::replace(head, position + 1);
            }
        }
        Self { first_id, heads, next }
    }

    /// Types whose essential name may be `name`, in ascending order; the caller compares.
    pub(crate) fn candidates(&self, name: &str) -> impl Iterator<Item = TypeId> + '_ {
        let slot = hash(name) as usize & (self.heads.len() - 1);
        let head = self.heads.get(slot).copied().unwrap_or(0);
        std::iter::successors(head.checked_sub(1), |&at| self.next.get(at as usize)?.checked_sub(1))
            .map(|position| TypeId(self.first_id + position))
    }
}

/// FNV-1a, folded once: short names, no need for more.
fn hash(name: &str) -> u32 {
    let h = name.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

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
