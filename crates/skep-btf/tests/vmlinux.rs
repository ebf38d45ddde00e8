//! The running kernel's BTF, where there is one.
use skep_btf::{Btf, KindTag};

/// `None`, counted as skipped, on kernels without BTF.
fn vmlinux(test: &str) -> Option<Vec<u8>> {
    match std::fs::read("/sys/kernel/btf/vmlinux") {
        Ok(bytes) => Some(bytes),
        Err(e) => {
            skep_testing::skip(
                skep_testing::Skip::Kernel,
                test,
                &format!("no BTF of the running kernel: {e}"),
            );
            None
        }
    }
}

#[test]
fn the_kernel_parses_and_writes_back_the_same() {
    let Some(bytes) = vmlinux("the_kernel_parses_and_writes_back_the_same") else { return };
    let btf = Btf::parse(&bytes).expect("the kernel's own BTF");
    assert_eq!(Btf::parse(&btf.to_bytes()).expect("own bytes").to_bytes(), btf.to_bytes());
    let task = btf.find(KindTag::Struct, "task_struct").next().expect("every kernel has it");
    assert!(btf.size_of(task).expect("a structure") > 1000);
    for id in btf.ids() {
        assert!(btf.get(id).is_some());
    }
}
