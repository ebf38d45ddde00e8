//! `--help` of every command, word by word.

mod common;

use common::{golden, run};

const COMMANDS: &[&[&str]] = &[
    &[],
    &["run"],
    &["test-run"],
    &["inspect"],
    &["doctor"],
    &["prog"],
    &["prog", "show"],
    &["prog", "dump"],
    &["prog", "pin"],
    &["prog", "load"],
    &["prog", "loadall"],
    &["prog", "attach"],
    &["prog", "detach"],
    &["prog", "run"],
    &["prog", "profile"],
    &["prog", "tracelog"],
    &["map"],
    &["map", "show"],
    &["map", "dump"],
    &["map", "lookup"],
    &["map", "update"],
    &["map", "delete"],
    &["map", "getnext"],
    &["map", "pin"],
    &["map", "create"],
    &["map", "event_pipe"],
    &["map", "peek"],
    &["map", "push"],
    &["map", "pop"],
    &["map", "enqueue"],
    &["map", "dequeue"],
    &["map", "freeze"],
    &["link"],
    &["link", "show"],
    &["link", "detach"],
    &["link", "pin"],
    &["iter"],
    &["iter", "pin"],
    &["perf"],
    &["perf", "show"],
    &["net"],
    &["net", "show"],
    &["net", "clean"],
    &["cgroup"],
    &["cgroup", "show"],
    &["cgroup", "tree"],
    &["top"],
    &["tree"],
    &["link", "objects"],
    &["gen"],
    &["gen", "object"],
    &["disasm"],
    &["asm"],
    &["btf"],
    &["btf", "dump"],
    &["btf", "list"],
    &["cbpf"],
    &["plugin"],
    &["completions"],
    &["man"],
];

#[test]
fn help_of_every_command() {
    for command in COMMANDS {
        let ran = run(&[command, &["--help"][..]].concat());
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{command:?}");
        let name = if command.is_empty() { "skep".into() } else { command.join("-") };
        golden(&format!("help/{name}.txt"), &ran.out);
    }
}

#[test]
fn the_list_above_is_complete() {
    let help = run(&["--help"]).out;
    let listed = help.lines().skip_while(|l| *l != "Commands:").skip(1);
    for line in listed.take_while(|l| !l.is_empty()) {
        let name = line.split_whitespace().next().expect("a command has a name");
        assert!(name == "help" || COMMANDS.iter().any(|c| c.first() == Some(&name)), "{name}");
    }
}

#[test]
fn version_completions_and_man_pages() {
    let version = run(&["--version"]);
    assert_eq!(version.out, format!("skep {}\n", env!("CARGO_PKG_VERSION")));
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]);
        assert_eq!(script.code, 0);
        assert!(script.out.contains("test-run"), "{shell}");
    }
    assert!(run(&["man"]).out.contains(".TH skep 1"));
    let dir = common::Scratch::new("man");
    assert_eq!(run(&["man", dir.path()]).code, 0);
    assert!(dir.0.join("skep-test-run.1").exists());
    std::fs::remove_dir_all(&dir.0).expect("the directory was made");
}
