//! What a loader does with the running kernel's BTF: open it, find types, resolve relocations.
//!
//! `cargo bench -p skep-btf`
#![allow(missing_docs, reason = "criterion's macros make functions without")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use skep_btf::{
    Btf, Kind, KindTag, TypeId, c,
    core::{CoreKind, Resolver, Target},
};

/// Accesses as an object has them: the first members of the first thousand structures.
fn accesses(btf: &Btf) -> Vec<(TypeId, String)> {
    let structures = btf.ids().filter_map(|id| {
        let ty = btf.get(id).filter(|ty| !ty.name.is_empty())?;
        match ty.kind {
            Kind::Struct(c) => Some((id, c.members.len().min(4))),
            _ => None,
        }
    });
    structures
        .take(1000)
        .flat_map(|(id, members)| (0..members).map(move |m| (id, format!("0:{m}"))))
        .collect()
}

fn kernel(criterion: &mut Criterion) {
    let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        eprintln!("SKIP: no BTF of the running kernel");
        return;
    };
    let open = || Btf::parse(&bytes).expect("the kernel's own BTF");
    criterion.bench_function("open", |b| b.iter(open));
    criterion.bench_function("first find", |b| {
        let find = |btf: Btf| btf.find(KindTag::Struct, "task_struct").count();
        b.iter_batched(open, find, BatchSize::LargeInput);
    });
    let btf = open();
    criterion.bench_function("later find", |b| {
        b.iter(|| btf.find(KindTag::Struct, "task_struct").count());
    });
    let accesses = accesses(&btf);
    eprintln!("{} relocations", accesses.len());
    criterion.bench_function("resolve all relocations", |b| {
        b.iter(|| {
            let mut resolver = Resolver::new(&btf, Target::new(&btf));
            let resolve = |(root, access): &(TypeId, String)| {
                resolver.resolve(*root, access, CoreKind::FieldByteOffset).is_ok()
            };
            accesses.iter().map(resolve).filter(|&ok| ok).count()
        });
    });
    criterion.bench_function("c header", |b| b.iter(|| c::header(&btf)));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = kernel
}
criterion_main!(benches);
