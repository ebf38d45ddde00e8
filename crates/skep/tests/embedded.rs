//! The library on the embedded engine, as its users see it.

use skep::{Attach, Blame, Engine, Loaded, MapError, Object, TestInput};

fn object(name: &str) -> Object {
    let path = skep_testing::repository().join(format!("examples/{name}.bpf.o"));
    Object::open(path).expect("the example opens")
}

fn load(object: Object) -> Loaded {
    object.load(&Engine::embedded()).expect("the example loads")
}

#[test]
fn variables_are_read_and_set_before_and_after_the_load() {
    let mut composition = object("composition");
    assert_eq!(composition.variable::<u64>("smallest"), Ok(0xffff));
    composition.set_variable("smallest", 70u64).expect("the variable is there");
    composition.set_variable_text("weights", "2,20").expect("the text fits the type");
    assert!(composition.set_variable("smallest", 70u32).is_err(), "the size differs");
    let loaded = load(composition);
    let frame = [0; 64];
    for _ in 0..2 {
        let program = loaded.program("composition").expect("it is loaded");
        program.run_on_frame(&frame).expect("it runs");
    }
    assert_eq!(loaded.variable::<u64>("packets").expect("it is there"), 2);
    assert_eq!(loaded.variable::<u64>("smallest").expect("it is there"), 64);
    assert_eq!(loaded.variable::<u64>("weighted").expect("it is there"), 2 * 2 * 64);
    loaded.set_variable("packets", 100u64).expect(".bss can be written");
    assert_eq!(loaded.variable::<u64>("packets").expect("it is there"), 100);
    assert_eq!(loaded.variable::<u64>("largest").expect("it is there"), 64, "its neighbour stays");
    assert!(loaded.set_variable("drop_odd_sums", 1u8).is_err(), ".rodata is frozen");
}

#[test]
fn maps_are_read_and_written_by_type() {
    let loaded = load(object("legacy"));
    let sources = loaded.map("sources").expect("the map is there");
    assert_eq!(sources.get::<u32, u64>(&1).expect("sizes fit"), None);
    sources.set(&1u32, &7u64).expect("there is room");
    assert_eq!(sources.get::<u32, u64>(&1).expect("sizes fit"), Some(7));
    assert_eq!(sources.keys().expect("hashes list keys").len(), 1);
    sources.delete(&1u32.to_ne_bytes()).expect("the entry is there");
    assert!(sources.entries().expect("hashes list entries").is_empty());
    let e = sources.get::<u32, u32>(&1).expect_err("the value is larger");
    assert!(matches!(e, MapError::Size { want: 8, got: 4, .. }), "{e}");
}

#[test]
fn per_cpu_values_come_one_by_one() {
    let loaded = load(object("classify"));
    loaded.program("classify").expect("it is loaded").run_on_frame(&[0; 60]).expect("it runs");
    let map = loaded.map("protocols_percpu").expect("the map is there");
    let cpus = map.get_per_cpu::<u32, [u8; 16]>(&0).expect("sizes fit");
    assert!(!cpus.is_empty());
    assert_eq!(cpus.iter().filter(|c| c.first() == Some(&1)).count(), 1, "one CPU ran it");
}

#[test]
fn names_that_are_not_there_are_answered_with_what_is_near() {
    let mut classify = object("classify");
    let e = classify.select(&["classfy"]).expect_err("there is no such program");
    assert_eq!(e.to_string(), "no program is called `classfy`; did you mean `classify`?");
    let e = classify.resize_map("flow", 1).expect_err("there is no such map");
    assert_eq!(e.to_string(), "no map is called `flow`; did you mean `flows`?");
    let e = classify.resize_map(".bss", 1).expect_err("its size is its variables'");
    assert!(e.to_string().contains("fixed"), "{e}");
}

#[test]
fn what_may_be_tail_called_is_known_and_kept_by_a_selection() {
    let mut composition = object("composition");
    assert_eq!(composition.tail_called().len(), 2);
    composition.select(&["composition"]).expect("the program is there");
    assert_eq!(load(composition).programs().len(), 3);
}

#[test]
fn optional_programs_are_loaded_when_selected() {
    assert!(load(object("rewrite")).program("rewrite_tcx").is_err());
    let mut rewrite = object("rewrite");
    rewrite.select(&["rewrite_tcx"]).expect("the program is there");
    let loaded = load(rewrite);
    assert!(loaded.program("rewrite_tcx").is_ok() && loaded.program("rewrite").is_err());
}

#[test]
fn programs_do_not_attach_and_short_frames_are_refused() {
    let loaded = load(object("classify"));
    let program = loaded.program("classify").expect("it is loaded");
    let e = program.attach(Attach::Section).expect_err("there are no hooks");
    assert!(matches!(e.blame(), Blame::System(_)), "{e}");
    let e = program.test_run(TestInput::packet(&[0; 13])).expect_err("too short");
    assert!(e.to_string().contains("classify"), "{e}");
}

#[test]
fn what_only_the_kernel_has_is_a_note_and_then_an_error() {
    let mut spec = object("classify").into_spec();
    let mut programs = spec.programs.iter_mut();
    let program = programs.find(|p| p.name == "classify").expect("it has the program");
    // Calls get_stackid for packets of queue 1.
    let text = "r6 = *(u32 *)(r1 + 16)\nif r6 == 0 goto +1\ncall 27\nr0 = 2\nexit";
    program.insns = skep::isa::asm::assemble(text).expect("it assembles");
    program.relocs.clear();
    program.core_relos.clear();
    program.line_info.clear();
    program.subprogs.truncate(1);
    program.subprogs[0].len = 5;
    let bytes = skep::spec::write::ObjectWriter::new(&spec).to_bytes().expect("it is an object");
    let loaded = load(Object::parse("stackid", &bytes).expect("it opens"));
    let note = "program classify: not in the embedded engine, an error when reached: \
                helper get_stackid (number 27)";
    assert_eq!(loaded.notices(), [note]);
    let program = loaded.program("classify").expect("it is loaded");
    let frame = [0; 60];
    assert_eq!(program.run_on_frame(&frame).expect("the call is not reached").retval, 2);
    let words = [0_u32, 60, 0, 1, 1, 0];
    let ctx: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let e = program.test_run(TestInput { data: &frame, ctx: &ctx, repeat: 1 }).expect_err("it is");
    assert!(e.to_string().ends_with("number 27) is not in the embedded engine"), "{e}");
    assert!(matches!(e.blame(), Blame::System(_)), "the kernel may have it");
}
