//! Writing BTF: a [`Builder`] adds types one by one and makes the bytes of a `.BTF` section.
