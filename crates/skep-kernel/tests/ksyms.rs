//! Functions and variables of the kernel and its modules, as a clang object refers to them.

use skep_kernel::{LoadError, LoadOptions, Object, TestRunOptions, probe, target};
use skep_object::ObjectSpec;
use skep_testing::require_kernel;

const OBJECT: &[u8] = include_bytes!("../../../tests/data/objects/ksyms.bpf.o");

const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

fn load(program: &str) -> Result<Object, LoadError> {
    let spec = ObjectSpec::parse(OBJECT).expect("it is well-formed");
    let programs = Some(vec![program.to_owned()]);
    let options = LoadOptions { programs, pin_root: None, ..LoadOptions::default() };
    Object::load_spec(&spec, &options)
}

fn run(object: &Object, program: &str) -> u32 {
    let options = TestRunOptions { data: &[0; 64], ..TestRunOptions::default() };
    object.program(program).expect("it is loaded").test_run(&options).expect("it runs").retval
}

/// Loads a program whose functions or variables older kernels do not have.
fn loaded(program: &str) -> Result<Object, String> {
    require_btf()?;
    load(program).map_err(|e| match e {
        LoadError::NoSymbol { .. } => e.to_string(),
        LoadError::Rejected { ref summary, .. } if lacks(summary) => e.to_string(),
        e => panic!("{e:?}"),
    })
}

/// A kernel may know a variable's type and not where it is, or take no addresses of functions.
fn lacks(summary: &str) -> bool {
    ["failed to find the address", "isn't KIND_VAR"].iter().any(|text| summary.contains(text))
}

fn require_btf() -> Result<(), String> {
    probe::can_load().into_result()?;
    target::vmlinux_btf().map(drop).map_err(|e| e.to_string())
}

/// As `require_kernel!`, for an answer that carries a value.
macro_rules! available {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(reason) => {
                let test = concat!(module_path!(), ":", line!());
                skep_testing::skip(skep_testing::Skip::Kernel, test, &reason);
                return;
            }
        }
    };
}

/// Connection tracking is built in here and a module there.
#[test]
fn a_function_is_called_wherever_it_lives() {
    let object = available!(loaded("lookup"));
    assert_eq!(run(&object, "lookup"), XDP_PASS);
    let value = object.map(".bss").expect("it has one").lookup_vec(&[0; 4]).expect("readable");
    let error = value.and_then(|bytes| bytes.first_chunk().copied()).map(i32::from_ne_bytes);
    assert_eq!(error, Some(-libc::ENOENT), "no such connection is known");
    eprintln!("module BTF: {}", std::path::Path::new("/sys/kernel/btf/nf_conntrack").exists());
}

#[test]
fn the_address_of_a_function_is_not_null() {
    let object = available!(loaded("address"));
    let there = target::kernel_symbols(&["bpf_ct_set_nat_info"]).expect("kallsyms is readable");
    let want = if there.is_empty() { XDP_PASS } else { XDP_TX };
    assert_eq!(run(&object, "address"), want);
}

#[test]
fn weak_functions_that_are_not_there_or_different_are_left_out() {
    let object = available!(loaded("weak"));
    assert_eq!(run(&object, "weak"), XDP_TX);
}

#[test]
fn a_variable_is_read_by_its_type() {
    let object = available!(loaded("variable"));
    assert!([XDP_PASS, XDP_TX].contains(&run(&object, "variable")));
}

#[test]
fn declarations_that_are_not_the_kernels_are_shown_beside_it() {
    require_kernel!(require_btf());
    for (program, want) in [
        ("wrong_variable", "variable 'runqueues' as `const int`, which is `struct rq`"),
        (
            "wrong_function",
            "function 'bpf_rcu_read_unlock___wrong' as `void (int)`, which is `void (void)`",
        ),
    ] {
        let error = load(program).expect_err("the kernel's is another");
        // Not every kernel has them.
        if !matches!(error, LoadError::NoSymbol { .. }) {
            let want = format!("program '{program}' refers to {want} in this kernel");
            assert_eq!(error.to_string(), want);
        }
    }
}
