//! What the management commands say of objects that the test itself loaded.

mod common;

use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{json, ok, run, skep};
use serde_json::Value;
use skep::{
    Engine, Loaded, Object,
    kernel::{
        inspect::{self, Kind},
        probe,
    },
};
use skep_testing::{has_tool, require_kernel, sandbox, veth};

/// The example object in the kernel. One test at a time has it, so that its names are unique.
struct Held {
    loaded: Loaded,
    _alone: MutexGuard<'static, ()>,
}

fn load() -> Held {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let object = Object::open(skep_testing::repository().join("examples/classify.bpf.o"));
    let engine = Engine::kernel().expect("bpf(2) works");
    let loaded = object.expect("the example parses").load(&engine).expect("the example loads");
    Held { loaded, _alone: alone }
}

/// Ids of this process's own objects of a kind.
fn own(kind: Kind) -> Vec<u32> {
    let me = std::process::id();
    let mine = |o: &inspect::Owner| o.pid == me;
    let all = inspect::owners();
    all.iter()
        .filter(|((k, _), o)| *k == kind && o.iter().any(mine))
        .map(|((_, i), _)| *i)
        .collect()
}

fn program_named(name: &str) -> u32 {
    let is =
        |id: &u32| inspect::program(*id).expect("ids can be asked").is_some_and(|p| p.name == name);
    own(Kind::Program).into_iter().find(is).expect("the program is loaded")
}

fn map_named(name: &str) -> u32 {
    let is =
        |id: &u32| inspect::map(*id).expect("ids can be asked").is_some_and(|m| m.name == name);
    own(Kind::Map).into_iter().find(is).expect("the map is loaded")
}

#[test]
fn a_program_is_listed_until_it_is_unloaded() {
    require_kernel!(probe::can_load().into_result());
    let loaded = load();
    let id = program_named("classify");
    let listed = |out: &str| json(out).iter().any(|row| row["id"] == id);
    assert!(listed(&ok("prog list --json")));
    let [row] = json(&ok(&format!("prog show id {id} --json"))).try_into().unwrap();
    let row: Value = row;
    assert_eq!((&row["name"], &row["type"]), (&"classify".into(), &"xdp".into()));
    assert!(row["pids"].as_array().unwrap().iter().any(|p| p["pid"] == std::process::id()));
    let text = ok(&format!("prog show id {id}"));
    assert!(text.starts_with(&format!("{id}: xdp  name classify  tag ")), "{text}");
    assert!(text.contains("\n\tloaded_at 20") && text.contains("  map_ids "), "{text}");
    let tag = row["tag"].as_str().unwrap();
    assert!(listed(&ok(&format!("prog show tag {tag} --json"))));
    let Held { loaded, _alone } = loaded;
    drop(loaded);
    let ran = run(&["prog", "show", "id", &id.to_string()]);
    assert_eq!((ran.code, ran.err), (1, format!("error: no program has the id {id}\n")));
    assert!(!listed(&ok("prog list --json")));
}

#[test]
fn instructions_are_shown_with_names_and_source() {
    require_kernel!(probe::can_load().into_result());
    let _loaded = load();
    let id = program_named("classify");
    let text = ok(&format!("prog dump xlated id {id}"));
    assert!(text.starts_with("classify:\n; "), "{text}");
    assert!(text.contains("  # map ") && text.contains("= map[id:"), "{text}");
    assert!(text.contains("_map_update_elem#"), "{text}");
    assert!(text.contains(") exit\n"), "{text}");
    let bare = ok(&format!("prog dump xlated id {id} --no-source"));
    assert!(!bare.contains("\n; ") && bare.lines().count() < text.lines().count());
    let rows = json(&ok(&format!("prog dump xlated id {id} --json")));
    assert!(rows.iter().all(|r| r["pc"].is_u64() && r["disasm"].is_string()));
    assert!(rows.iter().any(|r| r["line"].as_u64() > Some(0)));
}

/// A map of the test's own without types.
fn hash(name: &str) -> skep::kernel::Map {
    let def = skep::abi::MapDef {
        map_type: skep::abi::MapType::HASH,
        key_size: 4,
        value_size: 8,
        max_entries: 8,
        flags: skep::abi::MapFlags(0),
        extra: 0,
        numa_node: 0,
    };
    skep::kernel::Map::create(name, def, None, None).expect("maps can be made")
}

