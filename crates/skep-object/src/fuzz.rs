//! What a fuzzer does with bytes: a plain function, so that tests run it too.

use crate::link::{Input, link};
use crate::write::ObjectWriter;
use crate::{ObjectSpec, Target, resolve};

/// Links the bytes with themselves and alone, reads them as an object, asks everything that can be
/// asked of it, writes it and resolves it against its own types. Whatever the bytes: no panic, time and memory in proportion to them.
pub fn object_bytes(bytes: &[u8]) {
    let input = Input { name: "fuzz.o", bytes };
    drop(link(&[input, input]));
    if let Ok(linked) = link(&[input]) {
        drop(ObjectSpec::parse(&linked.bytes));
    }
    let Ok(spec) = ObjectSpec::parse(bytes) else { return };
    drop(spec.needs());
    for map in &spec.maps {
        drop(map.kernel_name("fuzz"));
    }
    if let Ok(written) = ObjectWriter::new(&spec).to_bytes() {
        drop(ObjectSpec::parse(&written));
    }
    let own = spec.btf.clone();
    let target = Target { btf: own.as_ref(), ..Target::NONE };
    drop(resolve(spec.clone(), &Target::NONE));
    drop(resolve(spec, &target));
}
