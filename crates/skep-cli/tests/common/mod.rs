//! Runs the binary and compares what it says with files beside the tests.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part of this")]

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// What a run of the binary gave.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// The binary, to be run in the root of the repository, so that paths in its output are the same
/// on every machine.
pub fn skep() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.current_dir(skep_testing::repository());
    command
}

/// Runs the binary with these arguments.
pub fn run(args: &[&str]) -> Ran {
    run_with(args, b"")
}

/// Runs the binary with these arguments and this on its standard input.
pub fn run_with(args: &[&str], input: &[u8]) -> Ran {
    let mut child = skep()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // A command that does not read its input may be gone already.
    stdin.write_all(input).ok();
    drop(stdin);
    let output = child.wait_with_output().expect("the binary ends");
    Ran {
        code: output.status.code().expect("the binary was not killed"),
        out: String::from_utf8(output.stdout).expect("stdout is text"),
        err: String::from_utf8(output.stderr).expect("stderr is text"),
    }
}

/// Runs the binary with words that are split at blanks; it must succeed without a word of error.
pub fn ok(words: &str) -> String {
    let ran = run(&words.split(' ').collect::<Vec<_>>());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{words}: {}", ran.out);
    ran.out
}

/// As [`ok`], for commands that print one line of JSON.
pub fn row(words: &str) -> serde_json::Value {
    let rows = json(&ok(&format!("{words} --json")));
    let [row] = rows.try_into().unwrap_or_else(|rows| panic!("{words}: {rows:?}"));
    row
}

/// Runs the binary with words that are split at blanks; it must fail with this code. What it says.
pub fn fails(code: i32, words: &str) -> String {
    let ran = run(&words.split(' ').collect::<Vec<_>>());
    assert_eq!(ran.code, code, "{words}: {}{}", ran.out, ran.err);
    ran.err
}

/// Asks a process to end, as Ctrl-C does.
pub fn interrupt(child: &Child) {
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill starts").success());
}

/// Compares `got` with `tests/golden/NAME`; `BLESS=1` writes it instead.
pub fn golden(name: &str, got: &str) {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect();
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(path.parent().expect("the file is in a directory"))
            .expect("the directory can be made");
        fs::write(&path, got).expect("the golden file can be written");
        return;
    }
    let want = fs::read_to_string(&path).unwrap_or_default();
    if want == got {
        return;
    }
    let (mut w, mut g) = (want.lines(), got.lines());
    for line in 1.. {
        match (w.next(), g.next()) {
            (None, None) => panic!("{name}: only line endings differ (BLESS=1 accepts)"),
            (w, g) if w != g => {
                let show = |l: Option<&str>| l.map_or("<end>".into(), |l| format!("{l:?}"));
                panic!(
                    "{name}, line {line}:\n want {}\n got  {}\nBLESS=1 accepts",
                    show(w),
                    show(g)
                );
            }
            _ => {}
        }
    }
}

/// The lines of JSON output.
pub fn json(out: &str) -> Vec<serde_json::Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    out.lines().map(parse).collect()
}

/// A file for one test; it is removed when dropped.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("skep-test-{}-{name}", std::process::id())))
    }

    pub fn with(name: &str, bytes: &[u8]) -> Self {
        let file = Self::new(name);
        fs::write(&file.0, bytes).expect("the temporary directory can be written");
        file
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("the temporary directory has a plain name")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}
