//! What the hooks' tests saw on each kernel: `docs/support/hooks.txt`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::{Context as _, ensure};

use crate::{guest, test, tool};

const FILE: &str = "docs/support/hooks.txt";
const HEAD: &str = "# hook | kernel | what its test saw. Written by `cargo xtask support`.\n";

/// What a hook's test saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The event was counted; by which interface of the kernel the program was attached.
    Fired(String),
    /// The kernel refused, and why.
    Refused(String),
}

/// By hook.
pub(crate) type Hooks = BTreeMap<String, Seen>;

/// Adds a line that a test printed, if it is about a hook. What fired once is there, whatever
/// another test says.
pub(crate) fn add_line(hooks: &mut Hooks, line: &str) {
    let record = |line: &str| line.split_once(": ").map(|(h, t)| (h.to_owned(), t.to_owned()));
    if let Some((hook, by)) = line.strip_prefix("FIRED ").and_then(record) {
        hooks.insert(hook, Seen::Fired(by));
    } else if let Some((hook, why)) = line.strip_prefix("REFUSED ").and_then(record) {
        hooks.entry(hook).or_insert(Seen::Refused(why));
    }
}

/// By hook and kernel.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table(BTreeMap<(String, Kernel), Seen>);

/// `6.12`, ordered by its numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kernel(Vec<u32>);

impl Kernel {
    fn parse(name: &str) -> anyhow::Result<Self> {
        let numbers: Result<_, _> = name.split('.').map(str::parse).collect();
        numbers.map(Self).with_context(|| format!("'{name}' is no kernel version"))
    }

    fn name(&self) -> String {
        self.0.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
    }
}

