//! The command line: which commands exist.

use std::io::Write;

use crate::cmd;

/// eBPF objects on the Linux kernel or in user space, with the same command.
#[derive(Debug, clap::Parser)]
#[command(
    name = "skep",
    version,
    after_help = "Exit codes: 0 done, 1 the program or input is at fault, 2 wrong usage, \
                  3 this system cannot, 130 interrupted after a clean detach."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Run(Box<cmd::run::Run>),
    TestRun(cmd::test_run::TestRun),
    Inspect(cmd::inspect::Inspect),
    Doctor(cmd::doctor::Doctor),
    #[command(subcommand)]
    Prog(cmd::manage::prog::Prog),
    #[command(subcommand)]
    Map(cmd::manage::map::MapCommand),
    #[command(subcommand)]
    Link(cmd::manage::link::Link),
    #[command(subcommand)]
    Iter(cmd::manage::iter::Iter),
    #[command(subcommand)]
    Perf(cmd::manage::perf::Perf),
    #[command(subcommand)]
    Net(cmd::manage::net::Net),
    #[command(subcommand)]
    Cgroup(cmd::manage::net::cgroup::Cgroup),
    Top(cmd::top::Top),
    Tree(cmd::tree::Tree),
    #[command(subcommand)]
    Gen(cmd::generate::Gen),
    Disasm(cmd::disasm::Disasm),
    Asm(cmd::asm::Asm),
    #[command(subcommand)]
    Btf(cmd::btf::Btf),
    Cbpf(cmd::cbpf::Cbpf),
    Plugin(cmd::plugin::Plugin),
    Completions(cmd::completions::Completions),
    Man(cmd::man::Man),
}

impl Command {
    /// Runs the command; the number is the exit code.
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        match self {
            Self::Run(c) => c.run(out),
            Self::TestRun(c) => c.run(out),
            Self::Inspect(c) => c.run(out),
            Self::Doctor(c) => c.run(out),
            Self::Prog(c) => c.run(out),
            Self::Map(c) => c.run(out),
            Self::Link(c) => c.run(out),
            Self::Iter(c) => c.run(),
            Self::Perf(c) => c.run(out),
            Self::Net(c) => c.run(out),
            Self::Cgroup(c) => c.run(out),
            Self::Top(c) => c.run(out),
            Self::Tree(c) => c.run(out),
            Self::Gen(c) => c.run(out),
            Self::Disasm(c) => c.run(out),
            Self::Asm(c) => c.run(out),
            Self::Btf(c) => c.run(out),
            Self::Cbpf(c) => c.run(out),
            Self::Plugin(c) => c.run(out),
            Self::Completions(c) => c.run(out),
            Self::Man(c) => c.run(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_accepts_the_definition() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
