//! Keys and values of maps as Rust values, without unsafe code.

/// A plain value: fixed size, every bit pattern of the right length is one, native byte order.
///
/// Implemented for integers and arrays of bytes. For a struct, implement it by its fields:
///
/// ```
/// use skep::Plain;
///
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// struct Counter {
///     packets: u64,
///     bytes: u64,
/// }
///
/// impl Plain for Counter {
///     const SIZE: usize = 16;
///     fn to_bytes(&self) -> Vec<u8> {
///         [self.packets.to_bytes(), self.bytes.to_bytes()].concat()
///     }
///     fn from_bytes(bytes: &[u8]) -> Option<Self> {
///         let (packets, bytes) = bytes.split_at_checked(8)?;
///         Some(Self { packets: u64::from_bytes(packets)?, bytes: u64::from_bytes(bytes)? })
///     }
/// }
///
/// let counter = Counter { packets: 3, bytes: 180 };
/// assert_eq!(Counter::from_bytes(&counter.to_bytes()), Some(counter));
/// ```
pub trait Plain: Sized {
    /// Length in bytes.
    const SIZE: usize;
    /// The bytes as they lie in the map: [`Plain::SIZE`] of them.
    fn to_bytes(&self) -> Vec<u8>;
    /// The value of exactly [`Plain::SIZE`] bytes; `None` for any other length.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

macro_rules! plain_int {
    ($($int:ty),+) => { $(
        impl Plain for $int {
            const SIZE: usize = size_of::<$int>();
            fn to_bytes(&self) -> Vec<u8> {
                self.to_ne_bytes().to_vec()
            }
            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self::from_ne_bytes)
            }
        }
    )+ };
}

plain_int!(u8, i8, u16, i16, u32, i32, u64, i64, u128, i128);

impl<const N: usize> Plain for [u8; N] {
    const SIZE: usize = N;
    fn to_bytes(&self) -> Vec<u8> {
        self.to_vec()
    }
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T: Plain + PartialEq + std::fmt::Debug>(value: T) {
        let bytes = value.to_bytes();
        assert_eq!(bytes.len(), T::SIZE);
        assert_eq!(T::from_bytes(&bytes), Some(value));
        assert_eq!(T::from_bytes(&[&bytes[..], &[0]].concat()), None, "one byte too many");
        assert_eq!(T::from_bytes(&bytes[1..]), None, "one byte too few");
    }

    #[test]
    fn plain_values_round_trip() {
        round_trip(0x12u8);
        round_trip(-2i16);
        round_trip(0x1234_5678u32);
        round_trip(-3i64);
        round_trip(u128::MAX - 5);
        round_trip([1u8, 2, 3]);
    }
}
