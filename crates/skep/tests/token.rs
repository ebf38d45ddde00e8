//! The kernel engine by delegated rights.

use skep::{Engine, Object, TestInput};
use skep_testing::{Side, Skip, skip, with_delegated_bpffs};

#[test]
fn the_engine_finds_what_is_delegated() {
    match with_delegated_bpffs("the_engine_finds_what_is_delegated") {
        Ok(Side::Inside(bpffs)) => {
            if let Err(e) = Engine::kernel_by_token(&bpffs) {
                return skip(Skip::Kernel, "token::the_engine_finds", &e.reason);
            }
            let engine = Engine::auto();
            assert_eq!(engine.name(), "kernel", "{}", engine.why());
            assert!(engine.why().contains("delegates"), "{}", engine.why());
            let path = skep_testing::repository().join("examples/classify.bpf.o");
            let object = Object::open(path).expect("the object opens");
            let loaded = object.load(&engine).expect("the token is the right");
            let program = loaded.program("classify").expect("it is loaded");
            let run = program.test_run(TestInput::packet(&[0; 60])).expect("it runs");
            assert_eq!(run.retval, 2, "XDP_PASS");
        }
        Ok(Side::Outside) => {}
        Err(reason) => skip(Skip::Kernel, "token::the_engine_finds_what_is_delegated", &reason),
    }
    let error = Engine::kernel_by_token("/no/such/place".as_ref()).expect_err("there is none");
    assert!(error.reason.contains("no BPF token of /no/such/place"), "{error}");
}