#[test]
fn entries_are_stored_found_and_removed() {
    require_kernel!(probe::can_load().into_result());
    let map = hash("manage_hash");
    let id = map.id().unwrap();
    let [row] = json(&ok(&format!("map show id {id} --json"))).try_into().unwrap();
    let row: Value = row;
    assert_eq!((&row["type"], &row["name"]), (&"hash".into(), &"manage_hash".into()));
    assert_eq!((&row["bytes_key"], &row["bytes_value"]), (&4.into(), &8.into()));
    ok(&format!("map update id {id} key 1 0 0 0 value 5 0 0 0 0 0 0 0"));
    ok(&format!("map update id {id} key 2 value 600 noexist"));
    assert_eq!(map.lookup_vec(&2u32.to_ne_bytes()).unwrap(), Some(600u64.to_ne_bytes().to_vec()));
    let again = run(&["map", "update", "id", &id.to_string(), "key", "2", "value", "1", "noexist"]);
    assert_eq!(again.code, 1, "{}", again.err);
    assert_eq!(ok(&format!("map lookup id {id} key hex 01000000")), "key: 1  value: 5\n");
    let text = ok(&format!("map dump id {id}"));
    assert!(
        text.contains("key: 2  value: 600\n") && text.ends_with("Found 2 elements\n"),
        "{text}"
    );
    assert_eq!(json(&ok(&format!("map dump id {id} --json"))).len(), 2);
    ok(&format!("map delete id {id} key 1"));
    assert_eq!(ok(&format!("map getnext id {id}")), "key: None\nnext key: 2\n");
    let gone = run(&["map", "lookup", "id", &id.to_string(), "key", "1"]);
    assert_eq!((gone.code, gone.out.as_str()), (1, "key: 1  not found\n"));
    let wrong = run(&["map", "lookup", "id", &id.to_string(), "key", "1", "2"]);
    assert_eq!(wrong.code, 2, "{}", wrong.err);
}

#[test]
fn entries_are_decoded_by_their_types() {
    require_kernel!(probe::can_load().into_result());
    let loaded = load();
    // Keys of array maps must be plain numbers for the kernel to keep types, so this is a hash.
    let flows = loaded.loaded.map("flows").unwrap();
    let (key, value) = (vec![0; flows.def().key_size as usize], vec![0; flows.value_bytes()]);
    flows.update(&key, &value, skep::abi::UpdateMode::Any).unwrap();
    let id = map_named("flows");
    let [row] = json(&ok(&format!("map dump id {id} --json"))).try_into().unwrap();
    let row: Value = row;
    assert!(row["key"].is_object() && row["value"]["packets"] == 0, "{row}");
    assert!(ok(&format!("map dump id {id}")).contains("packets=0 bytes=0"));
    assert!(ok("btf list --json").lines().count() >= 1);
}

#[test]
fn a_link_is_listed_while_it_is_held() {
    require_kernel!(probe::prog_type(skep::abi::ProgType::RAW_TRACEPOINT).into_result());
    let slots = skep::isa::asm::assemble("r0 = 0\nexit").unwrap();
    let new =
        skep::kernel::ProgramLoad::new("manage_link", skep::abi::ProgType::RAW_TRACEPOINT, &slots);
    let program = skep::kernel::Program::load(&new).unwrap();
    let link = skep::kernel::link::attach_raw_tracepoint(&program, "sys_enter").unwrap();
    let prog_id = program.info().unwrap().id;
    let rows = json(&ok("link list --json"));
    let row = rows.iter().find(|r| r["prog_id"] == prog_id).expect("the link is listed");
    assert_eq!((&row["type"], &row["tp_name"]), (&"raw_tracepoint".into(), &"sys_enter".into()));
    let id = row["id"].to_string();
    assert!(ok(&format!("link show id {id}")).contains("\n\ttp 'sys_enter'"));
    drop(link);
    assert_eq!(run(&["link", "show", "id", &id]).code, 1);
}

/// `bpftool`'s answer for one object.
fn bpftool(kind: &str, id: u32) -> Value {
    let mut command = std::process::Command::new("bpftool");
    let output = command.args(["-j", kind, "show", "id", &id.to_string()]).output();
    let output = output.expect("bpftool starts");
    serde_json::from_slice(&output.stdout).expect("bpftool prints JSON")
}

#[test]
fn the_same_fields_as_bpftool() {
    require_kernel!(probe::can_load().into_result());
    if !has_tool("bpftool") {
        skep_testing::skip(skep_testing::Skip::Tool, "manage", "bpftool is not installed");
        return;
    }
    let _loaded = load();
    let objects = [("prog", program_named("classify")), ("map", map_named("protocols"))];
    for (kind, id) in objects {
        let theirs = bpftool(kind, id);
        let [ours] = json(&ok(&format!("{kind} show id {id} --json"))).try_into().unwrap();
        let ours: Value = ours;
        let mut same = 0;
        for (key, value) in theirs.as_object().unwrap() {
            // Who holds it changes: bpftool holds it too while it asks. Seconds are rounded.
            if key == "pids" || key == "loaded_at" {
                continue;
            }
            assert_eq!(ours.get(key), Some(value), "{kind} {key}: {ours} {theirs}");
            same += 1;
        }
        assert!(same >= 8, "{theirs}");
        let close = |v: &Value| v["loaded_at"].as_i64().unwrap_or(0);
        assert!((close(&ours) - close(&theirs)).abs() <= 1, "{ours} {theirs}");
    }
}