impl Table {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut rows = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let parts: Vec<&str> = line.splitn(3, " | ").collect();
            let [hook, kernel, seen] = parts.as_slice() else {
                anyhow::bail!("{FILE}: '{line}' is no row");
            };
            let seen = match seen.split_once(": ") {
                Some(("fires", by)) => Seen::Fired(by.to_owned()),
                Some(("refused", why)) => Seen::Refused(why.to_owned()),
                _ => anyhow::bail!("{FILE}: '{line}' neither fires nor is refused"),
            };
            rows.insert(((*hook).to_owned(), Kernel::parse(kernel)?), seen);
        }
        Ok(Self(rows))
    }

    fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        for ((hook, kernel), seen) in &self.0 {
            let (what, detail) = match seen {
                Seen::Fired(by) => ("fires", by),
                Seen::Refused(why) => ("refused", why),
            };
            let _ = writeln!(text, "{hook} | {} | {what}: {detail}", kernel.name());
        }
        text
    }

    /// All that is known about a kernel is replaced: a run is of all tests.
    fn replace(&mut self, kernel: &Kernel, hooks: &Hooks) {
        self.0.retain(|(_, known), _| known != kernel);
        let rows = hooks.iter().map(|(hook, seen)| ((hook.clone(), kernel.clone()), seen.clone()));
        self.0.extend(rows);
    }

    /// As a table of Markdown, with the reasons below it.
    fn markdown(&self) -> String {
        let kernels: BTreeSet<&Kernel> = self.0.keys().map(|(_, kernel)| kernel).collect();
        let hooks: BTreeSet<&String> = self.0.keys().map(|(hook, _)| hook).collect();
        let names: Vec<String> = kernels.iter().map(|kernel| kernel.name()).collect();
        let mut text = format!("| hook | {} |\n", names.join(" | "));
        text += &format!("| --- |{}\n", " --- |".repeat(kernels.len()));
        let mut reasons: Vec<&str> = Vec::new();
        for hook in hooks {
            let _ = write!(text, "| {hook} |");
            for &kernel in &kernels {
                let cell = match self.0.get(&(hook.clone(), kernel.clone())) {
                    None => "not run".to_owned(),
                    Some(Seen::Fired(by)) if by == "link" => "fires".to_owned(),
                    Some(Seen::Fired(by)) => format!("fires, {by}"),
                    Some(Seen::Refused(why)) => {
                        let known = reasons.iter().position(|reason| reason == why);
                        let at = known.unwrap_or_else(|| {
                            reasons.push(why);
                            reasons.len() - 1
                        });
                        format!("no ({})", at + 1)
                    }
                };
                let _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
        text.push('\n');
        for (n, reason) in reasons.iter().enumerate() {
            let _ = writeln!(text, "{}. {reason}", n + 1);
        }
        text
    }
}

/// Runs the kernel engine's tests on this machine and under each known kernel (or those named;
/// `host` is this machine), and writes down what the hooks' tests saw. A hook whose test fails has
/// fired nowhere; what other tests failed is said at the end.
pub(crate) fn run(root: &Path, kernels: &[&str]) -> anyhow::Result<()> {
    let path = root.join(FILE);
    let mut table = read(root)?;
    let mut failed = Vec::new();
    let (hosts, guests): (Vec<&str>, Vec<&str>) = kernels.iter().partition(|name| **name == "host");
    if kernels.is_empty() || !hosts.is_empty() {
        let summary = test::run(root, &["-p", "skep-kernel"])?;
        let release = tool::output(std::process::Command::new("uname").arg("-r"))?;
        let name = release.split('.').take(2).collect::<Vec<_>>().join(".");
        table.replace(&Kernel::parse(&name)?, summary.hooks());
        fs::write(&path, table.text())?;
        failed.extend(summary.ensure_success().err().map(|_| name));
    }
    if kernels.is_empty() || !guests.is_empty() {
        for outcome in guest::run(root, &guests)? {
            println!("{outcome}");
            if let Some(summary) = outcome.summary() {
                table.replace(&Kernel::parse(outcome.kernel())?, summary.hooks());
                fs::write(&path, table.text())?;
            }
            failed.extend(outcome.ensure_success().err().map(|_| outcome.kernel().to_owned()));
        }
    }
    ensure!(failed.is_empty(), "tests failed under {}", failed.join(", "));
    Ok(())
}

fn read(root: &Path) -> anyhow::Result<Table> {
    let text =
        fs::read_to_string(root.join(FILE)).with_context(|| format!("cannot read {FILE}"))?;
    ensure!(text.starts_with(HEAD), "{FILE} does not begin with its head");
    Table::parse(&text)
}

/// The table of hooks and kernels, as Markdown.
pub(crate) fn markdown(root: &Path) -> anyhow::Result<String> {
    Ok(read(root)?.markdown())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(lines: &[&str]) -> Hooks {
        let mut hooks = Hooks::new();
        for line in lines {
            add_line(&mut hooks, line);
        }
        hooks
    }

    #[test]
    fn what_fired_once_is_there_and_a_run_replaces_what_was_known() {
        let seen = hooks(&[
            "FIRED kprobe: link",
            "REFUSED kprobe: EINVAL",
            "REFUSED xdp: no: device",
            "FIRED perf_event, clock: perf event",
            "test result: ok",
        ]);
        let fired = |by: &str| Seen::Fired(by.into());
        assert_eq!(seen["kprobe"], fired("link"));
        assert_eq!(seen["xdp"], Seen::Refused("no: device".into()));
        let mut table = Table::default();
        let (old, new) = (Kernel::parse("5.10").unwrap(), Kernel::parse("6.1").unwrap());
        assert!(old < new && Kernel::parse("6.12").unwrap() > new);
        table.replace(&new, &hooks(&["FIRED gone: link"]));
        table.replace(&new, &seen);
        table.replace(&old, &hooks(&["REFUSED kprobe: EINVAL", "REFUSED xdp: EINVAL"]));
        assert_eq!(Table::parse(&table.text()).unwrap(), table);
        assert_eq!(
            table.markdown().lines().collect::<Vec<_>>(),
            [
                "| hook | 5.10 | 6.1 |",
                "| --- | --- | --- |",
                "| kprobe | no (1) | fires |",
                "| perf_event, clock | not run | fires, perf event |",
                "| xdp | no (1) | no (2) |",
                "",
                "1. EINVAL",
                "2. no: device",
            ]
        );
    }

    #[test]
    fn a_file_that_is_no_table_is_refused() {
        for text in ["hook | 6.1", "hook | six | fires: link", "hook | 6.1 | maybe: yes"] {
            assert!(Table::parse(text).is_err(), "{text}");
        }
    }
}
