//! One boot.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::image::Image;

/// What the guest printed and how it ended.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) text: String,
    /// Whether something failed; `None` when the guest did not get to its end.
    pub(super) failed: Option<bool>,
    /// Why there is no end.
    pub(super) reason: String,
}

/// The line that the guest prints last.
const DONE: &str = "guest done failed=";

/// Boots `home/vmlinux` with `image` on a `processor` and waits for its end, at most `limit`.
pub(super) fn run(
    home: &Path,
    image: Image,
    processor: &str,
    limit: Duration,
) -> anyhow::Result<Output> {
    let archive = home.join("initramfs.cpio");
    let (console, out) = (home.join("console.txt"), home.join("output.txt"));
    fs::write(&archive, image.finish()).context("cannot write the initramfs")?;

    let mut qemu = Command::new("qemu-system-x86_64")
        .args(["-machine", "microvm,acpi=off,rtc=on", "-accel", "tcg,thread=multi"])
        .args(["-cpu", processor, "-smp", "1", "-m", "1024"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .arg("-chardev")
        .arg(format!("file,id=console,path={}", console.display()))
        .args(["-device", "isa-serial,chardev=console,index=0"])
        .arg("-chardev")
        .arg(format!("file,id=out,path={}", out.display()))
        .args(["-device", "isa-serial,chardev=out,index=1"])
        .arg("-kernel")
        .arg(home.join("vmlinux"))
        .arg("-initrd")
        .arg(&archive)
        .args(["-append", APPEND])
        .stdin(Stdio::null())
        .spawn()
        .context("cannot run qemu-system-x86_64")?;

    let start = Instant::now();
    let mut timed_out = false;
    while qemu.try_wait()?.is_none() {
        if start.elapsed() > limit {
            timed_out = true;
            qemu.kill()?;
            qemu.wait()?;
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }

    let text = String::from_utf8_lossy(&fs::read(&out)?).into_owned();
    let last = text.lines().rev().find_map(|line| line.strip_prefix(DONE));
    let failed = last.map(|value| value != "0");
    let console = String::from_utf8_lossy(&fs::read(&console)?).into_owned();
    let tail: Vec<&str> = console.lines().rev().take(20).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    let what = if timed_out { "the time limit was reached" } else { "the guest ended early" };
    Ok(Output { text, failed, reason: format!("{what}; its console ends\n{}", tail.join("\n")) })
}

/// `reboot=t` and `panic=-1` make every end a reboot, and `-no-reboot` makes that QEMU's end.
const APPEND: &str = "console=ttyS0 panic=-1 reboot=t tsc=unstable mitigations=off quiet \
                      loglevel=4 lsm=landlock,lockdown,yama,integrity,apparmor,bpf";