/// As a user without any rights.
fn as_nobody(args: &[&str]) -> Option<(i32, String, String)> {
    use std::os::unix::process::CommandExt as _;
    let output = skep().args(args).uid(65_534).gid(65_534).output().ok()?;
    let text = |bytes| String::from_utf8(bytes).expect("output is text");
    Some((output.status.code()?, text(output.stdout), text(output.stderr)))
}

#[test]
fn without_rights_the_error_says_what_is_missing() {
    let Some((code, out, err)) = as_nobody(&["prog", "list"]) else {
        require_kernel!(Err::<(), _>("this process cannot become another user".to_owned()));
        return;
    };
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    assert!(err.contains("listing programs") && err.contains("CAP_SYS_ADMIN"), "{err}");
    assert!(err.contains("--engine embedded"), "{err}");
}

#[test]
fn no_command_works_without_rights_or_fails_without_a_hint() {
    let commands = [
        "prog show",
        "prog show id 1",
        "prog dump xlated id 1",
        "prog dump jited id 1",
        "prog load examples/classify.bpf.o /sys/fs/bpf/never",
        "prog loadall examples/classify.bpf.o /sys/fs/bpf/never",
        "prog attach id 1 flow_dissector",
        "prog detach id 1 flow_dissector",
        "prog run id 1",
        "prog profile id 1 duration 1ms",
        "prog tracelog --duration 1ms",
        "prog tracelog stderr id 1",
        "prog pin id 1 /sys/fs/bpf/never",
        "map show",
        "map dump id 1",
        "map lookup id 1 key 1",
        "map update id 1 key 1 value 1",
        "map delete id 1 key 1",
        "map getnext id 1",
        "map create /sys/fs/bpf/never type hash key 4 value 4 entries 1",
        "map event_pipe id 1 --duration 1ms",
        "map peek id 1",
        "map push id 1 value 1",
        "map pop id 1",
        "map freeze id 1",
        "link show",
        "link detach id 1",
        "iter pin tests/data/objects/links.bpf.o /sys/fs/bpf/never",
        "perf show",
        "btf list",
        "btf dump id 1",
        "btf dump prog id 1",
        "btf dump map id 1",
        "top -n 1",
        "tree",
    ];
    for command in commands {
        let Some((code, _, err)) = as_nobody(&command.split(' ').collect::<Vec<_>>()) else {
            require_kernel!(Err::<(), _>("this process cannot become another user".to_owned()));
            return;
        };
        assert_eq!(code, 3, "{command}: {err}");
        assert!(err.contains("\nhint: "), "{command}: {err}");
    }
}

#[test]
fn wrong_words_are_wrong_usage() {
    for words in [
        "prog show nonsense 1",
        "map show id",
        "link show tag 00",
        "map lookup",
        "prog run",
        "prog profile",
        "prog tracelog sideways",
        "prog load object",
        "map create /sys/fs/bpf/never type hash colour red",
        "map create /sys/fs/bpf/never type nothing",
        "map event_pipe id 1 --lines many",
        "iter pin object",
        "top --sort colour",
        "tree --pid me",
        "perf show id 1",
    ] {
        assert_eq!(run(&words.split(' ').collect::<Vec<_>>()).code, 2, "{words}");
    }
}

#[test]
fn objects_are_pinned_and_links_detached() {
    require_kernel!(probe::can_load().into_result());
    let done = sandbox(|| {
        veth("left", "right")?;
        let map = hash("manage_pin");
        let id = map.id().unwrap();
        ok(&format!("map pin id {id} /sys/fs/bpf/manage_map"));
        drop(map);
        let [row] = json(&ok("map show pinned /sys/fs/bpf/manage_map --json")).try_into().unwrap();
        let row: Value = row;
        assert_eq!((&row["id"], &row["pinned"][0]), (&id.into(), &"/sys/fs/bpf/manage_map".into()));
        assert_eq!(run(&["prog", "show", "pinned", "/sys/fs/bpf/manage_map"]).code, 1);

        let slots = skep::isa::asm::assemble("r0 = 2\nexit").unwrap();
        let new = skep::kernel::ProgramLoad::new("manage_xdp", skep::abi::ProgType::XDP, &slots);
        let program = skep::kernel::Program::load(&new).unwrap();
        let left = skep::ifindex("left").unwrap();
        let link = skep::kernel::link::attach_xdp(&program, left, Default::default()).unwrap();
        let prog_id = program.info().unwrap().id;
        let shown = || {
            let rows = json(&ok("link list --json"));
            rows.into_iter().find(|r| r["prog_id"] == prog_id).expect("the link is listed")
        };
        assert_eq!((&shown()["type"], &shown()["ifindex"]), (&"xdp".into(), &left.into()));
        ok(&format!("link detach id {}", shown()["id"]));
        assert_eq!(shown()["ifindex"], 0, "the link is on no device any more");
        drop(link);
        Ok::<_, String>(())
    });
    require_kernel!(done.and_then(|inside| inside));
}
