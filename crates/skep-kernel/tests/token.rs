//! Loading by the rights that a mount of bpffs delegates to a user namespace.

use std::sync::Arc;

use skep_kernel::{LoadError, LoadOptions, Object, TestRunOptions, Token, probe};
use skep_object::ObjectSpec;
use skep_testing::{Side, require_kernel, sandbox, skip, with_delegated_bpffs};

const OBJECT: &[u8] = include_bytes!("../../../tests/data/objects/target.bpf.o");

fn load(token: Option<Arc<Token>>) -> Result<Object, LoadError> {
    let spec = ObjectSpec::parse(OBJECT).expect("it is well-formed");
    Object::load_spec(&spec, &LoadOptions { token, pin_root: None, ..LoadOptions::default() })
}

/// A kernel without tokens does not get to say so to who has no rights; one with tokens has none
/// for the machine's own namespace.
fn kernel_has_tokens() -> Result<(), String> {
    match sandbox(|| Token::create("/sys/fs/bpf".as_ref())) {
        Ok(Err(e)) if e.errno() == libc::EINVAL => Err(e.to_string()),
        _ => Ok(()),
    }
}

#[test]
fn a_token_is_the_right_to_load() {
    require_kernel!(kernel_has_tokens());
    let bpffs = match with_delegated_bpffs("a_token_is_the_right_to_load") {
        Ok(Side::Inside(bpffs)) => bpffs,
        Ok(Side::Outside) => return,
        Err(reason) => {
            skip(skep_testing::Skip::Kernel, "token::a_token_is_the_right_to_load", &reason);
            return;
        }
    };
    assert!(probe::can_load().into_result().is_err(), "root of this namespace may not");
    assert!(load(None).is_err(), "without a token");
    let token = Token::create(&bpffs).expect("everything is delegated");
    let object = load(Some(Arc::new(token))).expect("the token is the right");
    let program = object.program("entry").expect("it is loaded");
    assert!(object.btf().is_some(), "its types are loaded too");
    let options = TestRunOptions { data: &[0; 64], ..TestRunOptions::default() };
    assert_eq!(program.test_run(&options).expect("who has loaded it may run it").retval, 2);
}

#[test]
fn outside_of_a_user_namespace_there_are_no_tokens() {
    require_kernel!(probe::can_load().into_result());
    assert!(Token::create("/proc".as_ref()).is_err(), "it is no bpffs");
    let error = Token::create("/no/such/directory".as_ref()).expect_err("there is none");
    assert_eq!(error.errno(), libc::ENOENT);
}
